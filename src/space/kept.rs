//! How the system tree stores which versions are kept, and what only they reach: keys, and records as
//! bytes. [`crate::format::versions`] describes them.
//!
//! A *node* is a tree that named snapshots read; nodes stand on *lines*, in the order of their
//! generations, and a line begins at a node of another one. What a node reaches and its successor does
//! not stands on lists, which hang on a *holder*: the successor's. A list is never copied: when a node
//! goes, references to lists move from one holder to another, always the fewer to the more.

use super::recycle::Dropped;
use crate::error::{Error, Result};
use crate::format::bytes::{put_varint, read_u32, read_u64, read_varint};
use crate::format::{Address, Birth, Extent, POINTER_BYTES, PagePointer, SequenceNumber};

const NODE: u8 = 19;
const SINCE: u8 = 20;
const LINE: u8 = 21;
const FORK: u8 = 22;
const LIST: u8 = 23;
const CHUNK: u8 = 24;
const JOURNAL: u8 = 25;
const COUNTERS: u8 = 26;
const REAPED: u8 = 27;
const YOUNGER: u8 = 28;
const BRANCH: u8 = 29;
const CLONED: u8 = 30;
/// The first kind that means nothing.
pub(crate) const KINDS_END: u8 = 31;

/// The longest name of a branch, in bytes.
pub(crate) const BRANCH_NAME_BYTES_MAX: usize = 1024;

/// The generation that drops what a whole version reached, which is being taken apart.
pub(crate) const DESTROYED: Birth = Birth(u64::MAX);

/// The holder of what nothing reaches any more.
pub(crate) const FREE: u64 = 0;
/// The holder of lists that say nothing any more.
pub(crate) const DISCARDED: u64 = 1;
/// The holder of the first line's newest version.
pub(crate) const FIRST_HOLDER: u64 = 2;

/// How many items of a list stand in one entry of the system tree at most.
pub(crate) const CHUNK_ITEMS: usize = 256;

/// Which node: nodes of a line are ordered by their generations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NodeKey {
    pub(crate) line: u64,
    pub(crate) generation: Birth,
}

/// A tree that is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    /// It is the tree of what was committed through this sequence.
    pub(crate) since: SequenceNumber,
    pub(crate) root: PagePointer,
    /// Of what the node before reaches and this one does not.
    pub(crate) holder: u64,
    /// No name needs it any more: it is kept for the sake of more than one successor.
    pub(crate) hollow: bool,
    /// How many extents hold the commits that came next, as far as a name needs them.
    pub(crate) journals: u32,
}

/// The newest version of a branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) root: PagePointer,
    pub(crate) generation: Birth,
    /// The newest commit that it has.
    pub(crate) since: SequenceNumber,
}

/// A line of versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    /// The node that comes before its first one, be it by now on another line than it left.
    pub(crate) parent: Option<NodeKey>,
    /// The line that it left, an earlier one; of the first one, itself.
    pub(crate) origin: u64,
    /// The generation at which it left that line.
    pub(crate) forked_at: Birth,
    /// Of what its last node reaches and its newest version does not.
    pub(crate) holder: u64,
    /// It has no newest version any more.
    pub(crate) ended: bool,
    /// Its newest version, if it is a branch: that of the store's own line is in the root record.
    pub(crate) head: Option<Head>,
}

impl Line {
    /// A store begins with it, and writes it down when it has something to say.
    pub(crate) const FIRST: Self = Self {
        parent: None,
        origin: 0,
        forked_at: Birth(0),
        holder: FIRST_HOLDER,
        ended: false,
        head: None,
    };
}

/// Numbers that are given out once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counters {
    pub(crate) holder: u64,
    pub(crate) list: u64,
    pub(crate) line: u64,
    /// No node has a later generation; `None`: there are none.
    pub(crate) newest: Option<Birth>,
    /// No value that shares extents with clones of it is of a later birth; `None`: there are none.
    pub(crate) cloned: Option<Birth>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            holder: FIRST_HOLDER + 1,
            list: 0,
            line: 1,
            newest: None,
            cloned: None,
        }
    }
}

/// Something that a version reached and its successor does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) item: Dropped,
    pub(crate) birth: Birth,
    /// The first generation that does not reach it, and its line.
    pub(crate) dropped_at: Birth,
    pub(crate) line: u64,
}

/// How much is on a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ListSize {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

/// Where the commits stand that came after a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct JournalPart {
    pub(crate) extent: Extent,
    pub(crate) checksum: u32,
    pub(crate) birth: Birth,
}

/// An extent of an off-tree value that no tree had before a generation, although it was born in an
/// earlier one, of which, or of one between, a version is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Younger {
    pub(crate) extent: Extent,
    pub(crate) birth: Birth,
    pub(crate) since: Birth,
}

/// An extent that values under several keys have, each with a birth of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cloned {
    pub(crate) extent: Extent,
    /// How many values have it, in versions that are kept or waiting to be freed.
    pub(crate) count: u64,
    /// The birth of the value that had it first: whoever read that one may still need the extent.
    pub(crate) oldest: Birth,
    /// That value is among those that have it.
    pub(crate) has_oldest: bool,
}

/// A range of keys: the first, and the first one past it.
type KeyRange = (Vec<u8>, Vec<u8>);

fn key(kind: u8, numbers: &[u64]) -> Vec<u8> {
    let mut out = vec![kind];
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}

/// The keys that begin with some numbers; they have more behind them.
fn range(kind: u8, numbers: &[u64]) -> KeyRange {
    let low = key(kind, numbers);
    let mut end = low.clone();
    end.extend_from_slice(&[0xff; 28]);
    (low, end)
}

impl NodeKey {
    pub(crate) fn key(&self) -> Vec<u8> {
        key(NODE, &[self.line, self.generation.0])
    }

    /// The key under which a part of its commits stands.
    pub(crate) fn journal_key(&self, part: u32) -> Vec<u8> {
        key(JOURNAL, &[self.line, self.generation.0, part.into()])
    }

    /// The key that says that a line begins here.
    pub(crate) fn fork_key(&self, line: u64) -> Vec<u8> {
        key(FORK, &[self.line, self.generation.0, line])
    }

    /// The key that says that no name needs it, and that it is still to be taken out.
    pub(crate) fn reaped_key(&self) -> Vec<u8> {
        key(REAPED, &[self.line, self.generation.0])
    }

    /// All lines that begin here.
    pub(crate) fn forks_range(&self) -> KeyRange {
        range(FORK, &[self.line, self.generation.0])
    }

    pub(crate) fn parse(key: &[u8]) -> Result<Self> {
        let numbers = numbers_of::<2>(key, NODE)?;
        Ok(Self {
            line: numbers[0],
            generation: Birth(numbers[1]),
        })
    }
}

/// The nodes of a line from one generation on and before another.
pub(crate) fn nodes_range(line: u64, from: Birth, before: Birth) -> KeyRange {
    (key(NODE, &[line, from.0]), key(NODE, &[line, before.0]))
}

/// The key of the line of a branch. With its length before it, no name begins another one.
pub(crate) fn branch_key(name: &[u8]) -> Vec<u8> {
    let length = (name.len() as u16).to_be_bytes();
    [&[BRANCH], &length[..], name].concat()
}

/// All branches.
pub(crate) fn branches_range() -> KeyRange {
    (vec![BRANCH], vec![BRANCH + 1])
}

/// The name of a branch.
pub(crate) fn parse_branch_key(key: &[u8]) -> Result<&[u8]> {
    let parse = || {
        let (kind, rest) = key.split_first()?;
        let (length, name) = rest.split_first_chunk()?;
        let whole = usize::from(u16::from_be_bytes(*length)) == name.len();
        (*kind == BRANCH && whole).then_some(name)
    };
    parse().ok_or_else(|| malformed("the name of a branch"))
}

/// The line of a branch, and when it was made, in milliseconds since 1970.
pub(crate) fn encode_branch(line: u64, time_ms: u64) -> Vec<u8> {
    [line.to_le_bytes(), time_ms.to_le_bytes()].concat()
}

pub(crate) fn decode_branch(bytes: &[u8]) -> Result<(u64, u64)> {
    let decode = || {
        (bytes.len() == 16).then_some(())?;
        Some((read_u64(bytes, 0)?, read_u64(bytes, 8)?))
    };
    decode().ok_or_else(|| malformed("a branch"))
}

/// All nodes.
pub(crate) fn all_nodes_range() -> KeyRange {
    (vec![NODE], vec![NODE + 1])
}

/// All nodes that are still to be taken out.
pub(crate) fn reaped_range() -> KeyRange {
    (vec![REAPED], vec![REAPED + 1])
}

/// The node that a key of [`reaped_range`] names.
pub(crate) fn parse_reaped_key(key: &[u8]) -> Result<NodeKey> {
    let [line, generation] = numbers_of(key, REAPED)?;
    Ok(NodeKey {
        line,
        generation: Birth(generation),
    })
}

/// Everything that this module has keys for.
pub(crate) fn all_range() -> KeyRange {
    (vec![NODE], vec![KINDS_END])
}

/// The key under which the generation of a node is found by the sequence since which it is the tree.
pub(crate) fn since_key(line: u64, since: SequenceNumber) -> Vec<u8> {
    key(SINCE, &[line, since.0])
}

/// The nodes of a line that are the tree since a sequence, or an earlier one.
pub(crate) fn since_range(line: u64, through: SequenceNumber) -> KeyRange {
    let end = key(SINCE, &[line, through.0.saturating_add(1)]);
    (key(SINCE, &[line]), end)
}

pub(crate) fn line_key(line: u64) -> Vec<u8> {
    key(LINE, &[line])
}

/// The key of a list. `label`: the first kept generation that reaches its items when they were listed.
pub(crate) fn list_key(holder: u64, label: Birth, list: u64) -> Vec<u8> {
    key(LIST, &[holder, label.0, list])
}

/// The lists of a holder whose labels come after a generation.
pub(crate) fn lists_after(holder: u64, generation: Birth) -> KeyRange {
    let (_, end) = range(LIST, &[holder]);
    (key(LIST, &[holder, generation.0.saturating_add(1)]), end)
}

/// All lists of a holder.
pub(crate) fn lists_of(holder: u64) -> KeyRange {
    range(LIST, &[holder])
}

/// Label and number of a list.
pub(crate) fn parse_list_key(key: &[u8]) -> Result<(u64, Birth, u64)> {
    let [holder, label, list] = numbers_of::<3>(key, LIST)?;
    Ok((holder, Birth(label), list))
}

pub(crate) fn chunk_key(list: u64, chunk: u64) -> Vec<u8> {
    key(CHUNK, &[list, chunk])
}

/// All chunks of a list.
pub(crate) fn chunks_of(list: u64) -> KeyRange {
    range(CHUNK, &[list])
}

pub(crate) fn counters_key() -> Vec<u8> {
    vec![COUNTERS]
}

fn address_key(bits: u64) -> Vec<u8> {
    key(YOUNGER, &[bits])
}

/// The extents that begin before the end of another one.
pub(crate) fn younger_before_end(extent: Extent) -> KeyRange {
    let end = extent.address.to_bits() + u64::from(extent.length).max(1);
    (vec![YOUNGER], address_key(end))
}

/// All of them.
pub(crate) fn younger_range() -> KeyRange {
    (vec![YOUNGER], vec![YOUNGER + 1])
}

/// The cloned extents that begin in a range of addresses.
pub(crate) fn cloned_between(from: u64, end: u64) -> KeyRange {
    (key(CLONED, &[from]), key(CLONED, &[end]))
}

/// All of them.
pub(crate) fn cloned_range() -> KeyRange {
    (vec![CLONED], vec![CLONED + 1])
}

impl Cloned {
    pub(crate) fn key(&self) -> Vec<u8> {
        key(CLONED, &[self.extent.address.to_bits()])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.extent.length.to_le_bytes().to_vec();
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.oldest.0.to_le_bytes());
        out.push(self.has_oldest.into());
        out
    }

    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self> {
        let [bits] = numbers_of(key, CLONED)?;
        let decode = || {
            let address = Address::from_bits(bits);
            let length = read_u32(bytes, 0)?;
            let cloned = Self {
                extent: Extent::new(address, length),
                count: read_u64(bytes, 4)?,
                oldest: Birth(read_u64(bytes, 12)?),
                has_oldest: match bytes.get(20..)? {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                },
            };
            let possible = length > 0 && address.offset().checked_add(length).is_some();
            (possible && cloned.count > 0).then_some(cloned)
        };
        decode().ok_or_else(|| malformed("a cloned extent"))
    }
}

impl Younger {
    pub(crate) fn key(&self) -> Vec<u8> {
        address_key(self.extent.address.to_bits())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.extent.length.to_le_bytes().to_vec();
        out.extend_from_slice(&self.birth.0.to_le_bytes());
        out.extend_from_slice(&self.since.0.to_le_bytes());
        out
    }

    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self> {
        let [bits] = numbers_of(key, YOUNGER)?;
        let decode = || {
            (bytes.len() == 20).then_some(())?;
            Some(Self {
                extent: Extent::new(Address::from_bits(bits), read_u32(bytes, 0)?),
                birth: Birth(read_u64(bytes, 4)?),
                since: Birth(read_u64(bytes, 12)?),
            })
        };
        decode().ok_or_else(|| malformed("the age of a value"))
    }
}

/// What an entry says that may be damaged.
pub(crate) enum Record {
    Node(Node),
    Journal(JournalPart),
    Head(Head),
    List { holder: u64, list: u64 },
    Other,
}

/// Decodes any entry of these kinds.
pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<Record> {
    Ok(match key.first() {
        Some(&NODE) => {
            NodeKey::parse(key)?;
            Record::Node(Node::decode(value)?)
        }
        Some(&JOURNAL) => {
            numbers_of::<3>(key, JOURNAL)?;
            Record::Journal(JournalPart::decode(value)?)
        }
        Some(&LIST) => {
            let (holder, _, list) = parse_list_key(key)?;
            ListSize::decode(value)?;
            Record::List { holder, list }
        }
        Some(&SINCE) => {
            numbers_of::<2>(key, SINCE)?;
            decode_generation(value)?;
            Record::Other
        }
        Some(&LINE) => {
            numbers_of::<1>(key, LINE)?;
            Line::decode(value)?
                .head
                .map_or(Record::Other, Record::Head)
        }
        Some(&FORK) => {
            parse_fork_key(key)?;
            Record::Other
        }
        Some(&CHUNK) => {
            numbers_of::<2>(key, CHUNK)?;
            decode_chunk(value)?;
            Record::Other
        }
        Some(&BRANCH) => {
            parse_branch_key(key)?;
            decode_branch(value)?;
            Record::Other
        }
        Some(&YOUNGER) => {
            Younger::decode(key, value)?;
            Record::Other
        }
        Some(&CLONED) => {
            Cloned::decode(key, value)?;
            Record::Other
        }
        Some(&REAPED) => {
            parse_reaped_key(key)?;
            Record::Other
        }
        Some(&COUNTERS) => {
            numbers_of::<0>(key, COUNTERS)?;
            Counters::decode(value)?;
            Record::Other
        }
        _ => return Err(malformed("a key")),
    })
}

/// The line that a key of [`NodeKey::forks_range`] names.
pub(crate) fn parse_fork_key(key: &[u8]) -> Result<u64> {
    Ok(numbers_of::<3>(key, FORK)?[2])
}

fn malformed(what: &str) -> Error {
    Error::corrupt(format!("{what} of the kept versions is malformed"))
}

fn numbers_of<const N: usize>(key: &[u8], kind: u8) -> Result<[u64; N]> {
    let (first, rest) = key.split_first().ok_or_else(|| malformed("a key"))?;
    if *first != kind || rest.len() != 8 * N {
        return Err(malformed("a key"));
    }
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(rest.as_chunks::<8>().0) {
        *number = u64::from_be_bytes(*bytes);
    }
    Ok(numbers)
}

/// The generation of a node, by its sequence.
pub(crate) fn encode_generation(generation: Birth) -> Vec<u8> {
    generation.0.to_le_bytes().to_vec()
}

pub(crate) fn decode_generation(bytes: &[u8]) -> Result<Birth> {
    let bytes = bytes.try_into().map_err(|_| malformed("a generation"))?;
    Ok(Birth(u64::from_le_bytes(bytes)))
}

impl Node {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.root.to_bytes().to_vec();
        out.extend_from_slice(&self.since.0.to_le_bytes());
        out.extend_from_slice(&self.holder.to_le_bytes());
        out.extend_from_slice(&self.journals.to_le_bytes());
        out.push(self.hollow.into());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let decode = || {
            let at = POINTER_BYTES;
            if bytes.len() != at + 21 {
                return None;
            }
            Some(Self {
                root: PagePointer::from_bytes(bytes.first_chunk()?),
                since: SequenceNumber(read_u64(bytes, at)?),
                holder: read_u64(bytes, at + 8)?,
                journals: read_u32(bytes, at + 16)?,
                hollow: match bytes[at + 20] {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
            })
        };
        decode().ok_or_else(|| malformed("a node"))
    }
}

impl Line {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = [self.ended, self.parent.is_some(), self.head.is_some()];
        let flags = (0..).zip(flags).map(|(bit, flag)| u8::from(flag) << bit);
        let mut out = vec![flags.sum()];
        let parent = self.parent.unwrap_or(NodeKey {
            line: 0,
            generation: Birth(0),
        });
        for number in [
            self.holder,
            self.forked_at.0,
            self.origin,
            parent.line,
            parent.generation.0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        if let Some(head) = &self.head {
            out.extend_from_slice(&head.root.to_bytes());
            out.extend_from_slice(&head.generation.0.to_le_bytes());
            out.extend_from_slice(&head.since.0.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let decode = || {
            let flags = *bytes.first()?;
            let has_head = flags & 4 == 4;
            let length = if has_head {
                41 + POINTER_BYTES + 16
            } else {
                41
            };
            if bytes.len() != length || flags > 7 {
                return None;
            }
            let head = || {
                let root = PagePointer::from_bytes(bytes.get(41..)?.first_chunk()?);
                Some(Head {
                    root,
                    generation: Birth(read_u64(bytes, 41 + POINTER_BYTES)?),
                    since: SequenceNumber(read_u64(bytes, 49 + POINTER_BYTES)?),
                })
            };
            let parent = NodeKey {
                line: read_u64(bytes, 25)?,
                generation: Birth(read_u64(bytes, 33)?),
            };
            Some(Self {
                ended: flags & 1 == 1,
                parent: (flags & 2 == 2).then_some(parent),
                head: if has_head { Some(head()?) } else { None },
                holder: read_u64(bytes, 1)?,
                forked_at: Birth(read_u64(bytes, 9)?),
                origin: read_u64(bytes, 17)?,
            })
        };
        decode().ok_or_else(|| malformed("a line"))
    }
}

impl Counters {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let [newest, cloned] =
            [self.newest, self.cloned].map(|birth| birth.map_or(0, |birth| birth.0 + 1));
        let numbers = [self.holder, self.list, self.line, newest, cloned];
        numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let decode = || {
            (bytes.len() == 40).then_some(())?;
            Some(Self {
                holder: read_u64(bytes, 0)?,
                list: read_u64(bytes, 8)?,
                line: read_u64(bytes, 16)?,
                newest: read_u64(bytes, 24)?.checked_sub(1).map(Birth),
                cloned: read_u64(bytes, 32)?.checked_sub(1).map(Birth),
            })
        };
        decode().ok_or_else(|| malformed("the entry of counters"))
    }
}

impl ListSize {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.items.to_le_bytes(), self.bytes.to_le_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let decode = || {
            (bytes.len() == 16).then_some(())?;
            Some(Self {
                items: read_u64(bytes, 0)?,
                bytes: read_u64(bytes, 8)?,
            })
        };
        decode().ok_or_else(|| malformed("the size of a list"))
    }
}

impl JournalPart {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.extent.address.to_bits().to_le_bytes().to_vec();
        out.extend_from_slice(&self.extent.length.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&self.birth.0.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let decode = || {
            (bytes.len() == 24).then_some(())?;
            let address = Address::from_bits(read_u64(bytes, 0)?);
            Some(Self {
                extent: Extent::new(address, read_u32(bytes, 8)?),
                checksum: read_u32(bytes, 12)?,
                birth: Birth(read_u64(bytes, 16)?),
            })
        };
        decode().ok_or_else(|| malformed("the place of a journal"))
    }
}

const EXTENT_ITEM: u8 = 0;
const SUBTREE_ITEM: u8 = 1;
const VALUE_ITEM: u8 = 2;

/// The longest payload of a value on a list.
const VALUE_PAYLOAD_BYTES_MAX: u64 = 256;

impl Listed {
    fn append_to(&self, out: &mut Vec<u8>) {
        let kind = match &self.item {
            Dropped::Extent(_) => EXTENT_ITEM,
            Dropped::Subtree(_) => SUBTREE_ITEM,
            Dropped::Value(_) => VALUE_ITEM,
        };
        out.push(kind);
        for number in [self.line, self.birth.0, self.dropped_at.0] {
            put_varint(out, number);
        }
        match &self.item {
            Dropped::Extent(extent) => {
                put_varint(out, extent.address.to_bits());
                put_varint(out, extent.length.into());
            }
            Dropped::Subtree(pointer) => out.extend_from_slice(&pointer.to_bytes()),
            Dropped::Value(payload) => {
                put_varint(out, payload.len() as u64);
                out.extend_from_slice(payload);
            }
        }
    }

    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let kind = *bytes.first()?;
        let mut at = 1;
        let number = |at: &mut usize| {
            let (number, taken) = read_varint(bytes.get(*at..)?)?;
            *at += taken;
            Some(number)
        };
        let line = number(&mut at)?;
        let birth = Birth(number(&mut at)?);
        let dropped_at = Birth(number(&mut at)?);
        let item = match kind {
            EXTENT_ITEM => {
                let address = Address::from_bits(number(&mut at)?);
                let length = u32::try_from(number(&mut at)?).ok()?;
                Dropped::Extent(Extent::new(address, length))
            }
            SUBTREE_ITEM => {
                let pointer = PagePointer::from_bytes(bytes.get(at..)?.first_chunk()?);
                at += POINTER_BYTES;
                if pointer.is_nothing() {
                    return None;
                }
                Dropped::Subtree(pointer)
            }
            VALUE_ITEM => {
                let length = number(&mut at)?;
                if length > VALUE_PAYLOAD_BYTES_MAX {
                    return None;
                }
                let payload = bytes.get(at..at + length as usize)?;
                at += payload.len();
                Dropped::Value(payload.to_vec())
            }
            _ => return None,
        };
        let listed = Self {
            item,
            birth,
            dropped_at,
            line,
        };
        Some((listed, at))
    }
}

/// Some items of a list as bytes.
pub(crate) fn encode_chunk(items: &[Listed]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.append_to(&mut out));
    out
}

/// Decodes some items of a list, which may be damaged.
pub(crate) fn decode_chunk(bytes: &[u8]) -> Result<Vec<Listed>> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (item, taken) = Listed::read(&bytes[at..]).ok_or_else(|| malformed("a list"))?;
        items.push(item);
        at += taken;
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Listed> {
        let pointer = PagePointer {
            address: Address::new(3, 512),
            length: 100,
            birth: Birth(4),
            ..PagePointer::NOTHING
        };
        let extent = Extent::new(Address::new(70_000, 1 << 20), u32::MAX);
        let all = [
            Dropped::Extent(extent),
            Dropped::Subtree(pointer),
            Dropped::Value(vec![7; 48]),
        ];
        let listed = |(number, item): (u64, Dropped)| Listed {
            item,
            birth: Birth(number * 1000),
            dropped_at: Birth(number * 1000 + 1),
            line: number,
        };
        (0..).zip(all).map(listed).collect()
    }

    #[test]
    fn records_round_trip() {
        let items = items();
        assert_eq!(decode_chunk(&encode_chunk(&items)).unwrap(), items);
        let node = Node {
            since: SequenceNumber(7),
            root: PagePointer::NOTHING,
            holder: 5,
            hollow: true,
            journals: 3,
        };
        assert_eq!(Node::decode(&node.encode()).unwrap(), node);
        let parent = NodeKey {
            line: 3,
            generation: Birth(9),
        };
        for parent in [None, Some(parent)] {
            let line = Line {
                parent,
                origin: 2,
                forked_at: Birth(11),
                holder: 8,
                ended: parent.is_some(),
                head: None,
            };
            assert_eq!(Line::decode(&line.encode()).unwrap(), line);
            let head = Some(Head {
                root: PagePointer::NOTHING,
                generation: Birth(5),
                since: SequenceNumber(6),
            });
            let line = Line { head, ..line };
            assert_eq!(Line::decode(&line.encode()).unwrap(), line);
        }
        let counters = Counters::default();
        assert_eq!(Counters::decode(&counters.encode()).unwrap(), counters);
        let size = ListSize { items: 3, bytes: 9 };
        assert_eq!(ListSize::decode(&size.encode()).unwrap(), size);
        let cloned = Cloned {
            extent: Extent::new(Address::new(3, 512), 7),
            count: 2,
            oldest: Birth(8),
            has_oldest: true,
        };
        let decoded = Cloned::decode(&cloned.key(), &cloned.encode());
        assert_eq!(decoded.unwrap(), cloned);
        let part = JournalPart {
            extent: Extent::new(Address::new(1, 512), 40),
            checksum: 5,
            birth: Birth(12),
        };
        assert_eq!(JournalPart::decode(&part.encode()).unwrap(), part);
        assert_eq!(NodeKey::parse(&parent.key()).unwrap(), parent);
        let key = list_key(4, Birth(5), 6);
        assert_eq!(parse_list_key(&key).unwrap(), (4, Birth(5), 6));
    }

    #[test]
    fn lists_after_a_generation_are_those_with_later_labels() {
        let (low, end) = lists_after(4, Birth(5));
        let within = |key: Vec<u8>| low <= key && key < end;
        assert!(within(list_key(4, Birth(6), 0)) && within(list_key(4, Birth(u64::MAX - 1), 9)));
        assert!(!within(list_key(4, Birth(5), u64::MAX)) && !within(list_key(5, Birth(6), 0)));
    }

    #[test]
    fn hostile_records_are_refused_or_mean_what_they_say() {
        let chunk = encode_chunk(&items());
        for seed in 0..3000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = chunk.clone();
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            bytes.truncate(random.usize(..=bytes.len()));
            if let Ok(items) = decode_chunk(&bytes) {
                assert_eq!(decode_chunk(&encode_chunk(&items)).unwrap(), items);
            }
            random.fill(&mut bytes);
            let _ = (Node::decode(&bytes), Line::decode(&bytes));
            let _ = (Counters::decode(&bytes), JournalPart::decode(&bytes));
            let _ = Cloned::decode(&key(CLONED, &[seed]), &bytes);
        }
    }
}
