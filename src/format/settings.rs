//! What a file decided when it was created. Constants in code are defaults for new files only.

use super::bytes::{read_u16, read_u32};
use crate::error::{Error, Result};

/// The bytes that encoded settings take in the root record.
pub(crate) const SETTINGS_BYTES: usize = 48;

/// The shape of a store's pages and journals, kept in its root record.
///
/// | offset | bytes | field | limits |
/// | --- | --- | --- | --- |
/// | 0 | 4 | page budget in bytes | 256 to 64 KiB |
/// | 4 | 2 | slots of a leaf at most | 3 to 256 |
/// | 6 | 2 | children of an interior node at most | 3 to 256 |
/// | 8 | 4 | inline bytes: the largest value kept in a leaf | 16 to 16 KiB |
/// | 12 | 4 | slice budget in bytes | 128 to 64 KiB |
/// | 16 | 4 | pending bytes for one child from which they are pushed to it | 1 to 1 MiB |
/// | 20 | 4 | pending bytes that one interior node holds at most | 128 to 16 MiB |
/// | 24 | 2 | runs that one interior node holds at most | 1 to 64 |
/// | 26 | 2 | operations of a slice at most | 2 to 4096 |
/// | 28 | 4 | block of an off-tree value in bytes | 512 to 1 MiB |
/// | 32 | 4 | chunk of the commit log in bytes | 16 KiB to a segment |
/// | 36 | 12 | zero | |
///
/// A root record whose settings are outside of these limits does not decode. Within them they bind
/// the writer, not the reader: a page that was written under other circumstances is as good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The bytes that a leaf aims not to exceed. Pages of fewer than four entries may.
    pub page_bytes: u32,
    /// The entries of a leaf at most, 3 to 256.
    pub leaf_slots_max: u16,
    /// The children of an interior node at most, 3 to 256.
    pub children_max: u16,
    /// The largest value kept in a leaf, in bytes; larger ones go off-tree.
    pub inline_bytes_max: u32,
    /// The bytes that a slice of a journal aims not to exceed.
    pub slice_bytes: u32,
    /// From how many pending bytes for one child a flush pushes them down to it.
    pub push_bytes: u32,
    /// How many pending bytes one interior node holds before it must push some.
    pub journal_bytes_max: u32,
    /// How many runs one interior node holds before they are joined.
    pub runs_max: u16,
    /// The operations of one slice at most, 2 to 4096.
    pub slice_slots_max: u16,
    /// The bytes of one separately checksummed block of an off-tree value.
    pub block_bytes: u32,
    /// The bytes of one chunk of the commit log.
    pub log_chunk_bytes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page_bytes: 12 << 10,
            leaf_slots_max: 256,
            children_max: 256,
            inline_bytes_max: 2 << 10,
            slice_bytes: 32 << 10,
            push_bytes: 16 << 10,
            journal_bytes_max: 512 << 10,
            runs_max: 8,
            slice_slots_max: 1024,
            block_bytes: 32 << 10,
            log_chunk_bytes: 4 << 20,
        }
    }
}

impl Settings {
    /// The smallest settings there are: nodes of three slots, journals of two operations. Every
    /// path of the tree is taken by a handful of keys; tests use them.
    pub fn tiny() -> Self {
        Self {
            page_bytes: 512,
            leaf_slots_max: 3,
            children_max: 3,
            inline_bytes_max: 64,
            slice_bytes: 256,
            push_bytes: 128,
            journal_bytes_max: 256,
            runs_max: 2,
            slice_slots_max: 2,
            block_bytes: 512,
            log_chunk_bytes: 64 << 10,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; SETTINGS_BYTES] {
        let mut out = [0; SETTINGS_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.page_bytes.to_le_bytes());
        put(4, &self.leaf_slots_max.to_le_bytes());
        put(6, &self.children_max.to_le_bytes());
        put(8, &self.inline_bytes_max.to_le_bytes());
        put(12, &self.slice_bytes.to_le_bytes());
        put(16, &self.push_bytes.to_le_bytes());
        put(20, &self.journal_bytes_max.to_le_bytes());
        put(24, &self.runs_max.to_le_bytes());
        put(26, &self.slice_slots_max.to_le_bytes());
        put(28, &self.block_bytes.to_le_bytes());
        put(32, &self.log_chunk_bytes.to_le_bytes());
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            page_bytes: read_u32(bytes, 0)?,
            leaf_slots_max: read_u16(bytes, 4)?,
            children_max: read_u16(bytes, 6)?,
            inline_bytes_max: read_u32(bytes, 8)?,
            slice_bytes: read_u32(bytes, 12)?,
            push_bytes: read_u32(bytes, 16)?,
            journal_bytes_max: read_u32(bytes, 20)?,
            runs_max: read_u16(bytes, 24)?,
            slice_slots_max: read_u16(bytes, 26)?,
            block_bytes: read_u32(bytes, 28)?,
            log_chunk_bytes: read_u32(bytes, 32)?,
        })
    }

    /// Checks that the settings are within their limits, for a disk with such segments.
    pub(crate) fn check(&self, segment_bytes: u32) -> Result<()> {
        let within = |name: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!(
                "the setting {name} is {value}, but must be {least} to {most}"
            )))
        };
        within("page_bytes", self.page_bytes, 256, 64 << 10)?;
        within("leaf_slots_max", self.leaf_slots_max.into(), 3, 256)?;
        within("children_max", self.children_max.into(), 3, 256)?;
        within("inline_bytes_max", self.inline_bytes_max, 16, 16 << 10)?;
        within("slice_bytes", self.slice_bytes, 128, 64 << 10)?;
        within("push_bytes", self.push_bytes, 1, 1 << 20)?;
        within("journal_bytes_max", self.journal_bytes_max, 128, 16 << 20)?;
        within("runs_max", self.runs_max.into(), 1, 64)?;
        within("slice_slots_max", self.slice_slots_max.into(), 2, 4096)?;
        within("block_bytes", self.block_bytes, 512, 1 << 20)?;
        within(
            "log_chunk_bytes",
            self.log_chunk_bytes,
            16 << 10,
            segment_bytes,
        )
    }
}
