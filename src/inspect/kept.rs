//! Versions that names keep: their trees and commits, and what of them waits to be freed.
//!
//! They share most of what they reach with each other and with the newest version. What was read once
//! as one page is not read again; a page that overlaps with something else is damage here as anywhere.

use std::sync::Arc;

use super::verify::{Examiner, Part};
use crate::error::{Error, ErrorKind, Result};
use crate::format::page_checksum;
use crate::snapshot::{Version, first_thing};
use crate::space::Dropped;
use crate::space::audit::Holder;
use crate::space::kept::{
    DISCARDED, FREE, JournalPart, Listed, Node, Record, all_range, chunks_of, counters_key,
    decode_chunk, parse,
};

impl Examiner<'_> {
    /// Whether the store ever kept a version, so that pages may be reached in more than one way.
    pub(super) async fn keeps_versions(&mut self) -> bool {
        let system = self.catalogue();
        let key = counters_key();
        let end = [&key[..], &[0xff; 5]].concat();
        matches!(first_thing(&system, &key, &end).await, Ok(Some(_)))
    }

    /// Reads what is kept.
    pub(super) async fn kept(&mut self) -> Result<()> {
        let system = self.catalogue();
        self.begin_older();
        let read = self.each_kept(&system).await;
        match read {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                self.incomplete = true;
                let error = error.while_doing("reading which versions are kept");
                self.failed(&error, None)
            }
            read => read,
        }
    }

    async fn each_kept(&mut self, system: &Arc<Version>) -> Result<()> {
        let (mut low, end) = all_range();
        while let Some((key, value)) = first_thing(system, &low, &end).await? {
            match parse(&key, &value)? {
                Record::Node(node) => self.kept_node(&node).await?,
                Record::Head(head) => {
                    self.summary.kept_versions += 1;
                    self.walk(Part::Kept, &head.root).await?;
                }
                Record::Journal(part) => self.kept_journal(&part).await?,
                Record::List { holder, list } if holder != DISCARDED => {
                    let part = match holder {
                        FREE => Part::Pending,
                        _ => Part::Kept,
                    };
                    self.listed(part, system, list).await?;
                }
                Record::List { .. } | Record::Other => {}
            }
            self.progress()?;
            low = key;
            low.extend_from_slice(&[0xff; 5]);
        }
        Ok(())
    }

    async fn kept_node(&mut self, node: &Node) -> Result<()> {
        self.summary.kept_versions += 1;
        if node.root.newest > node.since {
            let message = "a kept version has later commits than it is said to have";
            self.damage(node.root.extent(), message)?;
        }
        self.walk(Part::Kept, &node.root).await
    }

    async fn kept_journal(&mut self, part: &JournalPart) -> Result<()> {
        let what = "a kept version's commits";
        if !self.reach((part.extent, part.birth), Holder::Root, what)? {
            return Ok(());
        }
        let read = self.disk.read(part.extent).await.and_then(|bytes| {
            let address = part.extent.address;
            match page_checksum(self.root.store, address, part.birth, &bytes) == part.checksum {
                true => Ok(()),
                false => Err(Error::corrupt_at(
                    part.extent,
                    "the checksum of a kept version's commits does not match",
                )),
            }
        });
        self.tally(Part::Kept).page_bytes += u64::from(part.extent.length);
        match read {
            Ok(()) => Ok(()),
            Err(error) => self.failed(&error, Some(part.extent)),
        }
    }

    /// What stands on a list: reached by a node, or given back with it as it may have been, or free.
    async fn listed(&mut self, part: Part, system: &Arc<Version>, list: u64) -> Result<()> {
        let (mut low, end) = chunks_of(list);
        while let Some((key, value)) = first_thing(system, &low, &end).await? {
            for Listed { item, birth, .. } in decode_chunk(&value)? {
                match item {
                    Dropped::Extent(extent) => self.reach_listed(extent, birth)?,
                    Dropped::Subtree(pointer) => self.walk(part, &pointer).await?,
                    Dropped::Value(payload) => {
                        self.value(&payload, Holder::Root, None).await?;
                    }
                }
                self.progress()?;
            }
            low = key;
            low.extend_from_slice(&[0xff; 5]);
        }
        Ok(())
    }
}
