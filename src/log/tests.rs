//! The writer and replay together, over a small disk that tears what no sync covered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;

use super::format::{GROUP_HEADER_BYTES, GroupHeader, KIND_COMMITS, Link};
use super::replay::Replay;
use super::writer::{LogWriter, NeedChunk};
use crate::disk::{Buffer, Disk, DiskModel, Page, Properties, Release, Roots, block_on};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{Record, Tag};
use crate::format::{Address, Extent, LogPosition, RootVersion, SequenceNumber, StoreId};

const STORE: StoreId = StoreId([9; 16]);
const SECTOR: u32 = 512;
const SEGMENT: u32 = 256 << 10;
const CHUNK: u32 = 4 << 10;

/// One segment of memory, with what each sector holds on the medium beside what is read from it.
#[derive(Clone)]
struct TornDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

impl TornDisk {
    fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                seen: vec![0; SEGMENT as usize],
                durable: vec![0; SEGMENT as usize],
            })),
        }
    }

    fn disk(&self) -> Disk {
        Disk::new(self.clone()).unwrap()
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        edit(&mut self.state.lock().unwrap().seen)
    }

    fn save(&self, pages: Vec<Page>) {
        block_on(DiskModel::save(self, pages, false)).unwrap();
    }

    fn sync(&self) {
        block_on(DiskModel::sync(self)).unwrap();
    }

    /// Power fails: each sector not synced is old, new, a mixture or garbage.
    fn crash(&self, rng: &mut Rng) {
        let state = &mut *self.state.lock().unwrap();
        let sectors = state.durable.chunks_mut(SECTOR as usize);
        for (old, new) in sectors.zip(state.seen.chunks_mut(SECTOR as usize)) {
            if old != new {
                match rng.u8(..4) {
                    0 => {}
                    1 => old.copy_from_slice(new),
                    2 => {
                        let middle = rng.usize(..old.len());
                        old[middle..].copy_from_slice(&new[middle..]);
                    }
                    _ => rng.fill(old),
                }
                new.copy_from_slice(old);
            }
        }
    }
}

impl DiskModel for TornDisk {
    fn properties(&self) -> Properties {
        Properties::new(SEGMENT)
    }

    async fn read(&self, at: Address, mut into: Buffer) -> Result<Buffer> {
        let begin = at.offset() as usize;
        let end = begin + into.len();
        self.edit(|bytes| match bytes.get(begin..end) {
            Some(bytes) if at.segment() == 0 => {
                into.as_mut_slice().copy_from_slice(bytes);
                Ok(into)
            }
            _ => Err(Error::corrupt("nothing was written there")),
        })
    }

    async fn save(&self, pages: Vec<Page>, _: bool) -> Result<()> {
        self.edit(|bytes| {
            for page in pages {
                let begin = page.at.offset() as usize;
                bytes[begin..begin + page.bytes.len()].copy_from_slice(&page.bytes);
            }
        });
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        let state = &mut *self.state.lock().unwrap();
        state.durable.copy_from_slice(&state.seen);
        Ok(())
    }

    async fn release(&self, _: Vec<Release>) -> Result<()> {
        Ok(())
    }

    async fn load_root(&self) -> Result<Roots> {
        Ok(Roots::default())
    }

    async fn publish_root(&self, _: RootVersion, _: RootVersion, _: Bytes) -> Result<()> {
        Ok(())
    }
}

fn chunk(index: u32) -> Extent {
    Extent::new(Address::new(0, index * CHUNK), CHUNK)
}

fn writer() -> LogWriter {
    LogWriter::new(STORE, SECTOR, CHUNK, chunk(0), 77, SequenceNumber(1))
}

fn records(sequence: u64, bytes: usize) -> Bytes {
    let mut rng = Rng::with_seed(sequence);
    (0..bytes).map(|_| rng.u8(..)).collect()
}

/// Appends one commit with these records and saves its pages.
fn append(disk: &TornDisk, writer: &mut LogWriter, bytes: usize, synced: bool) {
    let first = writer.next_sequence();
    let pages = writer
        .append(first, &[[records(first.0, bytes)]], synced)
        .unwrap();
    disk.save(pages);
    if synced {
        disk.sync();
        writer.synced_through(first);
    }
}

fn read(disk: &TornDisk, position: &LogPosition) -> Result<Replay> {
    block_on(Replay::read(
        &disk.disk(),
        STORE,
        position,
        SequenceNumber(0),
    ))
}

fn contents(replay: &Replay) -> Vec<(u64, Bytes)> {
    let commits = replay.commits();
    commits
        .map(|commit| (commit.sequence.0, commit.records))
        .collect()
}

fn expected(first: u64, sizes: &[usize]) -> Vec<(u64, Bytes)> {
    (first..)
        .zip(sizes)
        .map(|(sequence, &bytes)| (sequence, records(sequence, bytes)))
        .collect()
}

#[track_caller]
fn corrupt(result: Result<Replay>) -> Error {
    let error = result.expect_err("an error was expected");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    error
}

#[test]
fn groups_of_several_commits_and_buffers_round_trip() {
    let disk = TornDisk::new();
    let extent = Extent::new(Address::new(0, 0), SEGMENT);
    let mut writer = LogWriter::new(STORE, SECTOR, CHUNK, extent, 5, SequenceNumber(40));
    let start = writer.position();
    let small = vec![records(1, 10), records(2, 0), records(3, 90)];
    let large = vec![records(4, 5), records(5, 20_000), records(6, 17_000)];
    let empty = vec![];
    let pages = writer
        .append(SequenceNumber(40), &[small.clone(), empty], false)
        .unwrap();
    assert_eq!(pages.len(), 1, "a small group is one page");
    disk.save(pages);
    let pages = writer
        .append(
            SequenceNumber(42),
            &[small.clone(), large.clone(), small.clone()],
            true,
        )
        .unwrap();
    assert!(
        pages
            .iter()
            .any(|page| page.bytes.as_ptr() == large[1].as_ptr()),
        "a large buffer is not copied"
    );
    disk.save(pages);
    let replay = read(&disk, &start).unwrap();
    let joined = |buffers: &[Bytes]| Bytes::from(buffers.concat());
    let want = [
        (40, joined(&small)),
        (41, Bytes::new()),
        (42, joined(&small)),
        (43, joined(&large)),
        (44, joined(&small)),
    ];
    assert_eq!(contents(&replay), want);
    assert_eq!(replay.last_sequence(), SequenceNumber(44));
    assert_eq!(replay.synced_through(), SequenceNumber(39));
}

#[test]
fn groups_are_packed_until_a_sync_begins() {
    let disk = TornDisk::new();
    let mut writer = writer();
    let start = writer.position();
    append(&disk, &mut writer, 20, false);
    let packed = writer.position().offset;
    assert!(packed < SECTOR);
    append(&disk, &mut writer, 20, false);
    assert_eq!(writer.begin_sync(), SequenceNumber(2));
    assert_eq!(writer.position().offset, SECTOR);
    append(&disk, &mut writer, 20, true);
    assert_eq!(writer.position().offset, 2 * SECTOR);
    let replay = read(&disk, &start).unwrap();
    assert_eq!(contents(&replay), expected(1, &[20, 20, 20]));
}

#[test]
fn a_log_goes_on_in_the_next_chunk() {
    let disk = TornDisk::new();
    let mut writer = writer();
    let start = writer.position();
    let first = SequenceNumber(1);
    let missing = writer.append(first, &[[records(1, 5000)]], true);
    assert_eq!(missing.unwrap_err().bytes, 5120 + 1024);
    let long = Extent::new(chunk(4).address, 6144);
    writer.add_chunk(chunk(1), 78);
    writer.add_chunk(long, 79);
    append(&disk, &mut writer, 5000, true);
    append(&disk, &mut writer, 2000, true);
    assert!(
        writer
            .append(SequenceNumber(3), &[[records(3, 3000)]], true)
            .is_err()
    );
    append(&disk, &mut writer, 200, true);
    let replay = read(&disk, &start).unwrap();
    assert_eq!(contents(&replay), expected(1, &[5000, 2000, 200]));
    assert_eq!(replay.chunks(), [chunk(0), long, chunk(1)]);
}

#[test]
fn positions_lead_to_all_that_is_asked_for_and_release_what_is_not() {
    let disk = TornDisk::new();
    let mut writer = writer();
    let sizes: Vec<usize> = (0..30).map(|index| 100 + 90 * (index % 7)).collect();
    for (index, &bytes) in sizes.iter().enumerate() {
        if writer.wants_chunk() {
            writer.add_chunk(chunk(writer.chunks().count() as u32), 100 + index as u64);
        }
        append(&disk, &mut writer, bytes, index % 3 == 0);
    }
    let chunks: Vec<_> = writer.chunks().collect();
    assert!(chunks.len() > 3);
    for sequence in 0..=31 {
        let position = writer.position_at_or_before(SequenceNumber(sequence));
        assert!(position.sequence.0 <= sequence.max(1));
        let from = position.sequence.0;
        let replay = read(&disk, &position).unwrap();
        assert_eq!(
            contents(&replay),
            expected(from, &sizes[from as usize - 1..])
        );
    }
    let position = writer.position_at_or_before(SequenceNumber(20));
    let released = writer.release_before(&position);
    assert!(!released.is_empty() && !released.contains(&position.chunk));
    assert_eq!(
        writer.position_at_or_before(SequenceNumber(1)).sequence,
        position.sequence
    );
    assert_eq!(released.len() + writer.chunks().count(), chunks.len());
    let end = writer.position();
    writer.release_before(&end);
    assert_eq!(writer.position_at_or_before(SequenceNumber(1)), end);
}

/// A log over two chunks, all of it synced but the last `loose` groups.
fn small_log(loose: usize) -> (TornDisk, LogPosition, Vec<(u64, Bytes)>) {
    let disk = TornDisk::new();
    let mut writer = writer();
    let start = writer.position();
    writer.add_chunk(chunk(2), 79);
    let sizes = [30, 700, 0, 900, 1000, 60, 60];
    for (index, &bytes) in sizes.iter().enumerate() {
        append(&disk, &mut writer, bytes, index + loose < sizes.len());
    }
    (disk, start, expected(1, &sizes))
}

#[test]
fn every_flipped_bit_of_a_synced_log_is_damage_unless_it_is_in_the_last_group() {
    let (disk, start, want) = small_log(0);
    assert_eq!(contents(&read(&disk, &start).unwrap()), want);
    let last = want.len() - 1;
    let (mut errors, mut torn) = (0, 0);
    for bit in 0..(3 * CHUNK as usize) * 8 {
        // One bit of each of most bytes, so that the test stays short.
        if bit % 8 != bit / 8 % 8 {
            continue;
        }
        disk.edit(|bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        match read(&disk, &start) {
            Ok(replay) => {
                let got = contents(&replay);
                if got.len() != want.len() {
                    torn += 1;
                    assert_eq!(got, want[..last], "bit {bit}");
                } else {
                    assert_eq!(got, want, "bit {bit}");
                }
            }
            Err(error) => {
                errors += 1;
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(error.extent().is_some());
            }
        }
        disk.edit(|bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
    let group = GROUP_HEADER_BYTES + 1;
    assert_eq!(torn, group + 60);
    let bytes: usize = want[..last].iter().map(|(_, records)| records.len()).sum();
    let two_byte_lengths = 3;
    assert_eq!(errors, last * group + two_byte_lengths + bytes);
}

#[test]
fn a_log_cut_anywhere_reads_as_a_prefix() {
    for loose in [0, 3] {
        let (disk, start, want) = small_log(loose);
        let whole = disk.edit(|bytes| bytes.clone());
        for length in (0..3 * CHUNK as usize).rev() {
            for filler in [0, 0xa5] {
                disk.edit(|bytes| bytes[length] = filler);
                match read(&disk, &start) {
                    Ok(replay) => {
                        let got = contents(&replay);
                        assert_eq!(got, want[..got.len()]);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
                }
                if length % 16 != 0 {
                    break;
                }
            }
        }
        disk.edit(|bytes| *bytes = whole);
        assert_eq!(contents(&read(&disk, &start).unwrap()), want);
    }
}

#[test]
fn groups_that_reached_the_disk_out_of_order_are_a_torn_end() {
    let disk = TornDisk::new();
    let mut writer = writer();
    let start = writer.position();
    append(&disk, &mut writer, 50, true);
    let torn = writer.position().offset as usize;
    append(&disk, &mut writer, 600, false);
    append(&disk, &mut writer, 600, false);
    append(&disk, &mut writer, 600, false);
    disk.edit(|bytes| bytes[torn + 300] ^= 1);
    let replay = read(&disk, &start).unwrap();
    assert_eq!(contents(&replay), expected(1, &[50]));
}

#[test]
fn a_later_header_shows_damage_even_when_its_own_payload_is_torn() {
    let disk = TornDisk::new();
    let mut writer = writer();
    let start = writer.position();
    append(&disk, &mut writer, 50, false);
    let torn_at = Address::new(0, writer.position().offset);
    writer.begin_sync();
    append(&disk, &mut writer, 600, true);
    let later = writer.position().offset as usize;
    append(&disk, &mut writer, 600, false);
    disk.edit(|bytes| {
        bytes[later + 512..later + 700].fill(0);
        bytes[600] ^= 1;
    });
    let error = corrupt(read(&disk, &start));
    assert_eq!(error.extent().unwrap().address, torn_at);
    // The first sector of the later group was torn as well: nothing refers to the second group.
    disk.edit(|bytes| bytes[later] ^= 1);
    let replay = read(&disk, &start).unwrap();
    assert_eq!(contents(&replay), expected(1, &[50]));
}

#[test]
fn damage_at_the_end_of_a_chunk_is_shown_by_the_next_chunk() {
    let (disk, start, want) = small_log(0);
    let second = read(&disk, &start).unwrap().chunks()[1];
    assert_eq!(second, chunk(2));
    // The last group of the first chunk, and one copy of the link.
    let usable = (CHUNK - 2 * SECTOR) as usize;
    for copy in 0..2 {
        let link = usable + copy * SECTOR as usize;
        disk.edit(|bytes| bytes[link + 60] ^= 1);
        assert_eq!(contents(&read(&disk, &start).unwrap()), want);
        disk.edit(|bytes| bytes[usable - 900] ^= 1);
        corrupt(read(&disk, &start));
        disk.edit(|bytes| {
            bytes[usable - 900] ^= 1;
            bytes[link + 60] ^= 1;
        });
    }
}

#[test]
fn what_the_root_says_was_synced_must_be_there() {
    let (disk, start, want) = small_log(0);
    let through = |sequence| {
        block_on(Replay::read(
            &disk.disk(),
            STORE,
            &start,
            SequenceNumber(sequence),
        ))
    };
    let all = through(want.len() as u64).unwrap();
    assert!(all.commits().all(|commit| commit.synced));
    corrupt(through(want.len() as u64 + 1));
}

/// Writes a group with a header of one's own choosing at the start of the first chunk.
fn forge(disk: &TornDisk, payload: &[u8], change: impl FnOnce(&mut GroupHeader)) {
    let mut header = GroupHeader {
        kind: KIND_COMMITS,
        salt: 77,
        first: SequenceNumber(1),
        synced_through: SequenceNumber(0),
        commits: 1,
        payload_bytes: payload.len() as u32,
        chain: 0,
        payload_checksum: crc32fast::hash(payload),
    };
    change(&mut header);
    let at = Address::new(0, 0);
    let mut bytes = header.encode(STORE, at).0.to_vec();
    bytes.extend_from_slice(payload);
    disk.save(vec![Page {
        at,
        bytes: bytes.into(),
    }]);
}

#[test]
fn groups_that_verify_but_make_no_sense_are_corrupt() {
    let disk = TornDisk::new();
    let start = writer().position();
    forge(&disk, &[1, 42], |_| {});
    assert_eq!(read(&disk, &start).unwrap().commits().count(), 1);
    forge(&disk, &[1, 42], |header| header.first = SequenceNumber(2));
    assert!(
        corrupt(read(&disk, &start))
            .to_string()
            .contains("commit 2")
    );
    forge(&disk, &[1, 42], |header| header.kind = 3);
    corrupt(read(&disk, &start));
    forge(&disk, &[1, 42], |header| header.commits = 2);
    corrupt(read(&disk, &start));
    forge(&disk, &[], |header| header.commits = 0);
    corrupt(read(&disk, &start));
    forge(&disk, &[2, 42], |_| {});
    corrupt(read(&disk, &start));
    forge(&disk, &[1, 42], |header| header.payload_bytes = u32::MAX);
    corrupt(read(&disk, &start));
    forge(&disk, &[1, 42], |header| {
        header.synced_through = SequenceNumber(9);
    });
    corrupt(read(&disk, &start));
}

#[test]
fn links_that_lead_back_or_nowhere_are_corrupt() {
    let away = [
        chunk(0),
        Extent::new(Address::new(0, CHUNK - SECTOR), CHUNK),
        Extent::new(Address::new(0, SEGMENT - SECTOR), CHUNK),
        Extent::new(Address::new(7, 0), CHUNK),
        Extent::new(Address::new(u32::MAX, u32::MAX - 511), u32::MAX - 511),
        Extent::new(Address::new(0, CHUNK + 7), CHUNK),
        Extent::new(chunk(1).address, 2 * SECTOR),
        Extent::new(chunk(1).address, 0),
    ];
    for to in away {
        let disk = TornDisk::new();
        let payload = Link {
            chunk: to,
            salt: 77,
        }
        .to_bytes();
        let at = Address::new(0, CHUNK - 2 * SECTOR);
        let header = GroupHeader {
            kind: super::format::KIND_LINK,
            salt: 77,
            first: SequenceNumber(1),
            synced_through: SequenceNumber(0),
            commits: 0,
            payload_bytes: payload.len() as u32,
            chain: 0,
            payload_checksum: crc32fast::hash(&payload),
        };
        let mut bytes = header.encode(STORE, at).0.to_vec();
        bytes.extend_from_slice(&payload);
        disk.save(vec![Page {
            at,
            bytes: bytes.into(),
        }]);
        corrupt(read(&disk, &writer().position()));
    }
}

#[test]
fn a_recycled_chunk_shows_nothing_of_its_earlier_use() {
    let (disk, _, _) = small_log(0);
    let fresh = LogWriter::new(STORE, SECTOR, CHUNK, chunk(0), 1234, SequenceNumber(1));
    let replay = read(&disk, &fresh.position()).unwrap();
    assert_eq!(replay.commits().count(), 0);
    assert_eq!(replay.last_sequence(), SequenceNumber(0));
    // Nor when the groups before are equal to those of the earlier use.
    let mut fresh = fresh;
    let start = fresh.position();
    append(&disk, &mut fresh, 30, true);
    let replay = read(&disk, &start).unwrap();
    assert_eq!(contents(&replay), expected(1, &[30]));
}

/// Copies what a replay accepted into a new log, as recovery does.
fn copy(disk: &TornDisk, replay: &Replay, to: Extent, salt: u64) -> LogWriter {
    let groups = replay.groups();
    let next = SequenceNumber(replay.last_sequence().0 + 1);
    let first = groups.first().map_or(next, |group| group.first);
    let mut writer = LogWriter::new(STORE, SECTOR, CHUNK, to, salt, first);
    for group in groups {
        let pages = writer.append_accepted(&[group], replay.last_sequence());
        disk.save(pages.expect("room for all"));
    }
    writer
}

#[test]
fn a_log_is_cut_twice_in_a_row_and_what_was_cut_never_comes_back() {
    let disk = TornDisk::new();
    let mut writer = writer();
    let start = writer.position();
    append(&disk, &mut writer, 10, true);
    let commits: Vec<_> = (2..6).map(|sequence| [records(sequence, 10)]).collect();
    disk.save(writer.append(SequenceNumber(2), &commits, false).unwrap());
    append(&disk, &mut writer, 10, false);

    let mut replay = read(&disk, &start).unwrap();
    let error = replay.cut_before(SequenceNumber(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    replay.cut_before(SequenceNumber(4)).unwrap();
    assert_eq!(contents(&replay), expected(1, &[10, 10, 10]));

    let mut writer = copy(&disk, &replay, chunk(3), 80);
    let position = writer.position_at_or_before(SequenceNumber(1));
    let mut again = read(&disk, &position).unwrap();
    assert_eq!(contents(&again), expected(1, &[10, 10, 10]));
    // The copy claims to be synced: nothing of it can be cut, only what follows.
    assert!(again.cut_before(SequenceNumber(3)).is_err());
    append(&disk, &mut writer, 20, false);
    append(&disk, &mut writer, 20, false);
    let mut replay = read(&disk, &position).unwrap();
    assert_eq!(replay.commits().count(), 5);
    replay.cut_before(SequenceNumber(4)).unwrap();

    // Back to the first chunk, over what was cut there.
    let writer = copy(&disk, &replay, chunk(0), 81);
    let position = writer.position_at_or_before(SequenceNumber(1));
    let replay = read(&disk, &position).unwrap();
    assert_eq!(contents(&replay), expected(1, &[10, 10, 10]));
    assert_eq!(replay.last_sequence(), SequenceNumber(3));
}

#[test]
fn damage_to_the_last_copied_group_is_damage() {
    let (disk, start, want) = small_log(0);
    let replay = read(&disk, &start).unwrap();
    let long = Extent::new(chunk(8).address, 2 * CHUNK);
    let writer = copy(&disk, &replay, long, 90);
    let position = writer.position_at_or_before(SequenceNumber(1));
    assert_eq!(contents(&read(&disk, &position).unwrap()), want);
    let end = writer.position();
    disk.edit(|bytes| bytes[(end.chunk.address.offset() + end.offset - SECTOR) as usize + 55] ^= 1);
    corrupt(read(&disk, &position));
}

/// A store reduced to its log: what is synced must survive any crash, also those in recovery.
#[test]
fn what_was_synced_survives_crashes_and_crashes_of_recovery() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let result = std::panic::catch_unwind(move || crash_script(&mut rng));
        assert!(result.is_ok(), "failed with seed {seed}");
    }
}

fn crash_script(rng: &mut Rng) {
    let disk = TornDisk::new();
    let mut root = LogWriter::new(
        STORE,
        SECTOR,
        CHUNK,
        chunk(0),
        rng.u64(..),
        SequenceNumber(1),
    )
    .position();
    let mut model: BTreeMap<u64, Bytes> = BTreeMap::new();
    let mut acknowledged = 0;
    for _ in 0..6 {
        // Recovery, perhaps crashing before its root is published.
        let mut writer = loop {
            let mut replay = read(&disk, &root).unwrap();
            let last = replay.last_sequence().0;
            assert!(last >= acknowledged, "lost {acknowledged}, has {last}");
            for (sequence, records) in contents(&replay) {
                assert_eq!(model.get(&sequence), Some(&records));
            }
            if last > acknowledged && last > replay.synced_through().0 && rng.bool() {
                let least = acknowledged.max(replay.synced_through().0) + 1;
                let cut = rng.u64(least..=last);
                replay.cut_before(SequenceNumber(cut)).unwrap();
            }
            let mut free = free_chunks(replay.chunks());
            let first = replay.groups().first();
            let next = SequenceNumber(replay.last_sequence().0 + 1);
            let mut writer = LogWriter::new(
                STORE,
                SECTOR,
                CHUNK,
                free.pop().unwrap(),
                rng.u64(..),
                first.map_or(next, |group| group.first),
            );
            let position = writer.position();
            for group in replay.groups() {
                let pages = loop {
                    match writer.append_accepted(&[group], replay.last_sequence()) {
                        Ok(pages) => break pages,
                        Err(NeedChunk { .. }) => {
                            writer.add_chunk(free.pop().unwrap(), rng.u64(..));
                        }
                    }
                };
                disk.save(pages);
            }
            if rng.u8(..3) == 0 {
                disk.crash(rng);
                continue;
            }
            disk.sync();
            root = position;
            acknowledged = replay.last_sequence().0;
            model.split_off(&(acknowledged + 1));
            if rng.u8(..3) == 0 {
                disk.crash(rng);
                continue;
            }
            break writer;
        };
        for _ in 0..rng.usize(..25) {
            let first = writer.next_sequence();
            let commits: Vec<[Bytes; 1]> = (0..rng.u64(1..4))
                .map(|index| {
                    let size = if rng.u8(..4) == 0 { 600 } else { 60 };
                    [records(rng.u64(..) ^ index, rng.usize(..size))]
                })
                .collect();
            let synced = rng.u8(..3) == 0;
            let pages = loop {
                match writer.append(first, &commits, synced) {
                    Ok(pages) => break pages,
                    Err(NeedChunk { .. }) => {
                        let used: Vec<_> = writer.chunks().collect();
                        writer.add_chunk(free_chunks(&used).pop().unwrap(), rng.u64(..));
                    }
                }
            };
            model.extend((first.0..).zip(commits.into_iter().map(|[records]| records)));
            disk.save(pages);
            if synced || rng.u8(..6) == 0 {
                let through = writer.begin_sync();
                // A sync may fail to return before the power does.
                if rng.u8(..8) == 0 {
                    break;
                }
                disk.sync();
                writer.synced_through(through);
                acknowledged = through.0;
            }
            if rng.u8(..6) == 0 {
                // A checkpoint; the root before it is as if it did not exist.
                disk.sync();
                let sequence = rng.u64(root.sequence.0..=acknowledged.max(root.sequence.0));
                root = writer.position_at_or_before(SequenceNumber(sequence));
                let released = writer.release_before(&root);
                for chunk in released {
                    if rng.bool() {
                        writer.add_chunk(chunk, rng.u64(..));
                    }
                }
            }
        }
        disk.crash(rng);
    }
}

fn free_chunks(used: &[Extent]) -> Vec<Extent> {
    (0..SEGMENT / CHUNK)
        .map(chunk)
        .filter(|chunk| !used.contains(chunk))
        .collect()
}

#[test]
fn random_damage_gives_a_prefix_or_an_error() {
    for seed in 0..2000 {
        let mut rng = Rng::with_seed(seed);
        let (disk, start, want) = small_log(rng.usize(..7));
        disk.edit(|bytes| {
            for _ in 0..rng.usize(1..4) {
                let begin = rng.usize(..3 * CHUNK as usize);
                let from = rng.usize(..3 * CHUNK as usize);
                let length = rng.usize(1..1000);
                match rng.u8(..3) {
                    0 => rng.fill(&mut bytes[begin..begin + length]),
                    1 => bytes[begin..begin + length].fill(0),
                    _ => bytes.copy_within(from..from + length, begin),
                }
            }
        });
        match read(&disk, &start) {
            Ok(replay) => {
                let got = contents(&replay);
                assert_eq!(got, want[..got.len()], "seed {seed}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "seed {seed}"),
        }
    }
}

#[test]
fn a_single_record_is_logged_as_any_other_commit() {
    let chunk = Extent::new(Address::new(0, 0), CHUNK);
    let writer = || LogWriter::new(STORE, SECTOR, CHUNK, chunk, 7, SequenceNumber(1));
    let (mut single, mut any) = (writer(), writer());
    let mut buffer = BytesMut::new();
    for number in 1.. {
        let (key, payload) = (&[3; 5], &vec![number as u8; 31 * number as usize % 300]);
        let record = Record {
            tag: Tag::Inline,
            tree: 0,
            key,
            payload,
        };
        let mut encoded = Vec::new();
        record.append_to(&mut encoded);
        let bytes = encoded.len();
        let commit = [Bytes::from(encoded)];
        let page = single.append_small(bytes, |to| record.append_to(to), &mut buffer);
        assert_eq!(page.is_some(), single.position() != any.position());
        let Some(page) = page else {
            let needs = any.append(SequenceNumber(number), &[&commit], false);
            assert!(needs.is_err(), "the chunk is full");
            assert!(number > 10);
            break;
        };
        assert_eq!(page.bytes.len(), LogWriter::group_bytes(bytes));
        assert!(page.bytes.ends_with(&commit[0]));
        let pages = any.append(SequenceNumber(number), &[&commit], false);
        let [expected] = &pages.unwrap()[..] else {
            panic!("a small group is one page");
        };
        assert_eq!((page.at, &page.bytes), (expected.at, &expected.bytes));
        assert_eq!(single.position(), any.position());
        if number % 4 == 0 {
            let synced = single.begin_sync();
            assert_eq!(any.begin_sync(), synced);
            single.synced_through(synced);
            any.synced_through(synced);
        }
    }
    single.leave_chunks();
    let record = Record {
        tag: Tag::Delete,
        tree: 0,
        key: &[],
        payload: &[],
    };
    let bytes = record.encoded_bytes();
    let page = single.append_small(bytes, |to| record.append_to(to), &mut buffer);
    assert!(page.is_none());
}
