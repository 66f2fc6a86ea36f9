//! Chapters for those who build on the crate.
//!
//! | chapter | answers |
//! | --- | --- |
//! | [`durability`] | when is a commit safe, and what does each kind of safety cost? |
//! | [`memory`] | what takes memory, how much, and who bounds it? |
//! | [`versions`] | how are versions kept, found again and given up? |
//! | [`sizing`] | how long should keys and values be, and what becomes of them? |
//! | [`waiting`] | how do `.wait()` and `.await` differ, and what may be dropped? |
//! | [`items`] | what has `BTreeMap`, redb, fjall, LMDB or RocksDB, and what is it here, or is it missing? |
//! | [`moving`] | what is it called here, for those who come from redb, LMDB, sled, RocksDB or SQLite? |

#[doc = include_str!("durability.md")]
pub mod durability {}

#[doc = include_str!("memory.md")]
pub mod memory {}

#[doc = include_str!("versions.md")]
pub mod versions {}

#[doc = include_str!("sizing.md")]
pub mod sizing {}

#[doc = include_str!("waiting.md")]
pub mod waiting {}

#[doc = include_str!("items.md")]
pub mod items {}

#[doc = include_str!("moving.md")]
pub mod moving {}
