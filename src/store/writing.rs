//! [`Writing`]: an off-tree value on its way to the disk, which nothing names yet.
//!
//! Whoever drops it before it is finished gives back what it took.

use std::sync::Arc;

use bytes::Bytes;

use super::bases::HeldBase;
use super::core::Core;
use super::maintenance::LoggedValue;
use crate::error::Result;
use crate::format::{Address, Birth, Extent};
use crate::snapshot::CachedPages;
use crate::space::{Owner, Urgency};
use crate::tree::pages::Pages;
use crate::value::{Allocate, OffTree, Shape, Splice, ValueReader, ValueWriter};

/// Takes extents that no tree contains yet.
struct Unattached(Arc<Pages>);

impl Allocate for Unattached {
    fn allocate(&mut self, bytes: u32) -> Result<Extent> {
        let space = &self.0.space;
        space.allocate(bytes, Owner::Unattached, Urgency::Ordinary)
    }
}

/// A value that is being written.
pub(super) struct Writing {
    core: Arc<Core>,
    birth: Birth,
    writer: Option<ValueWriter<Unattached>>,
    /// What it shares extents with.
    base: Option<(OffTree, HeldBase)>,
}

impl Writing {
    /// Begins a value in the blocks that the store is set to.
    pub(super) fn begin(core: &Arc<Core>) -> Result<Self> {
        let shape = core.pages.value_shape()?;
        Self::shaped(core, shape)
    }

    fn shaped(core: &Arc<Core>, shape: Shape) -> Result<Self> {
        let pages = &core.pages;
        let birth = core.value_birth();
        let allocate = Unattached(Arc::clone(pages));
        let writer = ValueWriter::new(pages.disk.clone(), pages.store, birth, shape, allocate);
        Ok(Self {
            core: Arc::clone(core),
            birth,
            writer: Some(writer),
            base: None,
        })
    }

    /// Writes all of what becomes of a value. It shares extents with that if the value is held.
    pub(super) async fn of(
        core: &Arc<Core>,
        reader: &ValueReader<CachedPages>,
        splice: &Splice<'_>,
        held: Option<HeldBase>,
    ) -> Result<Self> {
        let value = *reader.value();
        let mut writing = match held {
            Some(_) => Self::shaped(core, core.pages.value_shape_of(&value)?)?,
            None => Self::begin(core)?,
        };
        let shares = writing
            .writer()
            .splice(reader, splice, held.is_some())
            .await?;
        writing.base = held.filter(|_| shares).map(|held| (value, held));
        Ok(writing)
    }

    fn writer(&mut self) -> &mut ValueWriter<Unattached> {
        self.writer
            .as_mut()
            .expect("only finishing takes it, and consumes the value")
    }

    pub(super) fn length(&mut self) -> u64 {
        self.writer().length()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer().write(bytes).await
    }

    pub(super) async fn write_bytes(&mut self, bytes: Bytes) -> Result<()> {
        self.writer().write_bytes(bytes).await
    }

    /// Writes the zeros and the bytes of a change.
    pub(super) async fn write_new(&mut self, splice: &Splice<'_>) -> Result<()> {
        self.writer().write_new(splice).await
    }

    /// Takes some bytes without waiting for anything; none if [`Self::save_taken`] is due.
    pub(super) fn take_some(&mut self, bytes: &[u8]) -> Result<usize> {
        self.writer().take_some(bytes)
    }

    pub(super) async fn save_taken(&mut self) -> Result<()> {
        self.writer().save_taken().await
    }

    /// The whole value, while all of it is in memory.
    pub(super) fn held_back(&mut self) -> Option<&[u8]> {
        self.writer().held_back()
    }

    /// Writes the rest: the payload of the value, and what is to be known of it under its root.
    pub(super) async fn finish(mut self) -> Result<(Vec<u8>, Address, LoggedValue)> {
        let written = self.writer().finish().await?;
        self.writer = None;
        let value = written.value;
        let (payload, base) = match self.base.take() {
            Some((base, held)) => (value.to_payload_over(base), Some(Arc::new(held))),
            None => (value.to_payload().to_vec(), None),
        };
        let logged = LoggedValue {
            birth: self.birth,
            extents: written.extents,
            base,
        };
        Ok((payload, value.root.extent.address, logged))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        // What a save may still be writing to is not used again before the store is reopened.
        for extent in writer.abandon().idle {
            if let Err(error) = self.core.pages.space.abandon(extent) {
                debug_assert!(false, "an extent that was allocated: {error}");
            }
        }
    }
}
