//! [`Ahead`]: reading ahead of a scan, on disks that take their time.
//!
//! A scan that waits for one leaf after the other waits a whole answer of the disk for each. Once it
//! had to wait twice, it asks for the leaves that come next, too: twice as many each time, up to what
//! [`Options::readahead_bytes`](crate::Options::readahead_bytes) allows and the disk can serve at
//! once. All of that happens where a page is missing; a scan of what is in memory never comes here.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::pending::Pending;
use crate::cache::Handle;
use crate::disk::overlapping;
use crate::error::Result;
use crate::format::PagePointer;
use crate::snapshot::Direction;
use crate::tree::ahead::Upcoming;
use crate::tree::pages::{Expect, Pages};

enum Page {
    UnderWay(Pending<Result<Handle>>),
    /// Kept in memory until the scan has come past it.
    Here(Handle),
}

/// What was asked for ahead of a scan in one direction, in the order of the scan.
pub(super) struct Ahead {
    direction: Direction,
    pages: VecDeque<(PagePointer, Page)>,
    /// How often the scan had to wait.
    waits: u32,
    /// What it waits for now.
    wanted: Option<PagePointer>,
}

impl Ahead {
    /// Takes the one that there is, if the scan goes in the same direction still.
    pub(super) fn of(before: &mut Option<Box<Self>>, direction: Direction) -> Box<Self> {
        let same = before.take_if(|before| before.direction == direction);
        same.unwrap_or_else(|| {
            Box::new(Self {
                direction,
                pages: VecDeque::new(),
                waits: 0,
                wanted: None,
            })
        })
    }

    /// Waits for a page that the scan needs. `find` finds what it will need next.
    pub(super) fn poll_page(
        &mut self,
        pages: &Arc<Pages>,
        (pointer, expect): (PagePointer, Expect),
        find: impl FnOnce(&mut Upcoming),
        context: &mut Context<'_>,
    ) -> Poll<Result<Handle>> {
        if self.wanted != Some(pointer) {
            self.want(pages, (pointer, expect), find);
        }
        let mut at = 0;
        while let Some((held, page)) = self.pages.get_mut(at) {
            at += 1;
            let Page::UnderWay(loading) = page else {
                continue;
            };
            match Pin::new(loading).poll(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(handle)) => *page = Page::Here(handle),
                Poll::Ready(Err(error)) => {
                    let wanted = *held == pointer;
                    at -= 1;
                    self.pages.remove(at);
                    if wanted {
                        self.wanted = None;
                        return Poll::Ready(Err(error));
                    }
                    // Whoever needs it will be told.
                }
            }
        }
        let found = self.pages.iter().position(|(held, _)| *held == pointer);
        match found.and_then(|at| self.pages.get(at)) {
            Some((_, Page::Here(handle))) => {
                self.wanted = None;
                Poll::Ready(Ok(handle.clone()))
            }
            _ => Poll::Pending,
        }
    }

    /// Asks for a page and, if the scan waited before, for those after it.
    fn want(
        &mut self,
        pages: &Arc<Pages>,
        (pointer, expect): (PagePointer, Expect),
        find: impl FnOnce(&mut Upcoming),
    ) {
        self.wanted = Some(pointer);
        match self.pages.iter().position(|(held, _)| *held == pointer) {
            // The scan has come past what is before it.
            Some(at) => drop(self.pages.drain(..at)),
            None => {
                (self.pages).retain(|(_, page)| matches!(page, Page::UnderWay(_)));
                self.push_front(pages, pointer, expect);
            }
        }
        self.waits = self.waits.saturating_add(1);
        if self.waits == 1 {
            return;
        }
        let bytes: usize = self
            .pages
            .iter()
            .map(|(held, _)| held.length as usize)
            .sum();
        let doubled = (pointer.length as usize) << self.waits.min(16);
        let room = doubled
            .min(pages.readahead.scan_bytes)
            .saturating_sub(bytes);
        let at_once = pages.disk.properties().concurrency;
        let under_way = |(_, page): &&(PagePointer, Page)| matches!(page, Page::UnderWay(_));
        let more = at_once.saturating_sub(self.pages.iter().filter(under_way).count());
        if room == 0 || more == 0 {
            return;
        }
        // Those that are under way already are among what comes next.
        let mut upcoming = Upcoming::new(room + bytes, more + self.pages.len());
        find(&mut upcoming);
        let (mut room, mut more) = (room, more);
        for (pointer, expect) in upcoming.pages {
            let known = self.pages.iter().any(|(held, _)| *held == pointer);
            let length = pointer.length as usize;
            if !known && more > 0 && length <= room {
                (room, more) = (room - length, more - 1);
                let loading = overlapping(load(pages, pointer, expect));
                let page = Page::UnderWay(Pending::new(loading));
                self.pages.push_back((pointer, page));
            }
        }
    }

    fn push_front(&mut self, pages: &Arc<Pages>, pointer: PagePointer, expect: Expect) {
        let load = load(pages, pointer, expect);
        // A thread that waits for nothing else reads by itself.
        let loading = match self.waits {
            0 => Pending::new(load),
            _ => Pending::new(overlapping(load)),
        };
        (self.pages).push_front((pointer, Page::UnderWay(loading)));
    }
}

fn load(
    pages: &Arc<Pages>,
    pointer: PagePointer,
    expect: Expect,
) -> impl Future<Output = Result<Handle>> + Send + use<> {
    let pages = Arc::clone(pages);
    async move { pages.load(&pointer, expect).await }
}
