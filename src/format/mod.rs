//! Bytes on disk: what a file consists of, byte by byte, from the root record to the last value.
//!
//! Here are the numbers ([`Address`], [`Extent`], [`Birth`], [`SequenceNumber`], [`StoreId`]), how a
//! page is named and verified ([`PagePointer`]), the root ([`RootRecord`]) and what a file decided
//! when it was created ([`Settings`]). The other structures are described in modules that hold
//! nothing but text; their encoders stand in the private folders that use them, and refer to it.
#![doc = include_str!("overview.md")]

mod address;
pub(crate) mod bytes;
mod pointer;
pub(crate) mod record;
mod root;
mod settings;

pub use address::{Address, Birth, Extent, SequenceNumber, StoreId};
pub(crate) use pointer::page_checksum_of_birth;
pub use pointer::{POINTER_BYTES, PagePointer, page_checksum};
pub use root::{
    FORMAT_VERSION, LogPosition, ROOT_RECORD_BYTES, RootRecord, RootVersion, SpaceTail,
};
pub use settings::Settings;

#[doc = include_str!("records.md")]
pub mod records {}

#[doc = include_str!("pages.md")]
pub mod pages {}

#[doc = include_str!("journals.md")]
pub mod journals {}

#[doc = include_str!("values.md")]
pub mod values {}

#[doc = include_str!("log.md")]
pub mod log {}

#[doc = include_str!("space.md")]
pub mod space {}

#[doc = include_str!("versions.md")]
pub mod versions {}

#[doc = include_str!("protocol.md")]
pub mod protocol {}
