//! Bytes on disk: addresses, pointers, checksums, the root record, settings, versions.
//!
//! This module and [`crate::disk`] are enough to read a file by other means: every structure is
//! drawn as a table where its encoder stands.
//!
//! * [`Address`], [`Extent`], [`Birth`], [`SequenceNumber`], [`StoreId`]: the numbers.
//! * [`PagePointer`] and [`page_checksum`]: how a page is named and verified.
//! * [`RootRecord`]: the at most 512 bytes from which everything else is found.
//! * [`Settings`]: what a file decided when it was created.

mod address;
pub(crate) mod bytes;
mod pointer;
pub(crate) mod record;
mod root;
mod settings;

pub use address::{Address, Birth, Extent, SequenceNumber, StoreId};
pub use pointer::{POINTER_BYTES, PagePointer, page_checksum};
pub use root::{
    FORMAT_VERSION, LogPosition, ROOT_RECORD_BYTES, RootRecord, RootVersion, SpaceTail,
};
pub use settings::Settings;
