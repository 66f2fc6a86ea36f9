//! The system tree as somebody hostile may leave it: what the fuzz target `catalogue` changes it by. **Not
//! part of the stable interface.**

use std::collections::BTreeMap;

use super::Store;
use super::checkpoint::system_operations;
use super::gate::lock;
use super::maintenance::Pace;
use super::open::system_version;
use crate::disk::block_on;
use crate::error::Result;
use crate::snapshot::each_entry;

impl Store {
    /// The entries of the system tree as of the last checkpoint.
    pub(crate) fn system_entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let core = &self.shared.core;
        let system = *lock(&core.system);
        let version = system_version(&core.pages, system);
        let mut entries = Vec::new();
        block_on(each_entry(&version, &[], &[0xff], |key, _, value| {
            entries.push((key.to_vec(), value.to_vec()));
            Ok(())
        }))?;
        Ok(entries)
    }

    /// Puts entries into the system tree, or takes them out, without regard to what they mean, and makes
    /// a checkpoint.
    pub(crate) fn change_system(&self, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<()> {
        let core = &self.shared.core;
        block_on(core.exclusively(|core, mut state| async move {
            let through = core.published();
            let points = system_operations(&changes, through).collect();
            core.flush_system(&mut state, points, 0, through)?;
            core.checkpoint_anyway(&mut state, Pace::Hurried, false)
                .await
        }))
    }
}
