//! The ordered index of a journal: a skip list (Pugh 1990) whose links are numbers.
//!
//! A node is one cache line: the first bytes of its key, where the record stands, the links of its
//! lower levels and one back; the few taller towers continue in a pool. Order: key ascending, then
//! newest first. A new node of a key always goes before the older ones, so a search needs the key only.
//!
//! *Publication.* A node is filled and all its own links are set before the first link to it is
//! stored with release order, from the bottom level up. A reader that follows a link with acquire
//! order therefore sees a whole node, and can go down from wherever it is. Nodes are never removed.
//! The link back to a new node is stored last, so it may be missed while its insertion is under way,
//! but by nobody who learnt of the operation after that. One writer at a time: the lock is the
//! caller's.
//!
//! A search enters by the [`Directory`], if there is one, and goes up again from there as far as it
//! pays, so that it takes few steps wherever the newest nodes are.

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::chunks::Chunks;
use super::directory::Directory;
use super::set_once::SetOnce;
use crate::format::SequenceNumber;
use crate::format::record::Tag;
use crate::tree::key_buffer::KeyBuffer;

/// A quarter of the nodes of a level reach the next: enough for 4¹² nodes.
pub(super) const HEIGHT_MAX: usize = 12;

/// The level whose nodes a directory names.
const DIRECTORY_LEVEL: usize = 1;

/// From this many nodes on there is a directory; another one each time there are twice as many.
const DIRECTORY_NODES_MIN: u32 = 256;

/// A thread tells a list of its searches when it has made so many, of all lists together.
const SEARCHES_TOLD: u32 = 64;

thread_local! {
    static SEARCHES: Cell<u32> = const { Cell::new(0) };
}

/// One for each power of two from the least number of nodes to the greatest.
const DIRECTORIES: usize = 33 - DIRECTORY_NODES_MIN.ilog2() as usize;

/// On which levels a place is looked for behind the finger before it is looked for from above: right
/// behind it, and not far from it.
const NEAR_LEVELS: [usize; 2] = [0, 3];

/// After so many insertions in a row that were not near the one before, only one in so many looks
/// there: with random keys that is two cache lines in vain.
const FAR_MANY: u32 = 8;

/// Levels whose links stand in the node itself.
const LEVELS_INLINE: usize = 2;

/// The sentinel in front of all nodes. As a link, its number means that there is no further node.
const FRONT: u32 = 0;

const KEY_BYTES_MASK: u32 = 0xffff;
const TAG_SHIFT: u32 = 16;
const TAG_MASK: u32 = 0xff;
/// The next node has the same key and is older. True from the beginning or never.
const HAS_OLDER: u32 = 1 << 24;
/// The node before has the same key and is newer.
const HAS_NEWER: u32 = 1 << 25;
const HEIGHT_SHIFT: u32 = 28;

/// So many words of a key stand in its node: keys that differ there, and all keys that end there,
/// are compared without a look at the record.
const HEAD_WORDS: usize = 3;
const HEAD_BYTES: usize = 8 * HEAD_WORDS;

/// An operation's place in the index.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Node {
    head: [AtomicU64; HEAD_WORDS],
    sequence: AtomicU64,
    buffer: AtomicU32,
    key_offset: AtomicU32,
    payload_bytes: AtomicU32,
    /// Key length (16 bits), tag (8), flags (4), height (4).
    shape: AtomicU32,
    links: [AtomicU32; LEVELS_INLINE],
    /// The node before this one on the bottom level.
    back: AtomicU32,
    /// Where in the pool the links of the higher levels begin.
    tower: AtomicU32,
}

const _: () = assert!(size_of::<Node>() == 64);

/// What a node says about its record.
pub(super) struct Described<'a> {
    pub(super) tag: Tag,
    pub(super) key: &'a [u8],
    pub(super) sequence: SequenceNumber,
    pub(super) buffer: u32,
    pub(super) key_offset: u32,
    pub(super) payload_bytes: u32,
}

impl Node {
    /// Fills a node that nobody can reach yet.
    pub(super) fn fill(&self, described: &Described<'_>) {
        let key_bytes = described.key.len() as u32;
        debug_assert!(key_bytes <= KEY_BYTES_MASK);
        for (word, value) in self.head.iter().zip(Probe::new(described.key).head) {
            word.store(value, Relaxed);
        }
        self.sequence.store(described.sequence.0, Relaxed);
        self.buffer.store(described.buffer, Relaxed);
        self.key_offset.store(described.key_offset, Relaxed);
        self.payload_bytes.store(described.payload_bytes, Relaxed);
        let tag = (described.tag as u32) << TAG_SHIFT;
        self.shape.store(key_bytes | tag, Relaxed);
    }

    #[inline]
    pub(super) fn head(&self) -> Head {
        self.head.each_ref().map(|word| word.load(Relaxed))
    }

    #[inline]
    pub(super) fn sequence(&self) -> SequenceNumber {
        SequenceNumber(self.sequence.load(Relaxed))
    }

    pub(super) fn tag(&self) -> Tag {
        let byte = (self.shape.load(Relaxed) >> TAG_SHIFT) & TAG_MASK;
        Tag::from_byte(byte as u8).expect("filled from a tag")
    }

    #[inline]
    fn key_bytes(&self) -> usize {
        (self.shape.load(Relaxed) & KEY_BYTES_MASK) as usize
    }

    fn height(&self) -> usize {
        (self.shape.load(Relaxed) >> HEIGHT_SHIFT) as usize
    }

    /// Whether the next node is an older one of the same key.
    pub(super) fn has_older(&self) -> bool {
        self.shape.load(Relaxed) & HAS_OLDER != 0
    }

    fn has_newer(&self) -> bool {
        self.shape.load(Relaxed) & HAS_NEWER != 0
    }

    /// Only the writer changes the shape, so this loses nothing.
    fn add_to_shape(&self, bits: u32) {
        self.shape.store(self.shape.load(Relaxed) | bits, Relaxed);
    }
}

/// The first eight bytes of a key as a number that orders like them; short keys end in zeros.
#[inline]
pub(crate) fn key_head(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(head)
        }
    }
}

/// The beginning of a key as words that order like it.
pub(super) type Head = [u64; HEAD_WORDS];

/// A key to compare with, its head taken once.
#[derive(Clone, Copy)]
pub(super) struct Probe<'k> {
    pub(super) head: Head,
    pub(super) key: &'k [u8],
}

impl<'k> Probe<'k> {
    #[inline]
    pub(super) fn new(key: &'k [u8]) -> Self {
        let word = |number: usize| key.get(8 * number..).map_or(0, key_head);
        let head = std::array::from_fn(word);
        Self { head, key }
    }
}

/// Where the last insertion happened: neighbours follow quickly from there.
pub(super) struct Finger {
    /// Of each level the last node with a smaller key than `last` has.
    path: [u32; HEIGHT_MAX],
    /// The levels for which the path is known.
    known: usize,
    last: u32,
    /// How many insertions in a row were not near the one before.
    far: u32,
    random: u64,
    towers: u32,
    nodes: u32,
    directories: u32,
}

/// The nodes, the buffers their records stand in, and the links between them.
pub(super) struct SkipList {
    nodes: Chunks<Node>,
    towers: Chunks<AtomicU32>,
    buffers: Chunks<SetOnce<Bytes>>,
    height: AtomicU32,
    directories: [OnceLock<Directory>; DIRECTORIES],
    /// How many there are: the last one is in use.
    directory_count: AtomicU32,
    /// How many nodes were inserted, and of so many the directory of all is.
    inserted: AtomicU32,
    complete_nodes: AtomicU32,
    complete: ArcSwapOption<Directory>,
    completing: Mutex<()>,
    /// The number of nodes when the list was last told of searches (32 bits), and how many there
    /// were while it was the same.
    searched: AtomicU64,
}

impl SkipList {
    /// What an operation takes in the index, but for those of the taller towers.
    pub(super) const NODE_BYTES: usize = size_of::<Node>();

    pub(super) fn new() -> (Self, Finger) {
        let list = Self {
            nodes: Chunks::new(),
            towers: Chunks::new(),
            buffers: Chunks::new(),
            height: AtomicU32::new(1),
            directories: [const { OnceLock::new() }; DIRECTORIES],
            directory_count: AtomicU32::new(0),
            inserted: AtomicU32::new(0),
            complete_nodes: AtomicU32::new(0),
            complete: ArcSwapOption::const_empty(),
            completing: Mutex::new(()),
            searched: AtomicU64::new(0),
        };
        let front = list.nodes.made(FRONT);
        front.add_to_shape((HEIGHT_MAX as u32) << HEIGHT_SHIFT);
        let towers = (HEIGHT_MAX - LEVELS_INLINE) as u32;
        (0..towers).for_each(|link| _ = list.towers.made(link));
        let finger = Finger {
            path: [FRONT; HEIGHT_MAX],
            known: HEIGHT_MAX,
            last: FRONT,
            far: 0,
            random: 0x9E37_79B9_7F4A_7C15,
            towers,
            nodes: 0,
            directories: 0,
        };
        (list, finger)
    }

    #[inline]
    pub(super) fn node(&self, index: u32) -> &Node {
        self.nodes.get(index)
    }

    /// A node to fill. Numbers begin at 1.
    pub(super) fn made(&self, index: u32) -> &Node {
        self.nodes.made(index)
    }

    /// Keeps a buffer, before the first node that names it is inserted.
    pub(super) fn keep(&self, number: u32, buffer: Bytes) {
        self.buffers.made(number).set(buffer);
    }

    #[inline]
    fn buffer(&self, node: &Node) -> &[u8] {
        let buffer = self.buffers.get(node.buffer.load(Relaxed)).get();
        buffer.expect("buffers are kept before nodes name them")
    }

    #[inline]
    pub(super) fn key(&self, node: &Node) -> &[u8] {
        let from = node.key_offset.load(Relaxed) as usize;
        &self.buffer(node)[from..from + node.key_bytes()]
    }

    /// Puts the key of a node into a buffer; that of a short key without a look at the record.
    #[inline]
    pub(super) fn read_key(&self, node: &Node, into: &mut KeyBuffer) {
        let length = node.key_bytes();
        if length > HEAD_BYTES {
            return into.set(self.key(node));
        }
        let mut head = [0; HEAD_BYTES];
        for (bytes, word) in head.as_chunks_mut().0.iter_mut().zip(node.head()) {
            *bytes = word.to_be_bytes();
        }
        into.set(&head[..length]);
    }

    pub(super) fn payload(&self, node: &Node) -> &[u8] {
        let from = node.key_offset.load(Relaxed) as usize + node.key_bytes();
        &self.buffer(node)[from..from + node.payload_bytes.load(Relaxed) as usize]
    }

    #[inline]
    pub(super) fn compare(&self, node: &Node, probe: &Probe<'_>) -> Ordering {
        for (word, other) in node.head.iter().zip(&probe.head) {
            match word.load(Relaxed).cmp(other) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        let (left, right) = (node.key_bytes(), probe.key.len());
        if left.min(right) <= HEAD_BYTES {
            // Equal but for what the longer one has after the shorter one and, perhaps, zeros.
            left.cmp(&right)
        } else {
            self.key(node)[HEAD_BYTES..].cmp(&probe.key[HEAD_BYTES..])
        }
    }

    #[inline]
    fn link<'n>(&'n self, node: &'n Node, level: usize) -> &'n AtomicU32 {
        match node.links.get(level) {
            Some(link) => link,
            None => {
                let start = node.tower.load(Relaxed);
                self.towers.get(start + (level - LEVELS_INLINE) as u32)
            }
        }
    }

    /// The next node of the bottom level.
    #[inline]
    pub(super) fn next(&self, index: u32) -> Option<u32> {
        let next = self.node(index).links[0].load(Acquire);
        (next != FRONT).then_some(next)
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.next(FRONT)
    }

    /// A node with a smaller key to begin a search at, the level to begin it on, and a node that is
    /// known to stand behind the place, if one is.
    #[inline]
    fn enter(&self, key: &[u8], before: impl Fn(&Node) -> bool) -> (u32, usize, u32) {
        let top = self.height.load(Acquire) as usize - 1;
        let count = self.directory_count.load(Acquire) as usize;
        let directory = count
            .checked_sub(1)
            .and_then(|last| self.directories[last].get());
        let Some(mut index) = directory.and_then(|directory| directory.before(key)) else {
            return (FRONT, top, FRONT);
        };
        let mut node = self.node(index);
        // Mostly the directory knew all that is near; its nodes have their link here.
        let near = self.link(node, DIRECTORY_LEVEL).load(Acquire);
        if near == FRONT || !before(self.node(near)) {
            return (index, DIRECTORY_LEVEL, near);
        }
        loop {
            let level = (node.height() - 1).min(top);
            let next = self.link(node, level).load(Acquire);
            if next == FRONT || !before(self.node(next)) {
                return (index, level, next);
            }
            (index, node) = (next, self.node(next));
        }
    }

    /// The last node that stands before a place, and the one after it. The question must be
    /// answered with yes for all smaller keys than the given one and for a beginning of the nodes
    /// of that key, and with no for the rest.
    #[inline]
    fn find(&self, key: &[u8], before: impl Fn(&Node) -> bool) -> (u32, u32) {
        match self.find_in_complete(key, &before) {
            Some(found) => found,
            None => self.find_in_list(key, before),
        }
    }

    /// The same by the directory of all nodes, if there is one.
    ///
    /// What it does not name is being inserted: nobody who reads now may see that.
    #[inline]
    fn find_in_complete(&self, key: &[u8], before: impl Fn(&Node) -> bool) -> Option<(u32, u32)> {
        let inserted = self.inserted.load(Acquire);
        if self.complete_nodes.load(Relaxed) != inserted {
            self.count_search(inserted);
            return None;
        }
        let complete = self.complete.load();
        let complete = complete
            .as_ref()
            .filter(|all| all.len() as u32 == inserted)?;
        let (index, after) = complete.around(key, |index| before(self.node(index)));
        Some((index.unwrap_or(FRONT), after.unwrap_or(FRONT)))
    }

    #[inline]
    fn count_search(&self, inserted: u32) {
        let searches = SEARCHES.get() + 1;
        SEARCHES.set(searches % SEARCHES_TOLD);
        if searches == SEARCHES_TOLD {
            self.tell_searches(inserted);
        }
    }

    /// Makes a directory of all nodes once there were half as many searches as there are nodes
    /// while none was added: so much they could have saved.
    #[cold]
    fn tell_searches(&self, inserted: u32) {
        let searched = self.searched.load(Relaxed);
        let before = match (searched >> 32) as u32 == inserted {
            true => searched as u32,
            false => 0,
        };
        let searches = before.saturating_add(SEARCHES_TOLD);
        let told = u64::from(inserted) << 32 | u64::from(searches);
        self.searched.store(told, Relaxed);
        if inserted >= DIRECTORY_NODES_MIN && searches > inserted / 2 {
            self.complete();
        }
    }

    /// Makes a directory of all nodes, unless some are added meanwhile.
    fn complete(&self) {
        let Ok(_making) = self.completing.try_lock() else {
            return;
        };
        let inserted = self.inserted.load(Acquire);
        if self.complete_nodes.load(Relaxed) == inserted {
            return;
        }
        let next = |&index: &u32| self.next(index);
        let mut nodes = Vec::with_capacity(inserted as usize);
        nodes.extend(std::iter::successors(self.first(), next));
        // Else some of those that were being inserted are among them, and not all.
        if nodes.len() as u32 == inserted && self.inserted.load(Acquire) == inserted {
            self.complete.store(Some(Arc::new(self.directory(nodes))));
            self.complete_nodes.store(inserted, Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn is_complete(&self) -> bool {
        self.complete_nodes.load(Relaxed) == self.inserted.load(Acquire)
    }

    #[cfg(test)]
    pub(super) fn forget_searches(&self) {
        self.searched.store(0, Relaxed);
    }

    fn directory(&self, nodes: Vec<u32>) -> Directory {
        let key = |index| self.key(self.node(index));
        Directory::new(nodes, key, |index, prefix| {
            let node = self.node(index);
            match prefix + 8 <= HEAD_BYTES {
                true => {
                    let mut head = [0; HEAD_BYTES];
                    let words = head.as_chunks_mut().0.iter_mut();
                    words
                        .zip(node.head())
                        .for_each(|(bytes, word)| *bytes = word.to_be_bytes());
                    key_head(&head[prefix..])
                }
                false => key_head(&self.key(node)[prefix..]),
            }
        })
    }

    /// The same as [`Self::find`] without a directory of all nodes. Here the question may be
    /// answered with yes for greater keys, too.
    fn find_in_list(&self, key: &[u8], before: impl Fn(&Node) -> bool) -> (u32, u32) {
        let (mut index, top, mut after) = self.enter(key, &before);
        let mut node = self.node(index);
        for level in (0..=top).rev() {
            loop {
                let next = self.link(node, level).load(Acquire);
                // The same node often ends several levels.
                if next == FRONT || next == after {
                    break;
                }
                let candidate = self.node(next);
                if !before(candidate) {
                    after = next;
                    break;
                }
                (index, node) = (next, candidate);
            }
        }
        (index, after)
    }

    /// The first node whose key is not smaller, and whose sequence, if the key is the same, is not
    /// above the bound.
    #[inline]
    pub(super) fn at_or_after(&self, probe: &Probe<'_>, bound: SequenceNumber) -> Option<u32> {
        let (_, after) = self.find(probe.key, |node| match self.compare(node, probe) {
            Ordering::Less => true,
            Ordering::Equal => node.sequence() > bound,
            Ordering::Greater => false,
        });
        (after != FRONT).then_some(after)
    }

    /// The first node whose key is greater.
    pub(super) fn after(&self, probe: &Probe<'_>) -> Option<u32> {
        let (_, after) = self.find(probe.key, |node| {
            self.compare(node, probe) != Ordering::Greater
        });
        (after != FRONT).then_some(after)
    }

    /// The newest node of the greatest key that is smaller.
    pub(super) fn before(&self, probe: &Probe<'_>) -> Option<u32> {
        self.newest(self.find(probe.key, |node| {
            self.compare(node, probe) == Ordering::Less
        }))
    }

    /// The newest node of the greatest key that is not greater.
    pub(super) fn at_or_before(&self, probe: &Probe<'_>) -> Option<u32> {
        self.newest(self.find(probe.key, |node| {
            self.compare(node, probe) != Ordering::Greater
        }))
    }

    /// The newest node of the greatest key.
    pub(super) fn last(&self) -> Option<u32> {
        self.newest(self.find_in_list(&[], |_| true))
    }

    /// The newest node of the greatest key that is smaller than that of a node.
    #[inline]
    pub(super) fn previous_key(&self, index: u32) -> Option<u32> {
        let node = self.node(index);
        let back = node.back.load(Acquire);
        if back == FRONT {
            return None;
        }
        // A node of the same key says so before it is linked.
        if node.has_newer() || self.node(back).has_newer() {
            return self.before(&Probe::new(self.key(node)));
        }
        Some(back)
    }

    /// The newest node of the key of the last node that stands before a place.
    fn newest(&self, (index, _): (u32, u32)) -> Option<u32> {
        if index == FRONT {
            return None;
        }
        let node = self.node(index);
        if !node.has_newer() {
            return Some(index);
        }
        self.at_or_after(&Probe::new(self.key(node)), SequenceNumber(u64::MAX))
    }

    /// Puts a filled node, whose key is given, in its place: before the older ones of the key.
    pub(super) fn insert(&self, finger: &mut Finger, index: u32, key: &[u8]) {
        let node = self.node(index);
        let head = node.head();
        let probe = Probe { head, key };
        let height = finger.choose_height();
        self.locate(finger, &probe, height);
        let before = self.node(finger.path[0]);
        let next = before.links[0].load(Relaxed);
        let behind = (next != FRONT).then(|| self.node(next));
        if let Some(older) = behind
            && self.compare(older, &probe) == Ordering::Equal
        {
            node.add_to_shape(HAS_OLDER);
            older.add_to_shape(HAS_NEWER);
        }
        node.add_to_shape((height as u32) << HEIGHT_SHIFT);
        if height > LEVELS_INLINE {
            node.tower.store(finger.towers, Relaxed);
            for _ in LEVELS_INLINE..height {
                self.towers.made(finger.towers);
                finger.towers += 1;
            }
        }
        let path = &finger.path[..height];
        for (level, &before) in path.iter().enumerate().skip(1) {
            let next = self.link(self.node(before), level).load(Relaxed);
            self.link(node, level).store(next, Relaxed);
        }
        node.links[0].store(next, Relaxed);
        node.back.store(path[0], Relaxed);
        before.links[0].store(index, Release);
        for (level, &before) in path.iter().enumerate().skip(1) {
            self.link(self.node(before), level).store(index, Release);
        }
        if let Some(behind) = behind {
            behind.back.store(index, Release);
        }
        if height as u32 > self.height.load(Relaxed) {
            self.height.store(height as u32, Release);
        }
        finger.last = index;
        finger.nodes += 1;
        self.inserted.store(finger.nodes, Release);
    }

    /// Makes the finger's path that of a key, for at least so many levels.
    fn locate(&self, finger: &mut Finger, probe: &Probe<'_>, levels: usize) {
        let last = self.node(finger.last);
        let order = match finger.last {
            FRONT => Ordering::Greater,
            _ => self.compare(last, probe),
        };
        let near = match order {
            Ordering::Equal if levels <= finger.known => return,
            Ordering::Less if levels <= finger.known && finger.may_be_near() => {
                finger.path[..last.height()].fill(finger.last);
                // Where nothing stands between the finger and the key, nothing does further up.
                let near = |&level: &usize| {
                    level < finger.known && !self.is_followed(finger.path[level], level, probe)
                };
                NEAR_LEVELS.into_iter().find(near)
            }
            _ => None,
        };
        finger.far = match near {
            Some(_) => 0,
            None => finger.far.wrapping_add(1),
        };
        let mut after = FRONT;
        let level = near.unwrap_or_else(|| {
            let smaller = |node: &Node| self.compare(node, probe) == Ordering::Less;
            let (mut index, mut level, behind) = self.enter(probe.key, smaller);
            after = behind;
            if level + 1 < levels {
                (index, level) = (FRONT, self.height.load(Relaxed) as usize - 1);
            }
            // Levels above the highest in use have nothing behind their front.
            finger.path = [FRONT; HEIGHT_MAX];
            finger.known = if index == FRONT {
                HEIGHT_MAX
            } else {
                level + 1
            };
            finger.path[..=level].fill(index);
            level
        });
        let mut left = None;
        for level in (0..=level).rev() {
            // As long as the path is not left, it is at least as far here as it was above.
            let (mut index, mut node) = left.unwrap_or_else(|| {
                let index = finger.path[level];
                (index, self.node(index))
            });
            loop {
                let next = self.link(node, level).load(Relaxed);
                // The same node often ends several levels.
                if next == FRONT || next == after {
                    break;
                }
                let candidate = self.node(next);
                if self.compare(candidate, probe) != Ordering::Less {
                    after = next;
                    break;
                }
                (index, node) = (next, candidate);
                left = Some((index, node));
            }
            finger.path[level] = index;
        }
    }

    /// Makes a new directory if the list has grown enough.
    pub(super) fn renew_directory(&self, finger: &mut Finger) {
        let bits = (finger.nodes / DIRECTORY_NODES_MIN).checked_ilog2();
        let due = bits.map_or(0, |bits| bits + 1);
        if due <= finger.directories {
            return;
        }
        finger.directories = due;
        let next = |&index: &u32| {
            let next = self.link(self.node(index), DIRECTORY_LEVEL).load(Relaxed);
            (next != FRONT).then_some(next)
        };
        let nodes = std::iter::successors(next(&FRONT), next).collect();
        let directory = self.directory(nodes);
        let count = self.directory_count.load(Relaxed);
        let slot = &self.directories[count as usize];
        assert!(slot.set(directory).is_ok(), "a directory is made once");
        self.directory_count.store(count + 1, Release);
    }

    /// Whether the next node of a level has a smaller key.
    #[inline]
    fn is_followed(&self, index: u32, level: usize, probe: &Probe<'_>) -> bool {
        let next = self.link(self.node(index), level).load(Relaxed);
        next != FRONT && self.compare(self.node(next), probe) == Ordering::Less
    }

    /// The memory that nodes and links take, without the buffers' contents.
    pub(super) fn memory_bytes(&self) -> usize {
        let complete = self.complete.load();
        let directories =
            (self.directories.iter().filter_map(OnceLock::get)).chain(complete.as_deref());
        self.nodes.memory_bytes()
            + self.towers.memory_bytes()
            + self.buffers.memory_bytes()
            + directories.map(Directory::memory_bytes).sum::<usize>()
    }
}

impl Finger {
    /// Whether it pays to look near the last insertion.
    fn may_be_near(&self) -> bool {
        self.far < FAR_MANY || self.far.is_multiple_of(FAR_MANY)
    }

    /// Each level with a quarter of the probability of the one below (xorshift64*).
    fn choose_height(&mut self) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let random = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        let zeros = (random | 1 << (2 * (HEIGHT_MAX - 1))).trailing_zeros();
        1 + zeros as usize / 2
    }
}
