//! The commits between a node and the next one, as names between the two need them: written once, read
//! when somebody opens such a name.
//!
//! [`crate::format::versions`] has the bytes. They are cut into extents without regard to commits.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::NewNode;
use crate::disk::Page;
use crate::error::{Error, Result};
use crate::format::bytes::{put_varint, read_varint};
use crate::format::record::{Record, USER_TREE};
use crate::format::{Birth, Extent, SequenceNumber, page_checksum};
use crate::space::kept::JournalPart;
use crate::space::{Owner, Urgency};
use crate::store::core::Core;
use crate::store::maintenance::Pace;
use crate::tree::journal::Journal;
use crate::tree::pages::Pages;

/// How long an extent is at most.
const PART_BYTES_MAX: u32 = 1 << 20;

/// The commits of a journal through a sequence, behind those of older ones: for each its sequence, the
/// bytes of its records, and the records.
fn encode(journal: &Journal, through: SequenceNumber, out: &mut Vec<u8>) {
    let mut records = Vec::new();
    let mut present: Option<SequenceNumber> = None;
    let finish = |sequence: Option<SequenceNumber>, records: &mut Vec<u8>, out: &mut Vec<u8>| {
        if let Some(sequence) = sequence {
            put_varint(out, sequence.0);
            put_varint(out, records.len() as u64);
            out.append(records);
        }
    };
    for stamp in journal.stamps() {
        let entry = journal.entry_at(stamp);
        if entry.sequence > through {
            break;
        }
        if present != Some(entry.sequence) {
            finish(present, &mut records, out);
            present = Some(entry.sequence);
        }
        let record = Record {
            tag: entry.tag,
            tree: USER_TREE,
            key: entry.key,
            payload: entry.payload,
        };
        record.append_to(&mut records);
    }
    finish(present, &mut records, out);
}

/// Takes the commits through a sequence out of what [`encode`] wrote, or the beginning of it, which may be
/// damaged. How many bytes the whole commits in it have; `None` where one of a later sequence ends it.
fn decode(
    bytes: &Bytes,
    through: SequenceNumber,
    commits: &mut Vec<(Bytes, SequenceNumber)>,
) -> Result<Option<usize>> {
    let mut end = 0;
    loop {
        let mut at = end;
        let mut number = || {
            let (number, taken) = read_varint(bytes.get(at..)?)?;
            at += taken;
            Some(number)
        };
        let (Some(sequence), Some(length)) = (number().map(SequenceNumber), number()) else {
            return Ok(Some(end));
        };
        if commits.last().is_some_and(|(_, last)| *last >= sequence) {
            return Err(malformed());
        }
        if sequence > through {
            return Ok(None);
        }
        let whole = usize::try_from(length).ok();
        let whole = whole.and_then(|length| at.checked_add(length));
        let Some(whole) = whole.filter(|&whole| whole <= bytes.len()) else {
            return Ok(Some(end));
        };
        commits.push((bytes.slice(at..whole), sequence));
        end = whole;
    }
}

fn malformed() -> Error {
    Error::corrupt("the commits of a kept version are malformed")
}

impl Core {
    /// Writes the commits that a new node needs; where they stand.
    pub(super) async fn write_journals_of(
        &self,
        birth: Birth,
        node: &NewNode,
        pace: Pace,
    ) -> Result<Vec<JournalPart>> {
        let mut parts: Vec<JournalPart> = Vec::new();
        let written = self.write_parts(birth, node, pace, &mut parts).await;
        if let Err(error) = written {
            for part in parts {
                self.pages.space.abandon(part.extent)?;
            }
            return Err(error);
        }
        Ok(parts)
    }

    async fn write_parts(
        &self,
        birth: Birth,
        node: &NewNode,
        pace: Pace,
        parts: &mut Vec<JournalPart>,
    ) -> Result<()> {
        let segment_bytes = self.pages.disk.properties().segment_bytes;
        let most_bytes = PART_BYTES_MAX.min(segment_bytes / 8).max(1) as usize;
        let mut waiting = Vec::new();
        let mut journals = node.journals.iter();
        loop {
            let journal = journals.next();
            if let Some(journal) = journal {
                encode(journal, node.needed, &mut waiting);
            }
            let mut bytes = Bytes::from(std::mem::take(&mut waiting));
            loop {
                let (began, most) = (Instant::now(), most_bytes.min(self.step_bytes(pace)));
                if bytes.is_empty() || (bytes.len() < most && journal.is_some()) {
                    break;
                }
                let part = bytes.split_to(bytes.len().min(most));
                parts.push(self.write_part(birth, part).await?);
                self.end_step(pace, began).await?;
            }
            if journal.is_none() {
                return Ok(());
            }
            waiting.extend_from_slice(&bytes);
        }
    }

    async fn write_part(&self, birth: Birth, bytes: Bytes) -> Result<JournalPart> {
        let space = &self.pages.space;
        let extent = space.allocate(bytes.len() as u32, Owner::Tree, Urgency::Emergency)?;
        let checksum = page_checksum(self.pages.store, extent.address, birth, &bytes);
        let at = extent.address;
        if let Err(error) = self.save_all_the_same(vec![Page { at, bytes }]).await {
            space.abandon(extent)?;
            return Err(error);
        }
        Ok(JournalPart {
            extent,
            checksum,
            birth,
        })
    }
}

/// Reads the commits that came after a node, through a sequence.
pub(super) async fn read_journal(
    pages: &Pages,
    parts: &[JournalPart],
    through: SequenceNumber,
) -> Result<Arc<Journal>> {
    let mut commits = Vec::new();
    let mut rest = Vec::new();
    for part in parts {
        rest.extend_from_slice(&read_part(pages, part).await?);
        let bytes = Bytes::from(std::mem::take(&mut rest));
        match decode(&bytes, through, &mut commits)? {
            Some(end) => rest.extend_from_slice(&bytes[end..]),
            None => break,
        }
    }
    if !rest.is_empty() {
        return Err(malformed());
    }
    let size = commits.iter().map(|(records, _)| records.len()).sum();
    let journal = Journal::new(size);
    journal.append_all(commits, USER_TREE)?;
    Ok(Arc::new(journal))
}

/// Reads and verifies one extent of commits.
async fn read_part(pages: &Pages, part: &JournalPart) -> Result<Vec<u8>> {
    let Extent { address, .. } = part.extent;
    let bytes = pages.disk.read(part.extent).await?;
    if page_checksum(pages.store, address, part.birth, &bytes) != part.checksum {
        return Err(Error::corrupt_at(
            part.extent,
            "the checksum of a kept version's commits does not match",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Tag;

    fn commit(records: &[(Tag, &str, &str)]) -> Bytes {
        let mut out = Vec::new();
        for (tag, key, payload) in records {
            let record = Record {
                tag: *tag,
                tree: USER_TREE,
                key: key.as_bytes(),
                payload: payload.as_bytes(),
            };
            record.append_to(&mut out);
        }
        out.into()
    }

    #[test]
    fn commits_come_back_as_far_as_they_are_needed() {
        let journal = Journal::new(0);
        let commits = [
            (
                commit(&[(Tag::Inline, "a", "1"), (Tag::Delete, "b", "")]),
                SequenceNumber(7),
            ),
            (commit(&[(Tag::DeleteRange, "a", "\0")]), SequenceNumber(9)),
            (commit(&[(Tag::Inline, "c", "2")]), SequenceNumber(10)),
        ];
        for (records, sequence) in &commits {
            journal
                .append(records.clone(), USER_TREE, *sequence)
                .unwrap();
        }
        for (through, expected) in [(6, 0), (8, 1), (9, 2), (99, 3)] {
            let mut bytes = Vec::new();
            encode(&journal, SequenceNumber(through), &mut bytes);
            let bytes = Bytes::from(bytes);
            for (asked, expected) in [
                (SequenceNumber(99), expected),
                (SequenceNumber(8), expected.min(1)),
            ] {
                let mut decoded = Vec::new();
                let end = decode(&bytes, asked, &mut decoded).unwrap();
                assert_eq!(decoded, commits[..expected]);
                assert!(end.is_none_or(|end| end == bytes.len()));
            }
            for length in 0..bytes.len() {
                let mut decoded = Vec::new();
                let end = decode(&bytes.slice(..length), SequenceNumber(99), &mut decoded);
                assert!(end.unwrap().unwrap() <= length);
                assert!(commits.starts_with(&decoded) && decoded.len() < expected);
            }
        }
    }

    #[test]
    fn hostile_bytes_are_refused_or_commits() {
        let journal = Journal::new(0);
        for sequence in 1..20 {
            let records = commit(&[(Tag::Inline, "key", "value")]);
            journal
                .append(records, USER_TREE, SequenceNumber(sequence))
                .unwrap();
        }
        let mut good = Vec::new();
        encode(&journal, SequenceNumber(99), &mut good);
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = good.clone();
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            bytes.truncate(random.usize(..=bytes.len()));
            let mut commits = Vec::new();
            if decode(&bytes.into(), SequenceNumber(u64::MAX), &mut commits).is_ok() {
                let _ = Journal::new(0).append_all(commits, USER_TREE);
            }
        }
    }
}
