//! [`LogWriter`]: turns commits into pages to be saved. The commit path calls it; it does no I/O.
//!
//! Invariant kept (I2): each byte of a chunk is written once in each use, and a sector that a sync
//! may have covered is not written again.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, KIND_COMMITS, KIND_LINK, LINK_SECTORS, Link, usable_bytes,
};
use super::replay::LoggedGroup;
use crate::disk::Page;
use crate::format::bytes::{VARINT_BYTES_MAX, put_varint, varint, varint_bytes};
use crate::format::{Address, Extent, LogPosition, SequenceNumber, StoreId};

/// Buffers from this size on are saved as they are; smaller ones are copied, so that a small group
/// is one page and so one write.
const BUFFER_COPIED_BYTES_MAX: usize = 16 << 10;

/// How far apart remembered positions are. A checkpoint makes replay start at one of them.
const POSITION_BYTES_APART: u32 = 64 << 10;

/// The group does not fit the chunk in use nor a spare one: another is needed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NeedChunk {
    /// The least length of the chunk. More than a segment: the group can never be logged whole.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy)]
struct Chunk {
    extent: Extent,
    salt: u64,
}

/// The writing end of the log.
///
/// Pages that it gives must be saved in the order in which it gave them. When saving fails, the
/// same pages are saved again or the writer is given up: what it gives later builds on them.
pub(crate) struct LogWriter {
    store: StoreId,
    sector_bytes: u32,
    chunk_bytes: u32,
    /// Chunks that hold what is still needed, oldest first. The last one is written to.
    used: VecDeque<Chunk>,
    spares: VecDeque<Chunk>,
    /// The next group goes to another chunk, full or not.
    leaving: bool,
    /// Where the next group begins in the last chunk in use.
    offset: u32,
    chain: u32,
    next: SequenceNumber,
    synced_through: SequenceNumber,
    /// No sector that holds this commit or one before it is written again.
    sealed_through: SequenceNumber,
    /// Some positions of groups, oldest first, never empty.
    positions: VecDeque<LogPosition>,
}

impl LogWriter {
    /// A writer whose first group goes to the beginning of a prepared chunk and holds the commit
    /// `next`. The salt is random. Every commit before `next` must be durable: in the trees, or in
    /// a log that is not needed any more.
    ///
    /// `chunk_bytes` is how long chunks are unless a group needs more.
    pub(crate) fn new(
        store: StoreId,
        sector_bytes: u32,
        chunk_bytes: u32,
        chunk: Extent,
        salt: u64,
        next: SequenceNumber,
    ) -> Self {
        let mut writer = Self {
            store,
            sector_bytes,
            chunk_bytes,
            used: VecDeque::from([Chunk {
                extent: chunk,
                salt,
            }]),
            spares: VecDeque::new(),
            leaving: false,
            offset: 0,
            chain: 0,
            next,
            synced_through: SequenceNumber(next.0.saturating_sub(1)),
            sealed_through: SequenceNumber(next.0.saturating_sub(1)),
            positions: VecDeque::new(),
        };
        writer.positions.push_back(writer.position());
        writer
    }

    /// The largest records, in bytes, of one commit that segments of such a size can log.
    pub(crate) const fn commit_bytes_max(segment_bytes: u32, sector_bytes: u32) -> usize {
        usable_bytes(segment_bytes, sector_bytes) as usize - GROUP_HEADER_BYTES - VARINT_BYTES_MAX
    }

    /// The sequence of the next commit.
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        self.next
    }

    /// Makes one group of commits, numbered from `first` on, each given as the buffers of its
    /// records. Nothing has changed when a chunk is missing.
    ///
    /// `synced` says that a sync follows at once: as [`Self::begin_sync`] right after it would.
    pub(crate) fn append<C: AsRef<[Bytes]>>(
        &mut self,
        first: SequenceNumber,
        commits: &[C],
        synced: bool,
    ) -> Result<Vec<Page>, NeedChunk> {
        // As much as will be copied, so that the buffer is neither moved nor, without padding, larger
        // than what it holds: such a one is lent as it is.
        let mut copied = 0;
        for commit in commits {
            let lengths = commit.as_ref().iter().map(Bytes::len);
            copied += varint_bytes(lengths.clone().sum::<usize>() as u64);
            copied += lengths.filter(|bytes| is_copied(*bytes)).sum::<usize>();
        }
        if synced {
            copied += self.sector_bytes as usize;
        }
        let mut payload = Pieces::new(copied);
        for commit in commits {
            let buffers = commit.as_ref();
            let bytes: usize = buffers.iter().map(Bytes::len).sum();
            payload.push_length(bytes as u64);
            buffers.iter().for_each(|buffer| payload.push(buffer));
        }
        let synced_through = self.synced_through;
        self.append_group(first, commits.len(), payload, synced_through, synced)
    }

    /// Copies consecutive groups that replay accepted as one, before anything else is appended.
    /// `through` is the last sequence of all that will be copied; the caller syncs before it publishes
    /// the root that leads here, therefore the copy may claim to be synced.
    pub(crate) fn append_accepted(
        &mut self,
        groups: &[&LoggedGroup],
        through: SequenceNumber,
    ) -> Result<Vec<Page>, NeedChunk> {
        debug_assert!(groups.iter().all(|group| group.last() <= through));
        let mut payload = Pieces::new(0);
        let mut commits = 0;
        for group in groups {
            payload.push(&group.payload);
            commits += group.commits as usize;
        }
        let first = groups.first().map_or(self.next, |group| group.first);
        self.append_group(first, commits, payload, through, true)
    }

    fn append_group(
        &mut self,
        first: SequenceNumber,
        commits: usize,
        mut payload: Pieces,
        synced_through: SequenceNumber,
        synced: bool,
    ) -> Result<Vec<Page>, NeedChunk> {
        assert_eq!(
            first, self.next,
            "commits are logged in order, without gaps"
        );
        assert!(commits > 0, "a group holds a commit");
        let bytes = (GROUP_HEADER_BYTES + payload.bytes) as u64;
        let mut pages = Vec::with_capacity(payload.pieces());
        let full = u64::from(self.offset) + bytes > u64::from(self.usable(self.current()));
        if full || self.leaving {
            pages.push(self.move_on(bytes)?);
            self.leaving = false;
        }
        let (header, at) =
            self.begin_group(commits, payload.bytes, payload.checksum(), synced_through);
        if synced {
            let end = self.offset;
            self.seal();
            payload.pad((self.offset - end) as usize);
        }
        let mut to = at;
        for bytes in payload.into_buffers(&header) {
            let next = to.plus(bytes.len() as u32);
            pages.push(Page { at: to, bytes });
            to = next;
        }
        Ok(pages)
    }

    /// Appends one commit, which no sync follows, with so many bytes of records that a function puts
    /// into an empty buffer: the page, which ends with them. `None`, and nothing has changed: it takes
    /// another chunk.
    pub(crate) fn append_small(
        &mut self,
        bytes: usize,
        records: impl FnOnce(&mut &mut [u8]),
        buffer: &mut BytesMut,
    ) -> Option<Page> {
        let group_bytes = Self::group_bytes(bytes);
        let usable = u64::from(self.usable(self.current()));
        if self.leaving || u64::from(self.offset) + group_bytes as u64 > usable {
            return None;
        }
        debug_assert!(buffer.is_empty(), "what it holds goes into the page");
        buffer.resize(group_bytes, 0);
        let (header, payload) = buffer.split_at_mut(GROUP_HEADER_BYTES);
        let (length, taken) = varint(bytes as u64);
        let mut rest = &mut *payload;
        rest.put_slice(&length[..taken]);
        records(&mut rest);
        debug_assert!(rest.is_empty(), "there are as many bytes as was said");
        let checksum = crc32fast::hash(payload);
        let (encoded, at) = self.begin_group(1, payload.len(), checksum, self.synced_through);
        header.copy_from_slice(&encoded);
        let bytes = buffer.split().freeze();
        Some(Page { at, bytes })
    }

    /// The bytes of a group of one commit of so many bytes of records.
    pub(crate) fn group_bytes(record_bytes: usize) -> usize {
        GROUP_HEADER_BYTES + varint_bytes(record_bytes as u64) + record_bytes
    }

    /// The header of the next group, and where it goes. The group is within the chunk.
    fn begin_group(
        &mut self,
        commits: usize,
        payload_bytes: usize,
        payload_checksum: u32,
        synced_through: SequenceNumber,
    ) -> ([u8; GROUP_HEADER_BYTES], Address) {
        let position = self.position();
        let at = position.chunk.address.plus(self.offset);
        let header = GroupHeader {
            kind: KIND_COMMITS,
            salt: position.salt,
            first: self.next,
            synced_through,
            commits: u32::try_from(commits).expect("each commit takes a byte of a chunk"),
            payload_bytes: payload_bytes as u32,
            chain: self.chain,
            payload_checksum,
        };
        let (header, checksum) = header.encode(self.store, at);
        self.remember(position);
        self.offset += (GROUP_HEADER_BYTES + payload_bytes) as u32;
        self.chain = checksum;
        self.next = SequenceNumber(self.next.0 + commits as u64);
        (header, at)
    }

    fn seal(&mut self) {
        self.offset = self.offset.next_multiple_of(self.sector_bytes);
        self.sealed_through = SequenceNumber(self.next.0.saturating_sub(1));
    }

    /// To be called before a sync begins, when all that was appended so far has been saved: what is
    /// appended from now on touches none of its sectors. Gives the sequence through which the log
    /// is synced once the sync has succeeded.
    pub(crate) fn begin_sync(&mut self) -> SequenceNumber {
        self.seal();
        self.sealed_through
    }

    /// Says that a sync has succeeded that covers all commits through this one. It began after
    /// [`Self::begin_sync`], or an append that was said to be synced, and there it ends.
    pub(crate) fn synced_through(&mut self, sequence: SequenceNumber) {
        debug_assert!(
            sequence <= self.sealed_through,
            "a sync ends with what was sealed when it began"
        );
        self.synced_through = self.synced_through.max(sequence);
    }

    /// Gives the spare chunks back, and lets the next group go to a chunk that is added after this:
    /// for compaction, which wants the log elsewhere.
    pub(crate) fn leave_chunks(&mut self) -> Vec<Extent> {
        self.leaving = true;
        self.spares.drain(..).map(|spare| spare.extent).collect()
    }

    /// Ends the chunk in use with a link to the first spare one that holds a group of such a size.
    fn move_on(&mut self, group_bytes: u64) -> Result<Page, NeedChunk> {
        let fits = |spare: &Chunk| u64::from(self.usable(*spare)) >= group_bytes;
        let Some(index) = self.spares.iter().position(fits) else {
            return Err(NeedChunk {
                bytes: self.chunk_bytes_for(group_bytes),
            });
        };
        let spare = self.spares.remove(index).expect("an index just found");
        let link = Link {
            chunk: spare.extent,
            salt: spare.salt,
        }
        .to_bytes();
        let chunk = self.current();
        let header = GroupHeader {
            kind: KIND_LINK,
            salt: chunk.salt,
            first: self.next,
            synced_through: self.synced_through,
            commits: 0,
            payload_bytes: link.len() as u32,
            chain: self.chain,
            payload_checksum: crc32fast::hash(&link),
        };
        let at = chunk.extent.address.plus(self.usable(chunk));
        let mut bytes = Vec::new();
        for copy in 0..LINK_SECTORS {
            // Both copies carry the same chain, and the next chunk's first group carries it too:
            // either copy will do to read on.
            let (header, _) = header.encode(self.store, at.plus(copy * self.sector_bytes));
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(&link);
            bytes.resize(((copy + 1) * self.sector_bytes) as usize, 0);
        }
        self.used.push_back(spare);
        self.offset = 0;
        Ok(Page {
            at,
            bytes: bytes.into(),
        })
    }

    fn chunk_bytes_for(&self, group_bytes: u64) -> u64 {
        let sector = u64::from(self.sector_bytes);
        let least = group_bytes.next_multiple_of(sector) + u64::from(LINK_SECTORS) * sector;
        least.max(u64::from(self.chunk_bytes))
    }

    fn current(&self) -> Chunk {
        *self.used.back().expect("a writer has a chunk in use")
    }

    fn usable(&self, chunk: Chunk) -> u32 {
        usable_bytes(chunk.extent.length, self.sector_bytes)
    }

    /// Adds a spare chunk, prepared, that nothing needs any more. The salt is random, and drawn
    /// anew for each use.
    pub(crate) fn add_chunk(&mut self, chunk: Extent, salt: u64) {
        debug_assert!(chunk.length.is_multiple_of(self.sector_bytes));
        self.spares.push_back(Chunk {
            extent: chunk,
            salt,
        });
    }

    /// How many bytes of groups fit what is at hand.
    pub(crate) fn spare_bytes(&self) -> u64 {
        let spares = self
            .spares
            .iter()
            .map(|spare| u64::from(self.usable(*spare)));
        u64::from(self.usable(self.current()).saturating_sub(self.offset)) + spares.sum::<u64>()
    }

    /// Whether a spare chunk should be prepared ahead: there is none, the one in use is in use, and has
    /// less room than half of a usual one.
    pub(crate) fn wants_chunk(&self) -> bool {
        let usable = self.usable(self.current());
        let half = usable_bytes(self.chunk_bytes, self.sector_bytes) / 2;
        self.spares.is_empty() && self.offset > usable.saturating_sub(half)
    }

    /// Where the next group goes, or is linked from.
    pub(crate) fn position(&self) -> LogPosition {
        let chunk = self.current();
        LogPosition {
            chunk: chunk.extent,
            salt: chunk.salt,
            offset: self.offset,
            chain: self.chain,
            sequence: self.next,
        }
    }

    fn remember(&mut self, position: LogPosition) {
        let newest = self.positions.back().expect("never empty");
        let near = newest.chunk == position.chunk
            && position.offset - newest.offset < POSITION_BYTES_APART;
        if !near {
            self.positions.push_back(position);
        }
    }

    /// A position from which all commits from `sequence` on are replayed, and as few before it as
    /// is known. The oldest position if `sequence` is before it.
    pub(crate) fn position_at_or_before(&self, sequence: SequenceNumber) -> LogPosition {
        if sequence >= self.next {
            return self.position();
        }
        let later = self
            .positions
            .partition_point(|position| position.sequence <= sequence);
        self.positions[later.saturating_sub(1)]
    }

    /// Forgets everything before a position that this writer gave, and gives back the chunks that
    /// are not needed any more. They may be added again or released.
    ///
    /// The position is that of the older one of the two durable roots (I1).
    pub(crate) fn release_before(&mut self, position: &LogPosition) -> Vec<Extent> {
        let named = |chunk: &Chunk| chunk.extent == position.chunk && chunk.salt == position.salt;
        let Some(index) = self.used.iter().position(named) else {
            debug_assert!(false, "a position of a chunk that is not in use");
            return Vec::new();
        };
        while let [_, second, ..] = self.positions.make_contiguous() {
            if second.sequence > position.sequence {
                break;
            }
            self.positions.pop_front();
        }
        let front = self.positions.front_mut().expect("never empty");
        if front.sequence < position.sequence {
            *front = *position;
        }
        self.used.drain(..index).map(|chunk| chunk.extent).collect()
    }

    /// All chunks that belong to the log, the spare ones included.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Extent> {
        self.used
            .iter()
            .chain(&self.spares)
            .map(|chunk| chunk.extent)
    }
}

fn is_copied(bytes: usize) -> bool {
    bytes < BUFFER_COPIED_BYTES_MAX
}

/// A payload: large buffers as they are, what is between them in one buffer each.
struct Pieces {
    /// Room for the header, and what comes before the first large buffer: mostly everything.
    first: Vec<u8>,
    rest: Vec<Piece>,
    /// Without the header.
    bytes: usize,
}

enum Piece {
    Copied(Vec<u8>),
    Lent(Bytes),
}

impl Pieces {
    /// Nothing yet, with room for so many bytes in the first piece.
    fn new(room: usize) -> Self {
        let mut first = Vec::with_capacity(GROUP_HEADER_BYTES + room);
        first.extend_from_slice(&[0; GROUP_HEADER_BYTES]);
        Self {
            first,
            rest: Vec::new(),
            bytes: 0,
        }
    }

    fn pieces(&self) -> usize {
        1 + self.rest.len()
    }

    fn copied(&mut self) -> &mut Vec<u8> {
        if self.rest.is_empty() {
            return &mut self.first;
        }
        if !matches!(self.rest.last(), Some(Piece::Copied(_))) {
            self.rest.push(Piece::Copied(Vec::new()));
        }
        match self.rest.last_mut() {
            Some(Piece::Copied(piece)) => piece,
            _ => unreachable!("the last piece was just made one that is copied to"),
        }
    }

    fn push_length(&mut self, length: u64) {
        let piece = self.copied();
        let before = piece.len();
        put_varint(piece, length);
        let taken = piece.len() - before;
        self.bytes += taken;
    }

    fn push(&mut self, buffer: &Bytes) {
        self.bytes += buffer.len();
        if is_copied(buffer.len()) {
            self.copied().extend_from_slice(buffer);
        } else {
            self.rest.push(Piece::Lent(buffer.clone()));
        }
    }

    /// Appends zeros that do not count: they fill the group's last sector, so that the disk need
    /// not read the old one to write a part of it.
    fn pad(&mut self, zeros: usize) {
        if zeros > 0 {
            let piece = self.copied();
            piece.resize(piece.len() + zeros, 0);
        }
    }

    fn checksum(&self) -> u32 {
        let first = &self.first[GROUP_HEADER_BYTES..];
        if self.rest.is_empty() {
            return crc32fast::hash(first);
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(first);
        for piece in &self.rest {
            match piece {
                Piece::Copied(piece) => hasher.update(piece),
                Piece::Lent(piece) => hasher.update(piece),
            }
        }
        hasher.finalize()
    }

    fn into_buffers(mut self, header: &[u8; GROUP_HEADER_BYTES]) -> impl Iterator<Item = Bytes> {
        self.first[..GROUP_HEADER_BYTES].copy_from_slice(header);
        let rest = self.rest.into_iter().map(|piece| match piece {
            Piece::Copied(piece) => Bytes::from(piece),
            Piece::Lent(piece) => piece,
        });
        std::iter::once(Bytes::from(self.first)).chain(rest)
    }
}
