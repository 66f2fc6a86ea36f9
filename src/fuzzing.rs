//! Entries for the fuzz targets in `fuzz/`, which reach what is private. **Not part of the stable
//! interface.**
//!
//! Checksums are mended before what they guard is read: they would keep a fuzzer out, but not
//! somebody hostile. Nothing may panic; what is accepted must be usable.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::disk::{Disk, DiskModel, MemoryDisk, Page as SavedPage, block_on};
use crate::error::Result;
use crate::format::record::{Record, USER_TREE};
use crate::format::{
    Address, Birth, Extent, LogPosition, PagePointer, SequenceNumber, Settings, StoreId,
    page_checksum,
};
use crate::log::replay::Replay;
use crate::snapshot::names::{NameKey, Named, check_record};
use crate::space::kept;
use crate::store::{Durability, Maintenance, Options, Snapshot, Store};
use crate::tree::interior::Interior;
use crate::tree::journal::Journal;
use crate::tree::page::Page;
use crate::tree::pages::check;
use crate::tree::slice::Slice;
use crate::value::{Compression, DiskPages, Shape, Splice, ValueReader, ValueWriter, each_extent};

/// Takes bytes for a page: if it passes the check, searches it and reads all of it.
pub fn page(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let Ok(count) = u32::try_from(bytes.len()) else {
        return;
    };
    let Some(length) = bytes.get_mut(4..8) else {
        return;
    };
    length.copy_from_slice(&count.to_le_bytes());
    let Some(birth) = bytes.get(8..16).and_then(|birth| birth.first_chunk()) else {
        return;
    };
    let pointer = PagePointer {
        birth: Birth(u64::from_le_bytes(*birth)),
        length: count,
        ..PagePointer::NOTHING
    };
    if check(&pointer, &bytes).is_err() {
        return;
    }
    let page = Page::new(&bytes);
    let mut before: Option<Vec<u8>> = None;
    for index in 0..page.slots() {
        let key = page.key(index);
        assert!(before.as_ref().is_none_or(|before| *before < key));
        assert_eq!(page.search(&key), Ok(index));
        assert_eq!(page.at_or_after(&key), index);
        assert_eq!(page.after(&key), index + 1);
        if bytes[0] != 2 {
            let slot = page.slot(index);
            let _ = Page::tag(&slot);
            let _ = page.sequence(&slot);
        }
        before = Some(key);
    }
    let keys = [&[][..], &[255; 9], page.prefix(), &bytes[..16]];
    for key in keys {
        let _ = page.search(key);
    }
    match bytes[0] {
        2 => {
            let node = Interior::new(&bytes);
            for key in keys {
                assert!(node.child_of(key) < node.children());
                assert!(node.child_before(key) < node.children());
            }
            for child in 0..node.children() {
                let _ = node.pointer(child);
            }
            for run in node.runs() {
                let _ = run.live_operations();
                for child in 0..node.children() {
                    let _ = run.pending_units(child);
                    let _ = run.slice_of(child);
                }
            }
        }
        3 => {
            let slice = Slice::new(&bytes);
            let _ = slice.covers(b"a key");
            assert_eq!(slice.range_deletes().count(), page.extra_count());
        }
        _ => {}
    }
}

/// Takes bytes for the key and the value of a name of a snapshot: what is accepted says the same when it
/// is written again.
pub fn name(bytes: &[u8]) {
    let (length, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let (key, value) = rest.split_at(rest.len().min((*length).into()));
    if let Some(parsed) = NameKey::parse(key) {
        assert_eq!(parsed.to_bytes(), key);
    }
    if let Ok(named) = Named::from_value(value) {
        let entries = named.entries(b"name");
        assert_eq!(entries[0].1, value);
        let (key, value) = &entries[1];
        let by_time = Named::from_time_entry(key, value);
        assert_eq!(by_time.ok(), Some((b"name".to_vec(), named)));
    }
    let _ = Named::from_time_entry(key, value);
    if let Ok((record, _)) = Record::read(rest) {
        let _ = check_record(&record);
    }
    let _ = kept::parse(key, value);
}

/// How many things are done at most to the system tree of a store.
const CHANGES_MAX: usize = 16;
/// Kinds of entries of the system tree: names, and what is kept for them.
const KINDS: std::ops::Range<u8> = 16..31;
/// How much is read at most of a tree that may name one page from many places.
const READ_MAX: usize = 100;

/// Takes bytes for what somebody did to the system tree of a store with names, branches, restored
/// versions and clones, whose pages all verify: whatever is done with the store then is an error, or done.
pub fn catalogue(bytes: &[u8]) {
    let disk = MemoryDisk::new().with_segment_bytes(256 << 10);
    let options = Options::new()
        .settings(Settings::tiny())
        .maintenance(Maintenance::Caller)
        .durability(Durability::Buffered)
        .journal_bytes(512)
        .reserve_bytes(0)
        .cache_bytes(1 << 20);
    let store = options.open_disk(disk.clone()).expect("an empty disk");
    keep_versions(&store).expect("a store in memory");
    let entries = store.system_entries().expect("a sound store");
    let changed = store.change_system(changes(bytes, &entries));
    drop(store);
    if changed.is_err() {
        return;
    }
    for options in [options.clone().read_only(), options] {
        if let Ok(store) = options.open_disk(disk.clone()) {
            use_versions(&store);
        }
    }
}

/// Versions of all kinds.
fn keep_versions(store: &Store) -> Result<()> {
    let (snapshots, branches) = (store.snapshots(), store.branches());
    for number in 0..6u8 {
        store.put([number], vec![number; 900]).wait()?;
        store.put([number, 1], [number; 30]).wait()?;
    }
    store.put("large", [9; 5_000]).wait()?;
    snapshots.save_with("first", "beside").wait()?;
    let mut transaction = store.begin().wait()?;
    transaction.put("late", [8; 700]).wait()?;
    store.clone_range("large", "clone").wait()?;
    snapshots.save("second").wait()?;
    store.put([2], [7; 800]).wait()?;
    snapshots.save("third").wait()?;
    store.checkpoint().wait()?;
    transaction.commit().wait()?;
    snapshots.save("fourth").wait()?;
    let branch = branches.create("branch", "second").wait()?;
    let mut transaction = branch.begin().wait()?;
    transaction.put([3], [6; 1_000]).wait()?;
    transaction.delete("large").wait()?;
    transaction.commit().wait()?;
    branch.save("of the branch").wait()?;
    branches.create("other", "of the branch").wait()?;
    snapshots.restore("first", "before").wait()?;
    store.delete_range(..[2]).wait()?;
    snapshots.delete("second").wait()?;
    for _ in 0..3 {
        store.put("again", [1; 100]).wait()?;
        store.checkpoint().wait()?;
        while store.maintain().wait()? {}
    }
    Ok(())
}

/// What bytes do to some entries.
fn changes(bytes: &[u8], entries: &[(Vec<u8>, Vec<u8>)]) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let mut bytes = bytes.iter().copied();
    let mut changes = BTreeMap::new();
    while let Some(what) = bytes.next()
        && changes.len() < CHANGES_MAX
    {
        let mut next = || usize::from(bytes.next().unwrap_or(0));
        let (mut key, mut value) = entries[(next() | next() << 8) % entries.len()].clone();
        match what % 5 {
            0 => drop(changes.insert(key, None)),
            1 => {
                let at = next() % value.len().max(1);
                if let Some(byte) = value.get_mut(at) {
                    *byte ^= next() as u8;
                }
                changes.insert(key, Some(value));
            }
            2 => {
                let at = next();
                if let Some(place) = value.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                    *place = number(next()).to_le_bytes();
                }
                changes.insert(key, Some(value));
            }
            3 => {
                let at = next() % key.len().max(1);
                if let Some(byte) = key.get_mut(at) {
                    *byte ^= next() as u8;
                }
                changes.insert(key, Some(value));
            }
            _ => {
                // The first piece of something with numbers in its key.
                let kind = KINDS.start + next() as u8 % (KINDS.end - KINDS.start);
                let mut key = vec![kind];
                for _ in 0..next() % 4 {
                    key.extend_from_slice(&number(next()).to_be_bytes());
                }
                key.extend_from_slice(&[0; 4]);
                let length = next() % 65;
                let value = (0..length).map(|_| next() as u8).collect();
                changes.insert(key, Some(value));
            }
        }
    }
    changes
}

/// Small ones, and those at the end.
fn number(from: usize) -> u64 {
    match from {
        0..128 => from as u64,
        _ => u64::MAX - (255 - from as u64),
    }
}

/// Does whatever can be done with versions that are kept.
fn use_versions(store: &Store) {
    let verify = || {
        let _ = store.verify(|_| ControlFlow::Continue(())).wait();
    };
    verify();
    let (snapshots, branches) = (store.snapshots(), store.branches());
    let some = |snapshot: &Snapshot| {
        let entries = snapshot.iter().take(READ_MAX);
        let _ = entries.take_while(Result::is_ok).count();
    };
    let mut names: Vec<Vec<u8>> = Vec::new();
    for list in [snapshots.list(), snapshots.by_time(..)] {
        let infos = list.take(READ_MAX).map_while(Result::ok);
        names.extend(infos.map(|info| info.name));
    }
    let mut opened = Vec::new();
    for name in &names {
        let _ = snapshots.sizes(name).wait();
        opened.extend(snapshots.open(name).wait());
    }
    let listed = branches.list().wait().unwrap_or_default();
    for info in &listed {
        if let Ok(branch) = branches.open(&info.name).wait() {
            opened.extend(branch.snapshot().wait());
        }
    }
    opened.iter().for_each(some);
    for pair in opened.windows(2) {
        let differences = pair[0].diff(&pair[1]).into_iter().flatten();
        let _ = differences.take(READ_MAX).take_while(Result::is_ok).count();
    }
    drop(opened);
    let _ = store.put("key", [5; 700]).wait();
    let _ = store.clone_range("large", "another").wait();
    let _ = snapshots.save("new").wait();
    let _ = store.checkpoint().wait();
    for info in &listed {
        if let Ok(branch) = branches.open(&info.name).wait()
            && let Ok(mut transaction) = branch.begin().wait()
        {
            let _ = transaction.put("key", "of the branch").wait();
            let _ = transaction.commit().wait();
            let _ = branch.save([&info.name[..], b", saved"].concat()).wait();
        }
    }
    for (number, name) in names.iter().enumerate() {
        let _ = match number % 3 {
            0 => branches.create([number as u8], name).wait().map(drop),
            1 => snapshots.restore(name, [number as u8]).wait().map(drop),
            _ => snapshots.rename(name, [number as u8]).wait(),
        };
    }
    let _ = store.compact().wait();
    for info in &listed {
        let _ = branches.delete(&info.name).wait();
    }
    let _ = snapshots.delete_range(..).wait();
    let _ = store.delete_range(..).wait();
    for _ in 0..3 {
        let _ = store.put("again", "and again").wait();
        let _ = store.checkpoint().wait();
        let _ = store.maintain().wait();
    }
    let _ = store.compact().wait();
    verify();
}

const STORE: StoreId = StoreId([7; 16]);
const SALT: u64 = 11;
const SECTOR_BYTES: usize = 512;
const CHUNK_BYTES: usize = 8 << 10;

/// Takes bytes for a chunk of the log: replays it, and enters what it holds into a journal.
pub fn log(bytes: &[u8]) {
    let mut chunk = bytes.to_vec();
    chunk.resize(CHUNK_BYTES, 0);
    mend_groups(&mut chunk);
    let extent = Extent::new(Address::new(0, 0), CHUNK_BYTES as u32);
    let memory = MemoryDisk::new().with_segment_bytes(64 << 10);
    let saved = SavedPage {
        at: extent.address,
        bytes: chunk.into(),
    };
    let replayed = block_on(async {
        memory.save(vec![saved], true).await?;
        let disk = Disk::new(memory)?;
        let position = LogPosition {
            chunk: extent,
            salt: SALT,
            offset: 0,
            chain: 0,
            sequence: SequenceNumber(1),
        };
        Replay::read(&disk, STORE, &position, SequenceNumber(0)).await
    });
    let Ok(mut replay) = replayed else { return };
    let journal = Journal::new(CHUNK_BYTES);
    for commit in replay.commits() {
        let mut at = 0;
        while let Some(rest) = commit.records.get(at..).filter(|rest| !rest.is_empty()) {
            match Record::read(rest) {
                Ok((_, taken)) => at += taken,
                Err(_) => break,
            }
        }
        let _ = journal.append(commit.records, USER_TREE, commit.sequence);
    }
    let _ = journal.range_deletes(SequenceNumber(u64::MAX));
    let middle = SequenceNumber(replay.last_sequence().0.div_ceil(2).max(1));
    if replay.cut_before(middle).is_ok() {
        assert!(replay.commits().all(|commit| commit.sequence < middle));
    }
}

/// Makes whatever begins like a group verify. See the tables of the log's format.
fn mend_groups(chunk: &mut [u8]) {
    let (mut at, mut chain) = (0, 0u32);
    while let Some(bytes) = chunk.get_mut(at..).filter(|bytes| bytes.len() > 52) {
        if bytes[..4] != *b"ThGr" {
            at = (at + 1).next_multiple_of(SECTOR_BYTES);
            continue;
        }
        let (header, rest) = bytes.split_at_mut(52);
        header[8..16].copy_from_slice(&SALT.to_le_bytes());
        header[40..44].copy_from_slice(&chain.to_le_bytes());
        let length = u32::from_le_bytes([header[36], header[37], header[38], header[39]]);
        let payload = rest.get(..length as usize);
        if let Some(payload) = payload {
            header[44..48].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&STORE.0);
        hasher.update(&Address::new(0, at as u32).to_bits().to_le_bytes());
        hasher.update(&header[..48]);
        chain = hasher.finalize();
        header[48..52].copy_from_slice(&chain.to_le_bytes());
        at += 52 + payload.map_or(SECTOR_BYTES, <[u8]>::len);
    }
}

/// The segments of the disk that a value is on; the first one has the bytes of the fuzzer.
const SEGMENT_BYTES: u32 = 64 << 10;
const BLOCK_BYTES: u64 = 512;
const VALUE_BYTES_MAX: u64 = 1 << 20;
/// How many index pages are mended at most: they can name each other in circles.
const PAGES_MENDED_MAX: u32 = 64;
/// See [`crate::format::values`].
const INDEX_HEADER_BYTES: usize = 24;
const DATA_ENTRY_BYTES: usize = 24;
const CHILD_ENTRY_BYTES: usize = 40;

/// Takes bytes for a value with an index, compressed or not: reads it, goes through what it consists of,
/// and changes a part of it. What can be read whole reads the same in parts, and after the change.
pub fn value(bytes: &[u8]) {
    let Some((shape, content)) = bytes.split_first_chunk::<7>() else {
        return;
    };
    let number = |at: usize| u64::from(u16::from_le_bytes([shape[at], shape[at + 1]]));
    let (depth, codec) = (1 + shape[0] % 3, shape[1] % 3);
    let length = (number(2) * (1 + u64::from(shape[4]))) % VALUE_BYTES_MAX + 1;
    let page_bytes = (number(5) % u64::from(SEGMENT_BYTES)) as u32;
    let mut content = content.to_vec();
    content.resize(SEGMENT_BYTES as usize, 0);
    let root = Extent::new(Address::new(0, 0), page_bytes);
    let mut index = Index {
        content: &mut content,
        codec,
        pages_left: PAGES_MENDED_MAX,
    };
    let checksum = index.mend(root, Birth(1), depth, length);
    let payload = [
        &length.to_le_bytes()[..],
        &u64::from(page_bytes).to_le_bytes(),
        &root.address.to_bits().to_le_bytes(),
        &root.length.to_le_bytes(),
        &checksum.unwrap_or(0).to_le_bytes(),
        &1u64.to_le_bytes(),
        &(BLOCK_BYTES as u32).to_le_bytes(),
        &[depth, codec, 0, 0],
    ]
    .concat();
    let memory = MemoryDisk::new().with_segment_bytes(SEGMENT_BYTES);
    let saved = SavedPage {
        at: root.address,
        bytes: content.into(),
    };
    block_on(memory.save(vec![saved], true)).expect("room in memory");
    let disk = Disk::new(memory).expect("properties within their limits");
    let Ok(reader) = ValueReader::new(disk.clone(), STORE, &payload) else {
        return;
    };
    let _ = block_on(reader.verify(|_, _| Ok(())));
    let pages = DiskPages::new(disk.clone(), STORE);
    let _ = block_on(each_extent(reader.value(), &pages, |_, _| Ok(())));
    let whole = block_on(reader.read(0, length as usize));
    if let Ok(whole) = &whole {
        assert_eq!(whole.len() as u64, length);
    }
    let part = [number(2) % length, number(5) % length];
    let (from, end) = (part[0].min(part[1]), part[0].max(part[1]));
    let read = block_on(reader.read(from, (end - from) as usize));
    if let (Ok(whole), Ok(read)) = (&whole, read) {
        assert!(whole[from as usize..end as usize] == read);
    }
    change(&disk, &reader, (from, end), whole.ok());
}

/// Overwrites a part of a value by another length.
fn change(disk: &Disk, reader: &ValueReader, (from, end): (u64, u64), whole: Option<Vec<u8>>) {
    let shape = Shape::new(BLOCK_BYTES as u32, SEGMENT_BYTES).expect("blocks that fit a segment");
    let shape = shape.with_codec(reader.value().codec, Compression::None);
    let mut next = Address::new(1, 0);
    let allocate = move |bytes: u32| {
        let bytes_left = SEGMENT_BYTES - next.offset();
        if bytes > bytes_left {
            next = Address::new(next.segment() + 1, 0);
        }
        let extent = Extent::new(next, bytes);
        let room = extent.whole_sectors(SECTOR_BYTES as u32).length;
        next = match next.offset() + room {
            SEGMENT_BYTES.. => Address::new(next.segment() + 1, 0),
            offset => Address::new(next.segment(), offset),
        };
        Ok(extent)
    };
    let mut writer = ValueWriter::new(disk.clone(), STORE, Birth(2), shape, allocate);
    let splice = Splice {
        keep: from,
        zeros: 700,
        bytes: b"changed",
        resume: end,
    };
    let written = block_on(async {
        writer.splice(reader, &splice, true).await?;
        writer.finish().await
    });
    let Ok(written) = written else { return };
    let payload = written.value.to_payload();
    let reader = ValueReader::new(disk.clone(), STORE, &payload).expect("what was just written");
    let read = block_on(reader.read(0, splice.length(u64::MAX) as usize));
    if let Some(whole) = whole {
        let parts = [
            &whole[..from as usize],
            &[0; 700],
            b"changed",
            &whole[end as usize..],
        ];
        assert!(read.expect("what could be read before") == parts.concat());
    }
}

/// Index pages among bytes, of which everything is made to verify that can be.
struct Index<'c> {
    content: &'c mut Vec<u8>,
    codec: u8,
    pages_left: u32,
}

impl Index<'_> {
    /// Gives the page at an extent a header that fits, and checksums to what it names; gives its own.
    fn mend(&mut self, extent: Extent, birth: Birth, level: u8, length: u64) -> Option<u32> {
        self.pages_left = self.pages_left.checked_sub(1)?;
        let blocks = length.div_ceil(BLOCK_BYTES);
        let block_entry_bytes = if self.codec == 0 { 4 } else { 12 };
        let page = self.place(extent)?;
        let (tables, entry_bytes) = match level {
            1 => (block_entry_bytes * blocks as usize, DATA_ENTRY_BYTES),
            _ => (0, CHILD_ENTRY_BYTES),
        };
        let room = page.len().checked_sub(INDEX_HEADER_BYTES + tables)?;
        let entries = room / entry_bytes;
        let header = [
            &b"VIDX"[..],
            &[level, self.codec, 0, 0],
            &(BLOCK_BYTES as u32).to_le_bytes(),
            &(entries as u32).to_le_bytes(),
            &blocks.to_le_bytes(),
        ]
        .concat();
        self.content[page.clone()][..INDEX_HEADER_BYTES].copy_from_slice(&header);
        let mut first = 0;
        for entry in 0..entries {
            let at = page.start + INDEX_HEADER_BYTES + entry * entry_bytes;
            let address = Address::from_bits(self.number(at));
            let birth = Birth(self.number(at + 8));
            let end = match level {
                1 => self.number(at + 16) & 0xFFFF_FFFF,
                _ => self.number(at + 24),
            };
            let end = end.min(blocks);
            if level == 1 {
                let tables = page.start + INDEX_HEADER_BYTES + entries * DATA_ENTRY_BYTES;
                for block in first..end {
                    let at = tables + block as usize * block_entry_bytes;
                    let (offset, stored) = match self.codec {
                        0 => ((block - first) * BLOCK_BYTES, length - block * BLOCK_BYTES),
                        _ => (
                            self.number(at + 4) & 0xFFFF_FFFF,
                            self.number(at + 8) & 0xFFFF_FFFF,
                        ),
                    };
                    let offset = address.offset().checked_add(offset as u32)?;
                    let at_block = Address::new(address.segment(), offset);
                    let block = Extent::new(at_block, stored.min(BLOCK_BYTES) as u32);
                    self.seal(block, birth, at);
                }
            } else if first < end {
                let below = Extent::new(address, self.number(at + 16) as u32);
                let bytes = (length - first * BLOCK_BYTES).min((end - first) * BLOCK_BYTES);
                if self.mend(below, birth, level - 1, bytes).is_some() {
                    self.seal(below, birth, at + 20);
                }
            }
            first = first.max(end);
        }
        let bytes = &self.content[page];
        Some(page_checksum(STORE, extent.address, birth, bytes))
    }

    /// Where an extent is among the bytes.
    fn place(&self, extent: Extent) -> Option<std::ops::Range<usize>> {
        let start = extent.address.offset() as usize;
        let place = start..start.checked_add(extent.length as usize)?;
        let there = extent.address.segment() == 0 && place.end <= self.content.len();
        there.then_some(place)
    }

    /// Eight bytes as a number; zero past the end.
    fn number(&self, at: usize) -> u64 {
        let bytes = self.content.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Writes the checksum of an extent to a place.
    fn seal(&mut self, extent: Extent, birth: Birth, at: usize) {
        let Some(place) = self.place(extent) else {
            return;
        };
        let checksum = page_checksum(STORE, extent.address, birth, &self.content[place]);
        if let Some(bytes) = self.content.get_mut(at..at + 4) {
            bytes.copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    /// An index page over blocks that stand behind it, as a writer would make it.
    fn sound(codec: u8, blocks: u64) -> Vec<u8> {
        let entry_bytes = if codec == 0 { 4 } else { 12 };
        let page_bytes = 48 + entry_bytes * blocks;
        let data_at = page_bytes.next_multiple_of(512);
        let [low, high, ..] = (page_bytes as u16).to_le_bytes();
        let length = (blocks * super::BLOCK_BYTES - 1) as u16;
        let [length_low, length_high] = length.to_le_bytes();
        let mut bytes = vec![0, codec, length_low, length_high, 0, low, high];
        bytes.extend_from_slice(&[0; 24]);
        bytes.extend_from_slice(&data_at.to_le_bytes());
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.extend_from_slice(&(blocks as u32).to_le_bytes());
        bytes.extend_from_slice(&(blocks as u32 * 512).to_le_bytes());
        for block in 0..blocks as u32 {
            bytes.extend_from_slice(&[0; 4]);
            if codec != 0 {
                bytes.extend_from_slice(&(block * 512).to_le_bytes());
                bytes.extend_from_slice(&512u32.to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn values_are_refused_or_usable() {
        let mut random = fastrand::Rng::with_seed(4);
        for round in 0..6_000u64 {
            let mut bytes = sound((round % 3) as u8, 1 + round % 9);
            bytes.extend((0..random.usize(..3000)).map(|_| random.u8(..)));
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len().min(200));
                bytes[at] = random.u8(..);
            }
            super::value(&bytes);
        }
    }

    #[test]
    fn hostile_catalogues_are_refused_or_usable() {
        let mut random = fastrand::Rng::with_seed(5);
        let rounds = std::env::var("THUNDERHEAD_ROUNDS").ok();
        let rounds: u32 = rounds.map_or(1, |rounds| rounds.parse().expect("a number"));
        for _ in 0..60 * rounds {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            super::catalogue(&bytes);
        }
    }

    #[test]
    fn noise_is_refused_or_usable() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..4)).collect();
            super::name(&bytes);
            if round % 2 == 0 {
                super::page(&bytes);
            } else {
                bytes.splice(0..0, *b"ThGr\x01\0\0\0");
                super::log(&bytes);
            }
        }
    }
}
