//! [`Edit`]: changes of the system tree that are made up one after the other, each on top of those
//! before it, and flushed together.
//!
//! Things are cut into pieces as the catalogue of space is, so that they fit a leaf however small its
//! limit: a piece's key is the thing's key and the number of the piece.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Result;
use crate::snapshot::{Version, each_entry, first_thing, last_thing};
use crate::space::catalogue::pieces;

/// A thing: its key and its value.
pub(super) type Thing = (Vec<u8>, Vec<u8>);

/// Operations on the system tree: a value, or none for a deletion.
pub(in crate::store) type Operations = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// See the module.
pub(in crate::store) struct Edit {
    system: Arc<Version>,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Edit {
    /// Begins on top of a version of the system tree.
    pub(in crate::store) fn new(system: Arc<Version>) -> Self {
        Self {
            system,
            changes: BTreeMap::new(),
        }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(change) = self.changes.get(key) {
            return Ok(change.clone());
        }
        let mut end = key.to_vec();
        end.push(0xff);
        let found = first_thing(&self.system, key, &end).await?;
        Ok(found
            .filter(|(found, _)| found == key)
            .map(|(_, value)| value))
    }

    /// The first thing from `low` on and before `end`.
    pub(super) async fn first(&self, low: &[u8], end: &[u8]) -> Result<Option<Thing>> {
        let mut low = low.to_vec();
        loop {
            let stored = first_thing(&self.system, &low, end).await?;
            let changed = match low.as_slice() < end {
                true => self.changes.range(low.clone()..end.to_vec()).next(),
                false => None,
            };
            match (stored, changed) {
                (Some(stored), None) => return Ok(Some(stored)),
                (Some(stored), Some((key, _))) if stored.0 < *key => return Ok(Some(stored)),
                (_, Some((key, Some(value)))) => return Ok(Some((key.clone(), value.clone()))),
                (_, Some((key, None))) => {
                    // The next key there can be.
                    low.clone_from(key);
                    low.extend_from_slice(&[0xff; 5]);
                }
                (None, None) => return Ok(None),
            }
        }
    }

    /// The last thing from `low` on and before `end`.
    pub(super) async fn last(&self, low: &[u8], end: &[u8]) -> Result<Option<Thing>> {
        let mut end = end.to_vec();
        loop {
            let stored = last_thing(&self.system, low, &end).await?;
            let changed = match low < end.as_slice() {
                true => self.changes.range(low.to_vec()..end.clone()).next_back(),
                false => None,
            };
            match (stored, changed) {
                (Some(stored), None) => return Ok(Some(stored)),
                (Some(stored), Some((key, _))) if stored.0 > *key => return Ok(Some(stored)),
                (_, Some((key, Some(value)))) => return Ok(Some((key.clone(), value.clone()))),
                (_, Some((key, None))) => end.clone_from(key),
                (None, None) => return Ok(None),
            }
        }
    }

    /// What has to be done to the system tree.
    pub(super) async fn into_operations(self, piece_bytes: u32) -> Result<Operations> {
        let mut operations = Operations::new();
        for (key, value) in &self.changes {
            let mut end = key.clone();
            end.extend_from_slice(&[0xff; 5]);
            let length = key.len() + 4;
            each_entry(&self.system, key, &end, |piece, _, _| {
                if piece.len() == length {
                    operations.insert(piece.to_vec(), None);
                }
                Ok(())
            })
            .await?;
            for (piece, bytes) in pieces(value.as_deref().unwrap_or(&[]), piece_bytes) {
                let piece = [&key[..], &piece.to_be_bytes()].concat();
                operations.insert(piece, Some(bytes.to_vec()));
            }
        }
        Ok(operations)
    }
}
