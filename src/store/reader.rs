//! Reading: what a store, a snapshot and a transaction have in common.

use std::future::Future;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use smallvec::SmallVec;

use super::core::Core;
use super::cursor::Cursor;
use super::estimate::Estimate;
use super::gate::lock;
use super::operation::{Look, LookFirst, Operation};
use super::range::Range;
use super::subtree::{Base, Components};
use super::value::Value;
use super::value_reader::ValueReader;
use crate::cache::{Guard, pin};
use crate::error::{Error, Result};
use crate::format::record::{KEY_BYTES_MAX, Tag};
use crate::format::{PagePointer, SequenceNumber};
use crate::snapshot::{
    Find, Glance, Layered, Lookup, Parts, Settled, Version, View, count, estimate, fold_chains,
    follow, glance, load_value, lookup_below, nth, read_part, stored_length, target_of,
};
use crate::transaction::{Overlay, Reads};
use crate::tree::journal::{Found, Outcome};
use crate::tree::merge::needs_below;
use crate::tree::pages::Expect;
use crate::tree::search::Chains;

/// Where something reads from.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) core: Arc<Core>,
    /// `None`: whatever is newest.
    pub(super) fixed: Option<View>,
    /// A transaction's own writes.
    pub(super) overlay: Option<Arc<Mutex<Overlay>>>,
    /// Where a transaction notes what it asked for, if that has to be so still when it commits.
    pub(super) reads: Option<Arc<Mutex<Reads>>>,
    /// What the view adds to each key.
    pub(super) base: Base,
}

/// What is stored for a key.
enum Stored<R> {
    Absent,
    /// In place; it was handed to the caller's function.
    Inline(R),
    /// To be put together.
    Elsewhere(Tag, Vec<u8>),
}

/// What a look at what is in memory gives.
enum Looked<R> {
    Done(Stored<R>),
    Need(Box<Needed>),
}

/// A page that a search needs.
struct Needed {
    pointer: PagePointer,
    expect: Expect,
    /// It is held while the page is read, which must not be reused meanwhile.
    _version: Arc<Version>,
}

/// Lending the value of a key to a function.
struct Lend<'r, K, F> {
    reader: &'r Reader,
    key: K,
    function: F,
}

impl<K: AsRef<[u8]>, R, F: FnOnce(&[u8]) -> R> Look for Lend<'_, K, F> {
    type Found = Result<Option<R>>;

    #[inline(always)]
    fn look(self) -> std::result::Result<Self::Found, Self> {
        let Self {
            reader,
            key,
            function,
        } = self;
        let found = reader.get_with_now(key.as_ref(), function);
        found.map_err(|function| Self {
            reader,
            key,
            function,
        })
    }
}

/// Asking whether a key has a value.
struct Contains<'r, K> {
    reader: &'r Reader,
    key: K,
}

impl<K: AsRef<[u8]>> Look for Contains<'_, K> {
    type Found = Result<bool>;

    #[inline(always)]
    fn look(self) -> std::result::Result<Self::Found, Self> {
        match self.reader.get_with_now(self.key.as_ref(), |_: &[u8]| ()) {
            Ok(found) => Ok(found.map(|found| found.is_some())),
            Err(_) => Err(self),
        }
    }
}

impl Reader {
    /// What there is as of now.
    pub(super) fn layered(&self) -> Layered {
        let overlay = self.overlay.as_ref();
        Layered {
            view: self.fixed.clone().unwrap_or_else(|| self.core.view()),
            overlay: overlay.map(|overlay| Arc::clone(lock(overlay).journal())),
        }
    }

    /// Finds what is stored for a key; calls `inline` where that is the value itself.
    ///
    /// The futures of what is not in memory are boxed, so that an operation that finds everything
    /// there is small: it is moved before it is driven.
    async fn find<R>(&self, key: &[u8], inline: impl FnOnce(&[u8]) -> R) -> Result<Stored<R>> {
        let mut inline = Some(inline);
        // What the search asked for stays in memory until it is done, however small the cache.
        let mut loaded = Vec::new();
        loop {
            match self.look(key, &mut inline)? {
                Looked::Done(stored) => return Ok(stored),
                Looked::Need(needed) => {
                    let Needed {
                        pointer, expect, ..
                    } = &*needed;
                    loaded.push(Box::pin(self.core.pages.load(pointer, *expect)).await?);
                }
            }
        }
    }

    /// Looks for a key in what is in memory.
    fn look<R>(
        &self,
        key: &[u8],
        inline: &mut Option<impl FnOnce(&[u8]) -> R>,
    ) -> Result<Looked<R>> {
        let guard = pin();
        let pages = &*self.core.pages;
        let Some(View { version, bound }) = &self.fixed else {
            // In this order: what is published is in every version that is current later.
            let bound = self.core.published();
            let parts = self.core.current.parts(&guard);
            return match lookup_below(pages, parts, bound, key, Chains::new(), &guard)? {
                Lookup::Need(pointer, expect) => {
                    self.look_held(key, inline, (parts, pointer, expect), bound, &guard)
                }
                found => Ok(Looked::Done(stored(found, inline))),
            };
        };
        let found = match &self.overlay {
            None => lookup_below(pages, version, *bound, key, Chains::new(), &guard)?,
            Some(overlay) => {
                let mut overlay = lock(overlay);
                match ask_overlay(&mut overlay, key) {
                    Above::Ends(stored, chains) => {
                        let stored = stored.as_ref().map(|(tag, payload)| (*tag, &payload[..]));
                        match fold_chains(pages, key, stored, &chains) {
                            Lookup::Stored(tag, payload) => Lookup::Folded(tag, payload.to_vec()),
                            Lookup::Folded(tag, payload) => Lookup::Folded(tag, payload),
                            Lookup::Absent | Lookup::Need(..) => Lookup::Absent,
                        }
                    }
                    Above::GoOn(chains) => {
                        drop(overlay);
                        self.note_key(key);
                        lookup_below(pages, version, *bound, key, chains, &guard)?
                    }
                }
            }
        };
        Ok(match found {
            Lookup::Need(pointer, expect) => need(pointer, expect, Arc::clone(version)),
            found => Looked::Done(stored(found, inline)),
        })
    }

    /// The newest version needs a page: it has to be held while that is read. If a newer one came
    /// meanwhile, it is looked at instead.
    #[cold]
    #[inline(never)]
    fn look_held<R>(
        &self,
        key: &[u8],
        inline: &mut Option<impl FnOnce(&[u8]) -> R>,
        (parts, pointer, expect): (&Parts, PagePointer, Expect),
        bound: SequenceNumber,
        guard: &Guard,
    ) -> Result<Looked<R>> {
        let version = self.core.current.load_full();
        // The guard keeps the memory of the parts from being that of others.
        if std::ptr::eq(parts, &**version.parts()) {
            return Ok(need(pointer, expect, version));
        }
        let pages = &*self.core.pages;
        let found = lookup_below(pages, &version, bound, key, Chains::new(), guard)?;
        Ok(match found {
            Lookup::Need(pointer, expect) => need(pointer, expect, Arc::clone(&version)),
            found => Looked::Done(stored(found, inline)),
        })
    }

    /// Notes that all of a range was asked for.
    fn note_range(&self, low: &[u8], end: Option<&[u8]>) {
        if let Some(reads) = &self.reads {
            let end = end.map_or(Bound::Unbounded, Bound::Excluded);
            lock(reads).note_range(Bound::Included(low), end);
        }
    }

    /// Notes that a key was looked for below a transaction's own writes.
    fn note_key(&self, key: &[u8]) {
        if let Some(reads) = &self.reads {
            lock(reads).note_key(key);
        }
    }

    /// A view to find off-tree values by: their extents must not be reused while they are read.
    pub(super) fn held(&self) -> Self {
        match &self.fixed {
            Some(_) => self.clone(),
            None => Self {
                fixed: Some(self.core.view()),
                ..self.clone()
            },
        }
    }

    /// Lends the value of a key to a function if all that it takes is in memory. Else the function
    /// was not called, and is given back.
    ///
    /// Inlined, as what it gives is taken apart at once by whoever waits: then it costs next to nothing
    /// but the descent.
    #[inline(always)]
    fn get_with_now<R, F: FnOnce(&[u8]) -> R>(
        &self,
        key: &[u8],
        function: F,
    ) -> std::result::Result<Result<Option<R>>, F> {
        if self.overlay.is_some() || !self.base.is_nothing() || key.len() > KEY_BYTES_MAX {
            return self.get_in_view_now(key, function);
        }
        let guard = pin();
        match self.glance(key, &guard) {
            Glance::Value(value) => Ok(Ok(Some(function(value)))),
            Glance::Absent => Ok(Ok(None)),
            Glance::Unknown => Err(function),
        }
    }

    #[inline(always)]
    fn glance<'g>(&'g self, key: &[u8], guard: &'g Guard) -> Glance<'g> {
        let pages = &*self.core.pages;
        match &self.fixed {
            None => {
                // In this order: as in `look`.
                let bound = self.core.published();
                glance(pages, self.core.current.parts(guard), bound, key, guard)
            }
            Some(View { version, bound }) => glance(pages, version, *bound, key, guard),
        }
    }

    /// The same in a view or a transaction, or for a key that is none.
    #[inline(never)]
    fn get_in_view_now<R, F: FnOnce(&[u8]) -> R>(
        &self,
        key: &[u8],
        function: F,
    ) -> std::result::Result<Result<Option<R>>, F> {
        let mut function = Some(function);
        let found = self.base.key(key);
        let found = found.and_then(|key| self.look(&key, &mut function));
        match (found, function) {
            (Ok(Looked::Done(Stored::Inline(result))), _) => Ok(Ok(Some(result))),
            (Ok(Looked::Done(Stored::Absent)), _) => Ok(Ok(None)),
            (Err(error), _) => Ok(Err(error)),
            (Ok(Looked::Done(Stored::Elsewhere(..)) | Looked::Need(_)), function) => {
                Err(function.expect("it is called for values in place only"))
            }
        }
    }

    /// The same wherever it is.
    pub(super) async fn get_with<R>(
        &self,
        key: &[u8],
        function: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let key = &*self.base.key(key)?;
        let mut function = Some(function);
        let mut call = |value: &[u8]| function.take().map(|function| function(value));
        match self.find(key, &mut call).await? {
            Stored::Absent => Ok(None),
            Stored::Inline(result) => Ok(result),
            Stored::Elsewhere(..) => {
                let elsewhere = self.load(key).await?;
                Ok(elsewhere.and_then(|value| call(&value)))
            }
        }
    }

    /// The same, wherever it is, as an operation.
    #[inline]
    pub(super) fn lend<'r, K: AsRef<[u8]> + Send, R: Send, F: FnOnce(&[u8]) -> R + Send>(
        &'r self,
        key: K,
        function: F,
    ) -> Operation<impl Future<Output = Result<Option<R>>> + Send + use<'r, K, R, F>> {
        let lend = Lend {
            reader: self,
            key,
            function,
        };
        Operation::looking(LookFirst::new(lend, |lend: Lend<'r, K, F>| async move {
            lend.reader.get_with(lend.key.as_ref(), lend.function).await
        }))
    }

    /// A value that is not all in its leaf: looked for again, in a version that is held.
    async fn load(&self, key: &[u8]) -> Result<Option<Bytes>> {
        // Until the value was read.
        let held = self.held();
        let Some(Settled { key, tag, payload }) = held.settled(key).await? else {
            return Ok(None);
        };
        let value = load_value(&self.core.pages, &key, tag, &payload).await?;
        Ok(Some(value))
    }

    /// What a key stands for in the end, in a version that is held: references are followed.
    pub(super) async fn settled(&self, key: &[u8]) -> Result<Option<Settled>> {
        let Some(stored) = self.find_stored(key).await? else {
            return Ok(None);
        };
        let (pages, within) = (&self.core.pages, self.base.bytes());
        follow(self, pages, within, key, stored).await.map(Some)
    }

    pub(super) async fn get_part(
        &self,
        key: &[u8],
        offset: u64,
        length: usize,
    ) -> Result<Option<Value>> {
        let key = &*self.base.key(key)?;
        // Until the value was read.
        let held = self.held();
        let Some(Settled { key, tag, payload }) = held.settled(key).await? else {
            return Ok(None);
        };
        let part = read_part(&self.core.pages, &key, tag, &payload, offset, length).await?;
        Ok(Some(Value::new(part)))
    }

    pub(super) async fn value_reader<'r>(&self, key: &[u8]) -> Result<Option<ValueReader<'r>>> {
        let key = &*self.base.key(key)?;
        let held = self.held();
        let pages = Arc::clone(&self.core.pages);
        let view = held.fixed.clone().unwrap_or_else(|| self.core.view());
        let Some(Settled { key, tag, payload }) = held.settled(key).await? else {
            return Ok(None);
        };
        let value = match tag {
            Tag::OffTree => return ValueReader::off_tree(pages, view, payload).map(Some),
            Tag::Inline => payload.into(),
            tag => load_value(&pages, &key, tag, &payload).await?,
        };
        Ok(Some(ValueReader::whole(pages, view, value)))
    }

    pub(super) async fn value_length(&self, key: &[u8]) -> Result<Option<u64>> {
        let key = &*self.base.key(key)?;
        match self.find(key, <[u8]>::len).await? {
            Stored::Absent => return Ok(None),
            Stored::Inline(length) => return Ok(Some(length as u64)),
            Stored::Elsewhere(tag, payload) => {
                if let Some(length) = stored_length(tag, &payload)? {
                    return Ok(Some(length));
                }
            }
        }
        Box::pin(async move {
            let held = self.held();
            let Some(Settled { key, tag, payload }) = held.settled(key).await? else {
                return Ok(None);
            };
            if let Some(length) = stored_length(tag, &payload)? {
                return Ok(Some(length));
            }
            let value = load_value(&self.core.pages, &key, tag, &payload).await?;
            Ok(Some(value.len() as u64))
        })
        .await
    }

    /// Whether a key has a value.
    #[inline]
    pub(super) fn has_key<'r, K: AsRef<[u8]> + Send>(
        &'r self,
        key: K,
    ) -> Operation<impl Future<Output = Result<bool>> + Send + use<'r, K>> {
        let asked = Contains { reader: self, key };
        Operation::looking(LookFirst::new(asked, |asked: Contains<'r, K>| async move {
            asked.reader.contains_key(asked.key.as_ref()).await
        }))
    }

    async fn contains_key(&self, key: &[u8]) -> Result<bool> {
        let key = &*self.base.key(key)?;
        match self.find(key, |_| ()).await? {
            Stored::Absent => Ok(false),
            Stored::Elsewhere(tag, payload) if target_of(tag, &payload).is_some() => {
                Box::pin(async move { Ok(self.held().settled(key).await?.is_some()) }).await
            }
            _ => Ok(true),
        }
    }

    pub(super) fn range<'r>(&self, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Range<'r> {
        let (low, high) = self.base.bounds(low, high);
        Range::new(
            self.layered(),
            low,
            high,
            self.base.clone(),
            self.reads.as_ref(),
        )
    }

    pub(super) fn cursor<'r>(&self, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Cursor<'r> {
        let bounds = self.base.bounds(low, high);
        let reads = self.reads.as_ref();
        Cursor::new(self.layered(), bounds, self.base.clone(), reads)
    }

    pub(super) fn components<'r>(&self, separator: u8) -> Components<'r> {
        Components::new(
            self.layered(),
            self.base.clone(),
            separator,
            self.reads.clone(),
        )
    }

    pub(super) async fn count(&self, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Result<u64> {
        let (low, high) = self.base.bounds(low, high);
        let Some((low, end)) = half_open(low, high) else {
            return Ok(0);
        };
        self.note_range(&low, end.as_deref());
        let over = self.layered();
        let layers = over.layers().into_iter().collect();
        count(over.view.version, layers, (&low, end.as_deref())).await
    }

    pub(super) async fn estimate(
        &self,
        low: Bound<Vec<u8>>,
        high: Bound<Vec<u8>>,
    ) -> Result<Estimate> {
        let (low, high) = self.base.bounds(low, high);
        let Some((low, end)) = half_open(low, high) else {
            return Ok(Estimate::NOTHING);
        };
        let over = self.layered();
        let layers = over.layers().into_iter().collect();
        let found = estimate(over.view.version, layers, (&low, end.as_deref())).await?;
        Ok(Estimate::new(found.entries, found.bytes))
    }

    pub(super) async fn nth(&self, rank: u64) -> Result<Option<(Vec<u8>, Value)>> {
        let (low, high) = self.base.bounds(Bound::Unbounded, Bound::Unbounded);
        let Some((low, end)) = half_open(low, high.clone()) else {
            return Ok(None);
        };
        let over = self.layered();
        let layers = over.layers().into_iter().collect();
        let within = (low.as_slice(), end.as_deref());
        let found = nth(Arc::clone(over.version()), layers, within, rank).await?;
        let mut entry = None;
        if let Some((from, skip)) = found {
            let base = self.base.clone();
            let mut range = Range::new(over, Bound::Included(from), high, base, None);
            for _ in 0..skip {
                // There may be far fewer.
                if range.next_key_with(|_| ()).await?.is_none() {
                    break;
                }
            }
            entry = range.next_entry().await?;
        }
        if let Some(reads) = &self.reads {
            // As far as it was counted.
            let last = entry
                .as_ref()
                .map(|(key, _)| self.base.key(key))
                .transpose()?;
            let high = match (&last, end.as_deref()) {
                (Some(last), _) => Bound::Included(&**last),
                (None, Some(end)) => Bound::Excluded(end),
                (None, None) => Bound::Unbounded,
            };
            lock(reads).note_range(Bound::Included(&low), high);
        }
        Ok(entry)
    }
}

impl Find for Reader {
    /// Each hop of a reference that is followed comes here, and goes the way of any read of a key.
    async fn find_stored(&self, key: &[u8]) -> Result<Option<(Tag, Vec<u8>)>> {
        Ok(match self.find(key, <[u8]>::to_vec).await? {
            Stored::Absent => None,
            Stored::Inline(value) => Some((Tag::Inline, value)),
            Stored::Elsewhere(tag, payload) => Some((tag, payload)),
        })
    }
}

/// What was found, with the value handed to a function where it is in place.
#[inline]
fn stored<R>(found: Lookup<'_>, inline: &mut Option<impl FnOnce(&[u8]) -> R>) -> Stored<R> {
    let mut call = |value: &[u8]| inline.take().map(|inline| inline(value));
    match found {
        Lookup::Stored(Tag::Inline, value) => call(value).map_or(Stored::Absent, Stored::Inline),
        Lookup::Folded(Tag::Inline, value) => call(&value).map_or(Stored::Absent, Stored::Inline),
        Lookup::Stored(tag, payload) => Stored::Elsewhere(tag, payload.to_vec()),
        Lookup::Folded(tag, payload) => Stored::Elsewhere(tag, payload),
        Lookup::Absent | Lookup::Need(..) => Stored::Absent,
    }
}

fn need<R>(pointer: PagePointer, expect: Expect, version: Arc<Version>) -> Looked<R> {
    Looked::Need(Box::new(Needed {
        pointer,
        expect,
        _version: version,
    }))
}

/// What a transaction's own writes say about a key.
enum Above {
    /// This under these operands, newest first.
    Ends(Option<(Tag, Vec<u8>)>, Chains),
    /// Look below these operands.
    GoOn(Chains),
}

fn ask_overlay(overlay: &mut Overlay, key: &[u8]) -> Above {
    let mut found: Found<'_> = SmallVec::new();
    let outcome = overlay.lookup(key, &mut found);
    let mut chains = Chains::new();
    for entry in found {
        match entry.tag {
            Tag::Delete => return Above::Ends(None, chains),
            Tag::Merge if needs_below(entry.payload) => chains.push(entry.payload.to_vec()),
            tag => return Above::Ends(Some((tag, entry.payload.to_vec())), chains),
        }
    }
    match outcome {
        Outcome::Ends => Above::Ends(None, chains),
        Outcome::Continue => Above::GoOn(chains),
    }
}

/// Refuses keys that are too long.
#[inline]
pub(super) fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        0..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(too_long(bytes)),
    }
}

#[cold]
fn too_long(bytes: usize) -> Error {
    Error::invalid(format!(
        "a key of {bytes} bytes: at most {KEY_BYTES_MAX} are possible"
    ))
}

/// The first key that is greater than a key. `None`: no key is.
fn key_after(mut key: Vec<u8>) -> Option<Vec<u8>> {
    if key.len() != KEY_BYTES_MAX {
        key.push(0);
        return Some(key);
    }
    // Nothing fits between the longest keys and those that differ before their end.
    match prefix_end(&key) {
        Bound::Excluded(end) => Some(end),
        Bound::Included(_) | Bound::Unbounded => None,
    }
}

/// The first key of a range, and the first one past it. `None`: no key can be in it.
pub(super) fn half_open(
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let low = match low {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => key,
        Bound::Excluded(key) => key_after(key)?,
    };
    let end = match high {
        Bound::Unbounded => None,
        Bound::Included(key) => key_after(key),
        Bound::Excluded(key) => Some(key),
    };
    end.as_ref()
        .is_none_or(|end| low < *end)
        .then_some((low, end))
}

/// The first key past all that begin with a prefix.
pub(super) fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

/// A version and a transaction's writes, of which what is asked is noted.
pub(super) struct Noting<'l> {
    pub(super) over: &'l Layered,
    pub(super) reads: Option<&'l Mutex<Reads>>,
}

impl Find for Noting<'_> {
    async fn find_stored(&self, key: &[u8]) -> Result<Option<(Tag, Vec<u8>)>> {
        if let Some(reads) = self.reads {
            lock(reads).note_key(key);
        }
        self.over.find_stored(key).await
    }
}

impl Noting<'_> {
    /// The value of a key, with references followed from what is stored for it.
    pub(super) async fn load(
        &self,
        within: &[u8],
        key: &[u8],
        stored: (Tag, Vec<u8>),
    ) -> Result<Bytes> {
        let pages = self.over.version().pages();
        let Settled { key, tag, payload } = follow(self, pages, within, key, stored).await?;
        load_value(pages, &key, tag, &payload).await
    }
}
