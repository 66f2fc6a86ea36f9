//! Entries for the fuzz targets in `fuzz/`, which reach what is private. **Not part of the stable
//! interface.**
//!
//! Checksums are mended before what they guard is read: they would keep a fuzzer out, but not
//! somebody hostile. Nothing may panic; what is accepted must be usable.

use crate::disk::{Disk, DiskModel, MemoryDisk, Page as SavedPage, block_on};
use crate::format::record::{Record, USER_TREE};
use crate::format::{Address, Birth, Extent, LogPosition, PagePointer, SequenceNumber, StoreId};
use crate::log::replay::Replay;
use crate::snapshot::names::{NameKey, Named, check_record};
use crate::tree::interior::Interior;
use crate::tree::journal::Journal;
use crate::tree::page::Page;
use crate::tree::pages::check;
use crate::tree::slice::Slice;

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

#[cfg(test)]
mod tests {
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
