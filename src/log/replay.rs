//! [`Replay`]: what the log holds from a position on. Recovery and `verify` read it.
//!
//! Invariant kept: what is handed out is a prefix of what was written, and if anything shows that
//! a longer prefix was once synced, there is an error instead.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, KIND_COMMITS, KIND_LINK, LINK_BYTES, LINK_SECTORS, Link,
    holds_commits, split_commit, usable_bytes,
};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{Address, Extent, LogPosition, SequenceNumber, StoreId};

/// A group of commits as read: can be read commit by commit, or copied as it is into another chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LoggedGroup {
    pub(super) first: SequenceNumber,
    pub(super) commits: u32,
    pub(super) payload: Bytes,
}

impl LoggedGroup {
    /// The sequence of the first commit of the group.
    pub(crate) fn first(&self) -> SequenceNumber {
        self.first
    }

    /// The sequence of the last commit of the group.
    pub(crate) fn last(&self) -> SequenceNumber {
        SequenceNumber(self.first.0 + u64::from(self.commits) - 1)
    }

    /// How many bytes its commits have.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.len()
    }

    fn records(&self) -> impl Iterator<Item = (SequenceNumber, Bytes)> + use<> {
        let mut payload = self.payload.clone();
        let first = self.first.0;
        (0..u64::from(self.commits)).map_while(move |index| {
            Some((SequenceNumber(first + index), split_commit(&mut payload)?))
        })
    }

    /// Keeps the commits before a sequence that is in the group, but not its first.
    fn cut_before(&mut self, sequence: SequenceNumber) {
        let kept = sequence.0 - self.first.0;
        let mut rest = self.payload.clone();
        for _ in 0..kept {
            split_commit(&mut rest);
        }
        self.payload.truncate(self.payload.len() - rest.len());
        self.commits = kept as u32;
    }
}

/// A commit as read from the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LoggedCommit {
    pub(crate) sequence: SequenceNumber,
    /// Its records, back to back: a part of the chunk's memory, not yet parsed.
    pub(crate) records: Bytes,
    /// Whether it is known to have been synced. What others name may be missing on the disk, and
    /// is to be verified; see [`Replay::cut_before`].
    pub(crate) synced: bool,
}

/// The verified content of a log from a position on, in memory.
#[derive(Debug)]
pub(crate) struct Replay {
    groups: Vec<LoggedGroup>,
    chunks: Vec<Extent>,
    last: SequenceNumber,
    synced_through: SequenceNumber,
}

impl Replay {
    /// Reads the log from a position that a root record names. Takes one read, and as much memory,
    /// per chunk.
    ///
    /// `synced_through` is the last sequence that the root's publication implies to be in the log
    /// and synced; what stands before the position is implied anyway.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt), naming the place, if a commit that was synced cannot
    /// be read, or if what verifies makes no sense. Errors of the disk.
    pub(crate) async fn read(
        disk: &Disk,
        store: StoreId,
        position: &LogPosition,
        synced_through: SequenceNumber,
    ) -> Result<Self> {
        let before = SequenceNumber(position.sequence.0.saturating_sub(1));
        let mut walk = Walk {
            store,
            sector_bytes: disk.properties().sector_bytes,
            chain: position.chain,
            next: position.sequence,
            synced_through: synced_through.max(before),
            groups: Vec::new(),
        };
        let mut seen = Seen::default();
        let mut chunk = Chunk::read(disk, &mut seen, position.chunk, position.salt).await?;
        let mut offset = position.offset;
        if offset > chunk.extent.length {
            return Err(Error::corrupt_at(
                chunk.extent,
                "the log's position is outside its chunk",
            ));
        }
        loop {
            match walk.step(&chunk, offset)? {
                Step::Group { end } => offset = end,
                Step::Link(link) => {
                    chunk = Chunk::read(disk, &mut seen, link.chunk, link.salt).await?;
                    offset = 0;
                }
                Step::Torn => break,
            }
        }
        let torn_at = chunk.rest(offset);
        let chunks = seen.order.clone();
        let last = SequenceNumber(walk.next.0.saturating_sub(1));
        while let Some(link) = walk.look_behind(&chunk, offset) {
            chunk = Chunk::read(disk, &mut seen, link.chunk, link.salt).await?;
            offset = 0;
        }
        if walk.synced_through > last {
            return Err(ends_early(torn_at, last, walk.synced_through));
        }
        Ok(Self {
            groups: walk.groups,
            chunks,
            last,
            synced_through: walk.synced_through,
        })
    }

    /// What the log of a store that was closed has behind the position that its root names: nothing. Whoever
    /// opens it goes on in another chunk, with another root, so there is nothing to read.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the position cannot be one, or commits are missing before it.
    pub(crate) fn of_closed(
        disk: &Disk,
        position: &LogPosition,
        synced_through: SequenceNumber,
    ) -> Result<Self> {
        let mut seen = Seen::default();
        seen.enter(disk, position.chunk)?;
        let last = SequenceNumber(position.sequence.0.saturating_sub(1));
        if synced_through > last {
            return Err(ends_early(position.chunk, last, synced_through));
        }
        Ok(Self {
            groups: Vec::new(),
            chunks: seen.order,
            last,
            synced_through: last,
        })
    }

    /// The commits, in order.
    pub(crate) fn commits(&self) -> impl Iterator<Item = LoggedCommit> {
        let synced_through = self.synced_through;
        self.groups
            .iter()
            .flat_map(LoggedGroup::records)
            .map(move |(sequence, records)| LoggedCommit {
                sequence,
                records,
                synced: sequence <= synced_through,
            })
    }

    /// Ends the log before a commit, because something that the commit names does not verify.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the commit is known to have been synced: what it
    /// names was on the disk by then.
    pub(crate) fn cut_before(&mut self, sequence: SequenceNumber) -> Result<()> {
        if sequence <= self.synced_through {
            return Err(Error::corrupt(format!(
                "commit {} was synced, but what it names does not verify",
                sequence.0
            )));
        }
        self.groups.retain(|group| group.first < sequence);
        if let Some(group) = self.groups.last_mut()
            && group.last() >= sequence
        {
            group.cut_before(sequence);
        }
        self.last = self.last.min(SequenceNumber(sequence.0 - 1));
        Ok(())
    }

    /// The groups, to be copied by [`append_accepted`](super::writer::LogWriter::append_accepted).
    pub(crate) fn groups(&self) -> &[LoggedGroup] {
        &self.groups
    }

    /// The last commit; the one before the position if there is none.
    pub(crate) fn last_sequence(&self) -> SequenceNumber {
        self.last
    }

    #[cfg(test)]
    /// The last commit that is known to have been synced.
    pub(crate) fn synced_through(&self) -> SequenceNumber {
        self.synced_through
    }

    /// The chunks that were read, in order. They must stay as they are while a root names them.
    pub(crate) fn chunks(&self) -> &[Extent] {
        &self.chunks
    }
}

fn ends_early(at: Extent, last: SequenceNumber, synced_through: SequenceNumber) -> Error {
    let message = format!(
        "the log ends after commit {}, but was synced through commit {}",
        last.0, synced_through.0
    );
    Error::corrupt_at(at, message)
}

/// The chunks read so far: none twice and none overlapping, so that reading ends and its memory is
/// bounded by the disk, whatever the links say.
#[derive(Default)]
struct Seen {
    order: Vec<Extent>,
    by_address: BTreeMap<Address, u32>,
}

impl Seen {
    /// Adds a chunk that is to be read.
    fn enter(&mut self, disk: &Disk, extent: Extent) -> Result<()> {
        let sector = disk.properties().sector_bytes;
        let whole = extent.length.is_multiple_of(sector)
            && extent.address.offset().is_multiple_of(sector)
            && usable_bytes(extent.length, sector) > 0;
        if !whole {
            return Err(Error::corrupt_at(
                extent,
                "a chunk of the log has an impossible extent",
            ));
        }
        if !self.add(extent) {
            return Err(Error::corrupt_at(
                extent,
                "the log comes back to a chunk that is part of it already",
            ));
        }
        Ok(())
    }

    fn add(&mut self, extent: Extent) -> bool {
        let end = |address: Address, length: u32| address.to_bits().checked_add(length.into());
        let Some(extent_end) = end(extent.address, extent.length) else {
            return false;
        };
        // The nearest one that begins before the end is the only one that could overlap.
        let nearest = self
            .by_address
            .range(..Address::from_bits(extent_end))
            .next_back();
        if nearest.is_some_and(|(&address, &length)| {
            end(address, length).is_none_or(|end| end > extent.address.to_bits())
        }) {
            return false;
        }
        self.by_address.insert(extent.address, extent.length);
        self.order.push(extent);
        true
    }
}

/// A chunk in memory.
struct Chunk {
    extent: Extent,
    salt: u64,
    bytes: Bytes,
}

impl Chunk {
    async fn read(disk: &Disk, seen: &mut Seen, extent: Extent, salt: u64) -> Result<Self> {
        seen.enter(disk, extent)?;
        let bytes = disk.read(extent).await?.into();
        Ok(Self {
            extent,
            salt,
            bytes,
        })
    }

    fn address(&self, offset: u32) -> Address {
        // Not `plus`, which could overflow at the end of the largest segment there can be.
        Address::from_bits(self.extent.address.to_bits() + u64::from(offset))
    }

    fn rest(&self, offset: u32) -> Extent {
        let offset = offset.min(self.extent.length);
        Extent::new(self.address(offset), self.extent.length - offset)
    }

    fn header(&self, store: StoreId, offset: u32) -> Option<(GroupHeader, u32)> {
        let bytes = self.bytes.get(offset as usize..)?;
        GroupHeader::decode(store, self.address(offset), self.salt, bytes)
    }

    /// The payload of the group at an offset, if it is there and matches.
    fn payload(&self, offset: u32, header: &GroupHeader) -> Option<Bytes> {
        let begin = offset as usize + GROUP_HEADER_BYTES;
        let end = begin.checked_add(header.payload_bytes as usize)?;
        let payload = self.bytes.get(begin..end)?;
        (crc32fast::hash(payload) == header.payload_checksum).then(|| self.bytes.slice(begin..end))
    }
}

enum Step {
    /// A group was accepted; the next may begin where it ends.
    Group {
        end: u32,
    },
    Link(Link),
    /// Nothing that verifies follows.
    Torn,
}

struct Walk {
    store: StoreId,
    sector_bytes: u32,
    chain: u32,
    next: SequenceNumber,
    synced_through: SequenceNumber,
    groups: Vec<LoggedGroup>,
}

impl Walk {
    /// What follows the last group that was accepted, which ended at an offset: a group right
    /// there, or in the next sector because a sync came between, or a link.
    fn step(&mut self, chunk: &Chunk, offset: u32) -> Result<Step> {
        let usable = usable_bytes(chunk.extent.length, self.sector_bytes);
        let aligned = offset.next_multiple_of(self.sector_bytes);
        for at in [offset, aligned] {
            if at < usable
                && let Some((header, checksum)) = self.follows(chunk, at)
            {
                return self.accept_group(chunk, at, &header, checksum);
            }
            if aligned == offset {
                break;
            }
        }
        for copy in 0..LINK_SECTORS {
            let at = usable + copy * self.sector_bytes;
            if let Some((header, _)) = self.follows(chunk, at)
                && let Some(payload) = chunk.payload(at, &header)
            {
                let link = Link::from_bytes(&payload);
                if header.kind != KIND_LINK || header.first != self.next || link.is_none() {
                    return Err(Error::corrupt_at(
                        chunk.rest(at),
                        "a link of the log makes no sense",
                    ));
                }
                self.synced_through = self.synced_through.max(header.synced_through);
                return Ok(link.map_or(Step::Torn, Step::Link));
            }
        }
        Ok(Step::Torn)
    }

    fn follows(&self, chunk: &Chunk, at: u32) -> Option<(GroupHeader, u32)> {
        chunk
            .header(self.store, at)
            .filter(|(header, _)| header.chain == self.chain)
    }

    fn accept_group(
        &mut self,
        chunk: &Chunk,
        at: u32,
        header: &GroupHeader,
        checksum: u32,
    ) -> Result<Step> {
        let nonsense = |what: &str| {
            Err(Error::corrupt_at(
                chunk.rest(at),
                format!("a group of the log {what}"),
            ))
        };
        if header.kind != KIND_COMMITS {
            return nonsense("is of an unknown kind");
        }
        if header.first != self.next {
            return nonsense(&format!(
                "begins with commit {} where commit {} follows",
                header.first.0, self.next.0
            ));
        }
        let end = u64::from(at) + GROUP_HEADER_BYTES as u64 + u64::from(header.payload_bytes);
        if end > usable_bytes(chunk.extent.length, self.sector_bytes).into() {
            return nonsense("reaches past the end of its chunk");
        }
        let Some(next) = header.first.0.checked_add(header.commits.into()) else {
            return nonsense("counts past the last sequence");
        };
        let Some(payload) = chunk.payload(at, header) else {
            return Ok(Step::Torn);
        };
        if header.commits == 0 || !holds_commits(&payload, header.commits) {
            return nonsense("does not hold the commits that it claims");
        }
        self.groups.push(LoggedGroup {
            first: header.first,
            commits: header.commits,
            payload,
        });
        self.synced_through = self.synced_through.max(header.synced_through);
        self.chain = checksum;
        self.next = SequenceNumber(next);
        Ok(Step::Group { end: end as u32 })
    }

    /// Looks at everything from the torn place to the end of the chunk for headers, and learns
    /// through which sequence the log had been synced when they were written. A header suffices:
    /// that its payload is torn does not make its claim wrong. Gives the link, if one verifies.
    ///
    /// What was written after a sync begins a sector, so all sectors' beginnings are enough; the
    /// torn place itself need not be one.
    fn look_behind(&mut self, chunk: &Chunk, torn_at: u32) -> Option<Link> {
        let first_sector = torn_at.next_multiple_of(self.sector_bytes);
        let sectors = (first_sector..chunk.extent.length).step_by(self.sector_bytes as usize);
        let mut link = None;
        for at in std::iter::once(torn_at).chain(sectors) {
            if let Some((header, _)) = chunk.header(self.store, at) {
                self.synced_through = self.synced_through.max(header.synced_through);
                // The length first: else many forged links would each have a whole chunk summed.
                if header.kind == KIND_LINK
                    && header.payload_bytes as usize == LINK_BYTES
                    && let Some(payload) = chunk.payload(at, &header)
                {
                    link = Link::from_bytes(&payload);
                }
            }
        }
        link
    }
}
