//! [`Level`]: how a store's tree is built, level by level.

use std::future::Future;

use super::Store;
use super::operation::Operation;
use crate::error::Result;
use crate::tree::interior::Interior;
use crate::tree::page::Page;
use crate::tree::pages::Expect;

/// One level of the tree, as [`Store::levels`] finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Level {
    /// The nodes of the level.
    pub nodes: u64,
    /// Their bytes, without the slices of their journals.
    pub node_bytes: u64,
    /// How full they are, from 0 to 1: of leaves the bytes, of those at which they are cut; of the
    /// others the children, of those that they can have.
    pub fill: f64,
    /// Entries, of leaves; children, of the others.
    pub entries: u64,
    /// The slices of their journals.
    pub slices: u64,
    /// The bytes of these.
    pub slice_bytes: u64,
    /// Operations that wait in them to be pushed down.
    pub pending: u64,
}

impl Store {
    /// The levels of the tree, from the leaves to the root: how many nodes each has, how full they
    /// are, and what is pending in them. It is the tree as the last flush left it: what commits have in memory is not
    /// in it yet (see [`stats`](Self::stats)).
    ///
    /// Costs reading all nodes above the leaves, one after the other: about a hundredth of the tree.
    /// Leaves and slices are not read. Can be dropped at any time.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// store.checkpoint().wait()?;
    /// let levels = store.levels().wait()?;
    /// assert_eq!((levels.len(), levels[0].entries), (1, 1));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn levels(&self) -> Operation<impl Future<Output = Result<Vec<Level>>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.shared.core;
            let version = core.view().version;
            let pages = &core.pages;
            let mut levels: Vec<Level> = Vec::new();
            let mut left = vec![(version.root, Expect::Root)];
            if version.root.is_nothing() {
                left.clear();
            }
            while let Some((pointer, expect)) = left.pop() {
                let handle = pages.load(&pointer, expect).await?;
                let page = Page::new(handle.bytes());
                let number = usize::from(page.level());
                if levels.len() <= number {
                    levels.resize(number + 1, Level::default());
                }
                let level = &mut levels[number];
                level.nodes += 1;
                level.node_bytes += handle.bytes().len() as u64;
                if number == 0 {
                    level.entries += page.slots() as u64;
                    continue;
                }
                let node = Interior::new(handle.bytes());
                level.entries += node.children() as u64;
                for run in node.runs() {
                    level.pending += u64::from(run.live_operations());
                    level.slices += run.slices as u64;
                    for index in 0..run.slices {
                        let bytes = run.slice(index).pointer().bytes;
                        level.slice_bytes = level.slice_bytes.saturating_add(bytes);
                    }
                }
                let children = (0..node.children()).map(|child| node.pointer(child));
                if number == 1 {
                    // What is to be known of leaves stands in the pointers to them.
                    // A damaged file may say anything.
                    for child in children {
                        let leaves = &mut levels[0];
                        leaves.nodes += 1;
                        leaves.node_bytes = leaves.node_bytes.saturating_add(child.bytes);
                        leaves.entries = leaves.entries.saturating_add(child.entries);
                    }
                } else {
                    let expect = Expect::Level(page.level() - 1);
                    left.extend(children.map(|child| (child, expect)));
                }
            }
            for (number, level) in levels.iter_mut().enumerate() {
                let (has, most) = match number {
                    0 => (level.node_bytes, u64::from(pages.settings.page_bytes)),
                    _ => (level.entries, u64::from(pages.settings.children_max)),
                };
                let most = most.saturating_mul(level.nodes.max(1));
                level.fill = (has as f64 / most as f64).min(1.0);
            }
            Ok(levels)
        })
    }
}
