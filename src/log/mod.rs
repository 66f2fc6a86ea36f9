//! The commit log: what makes a commit durable before any page of a tree is written.
//!
//! * [`mod@format`]: groups and links, encoded and decoded.
//! * [`writer`]: [`LogWriter`](writer::LogWriter), which turns commits into pages to be saved. It does no I/O.
//! * [`replay`]: [`Replay`](replay::Replay), what a log holds from a position on, verified.
//!
//! [`crate::format::log`] describes chunks, groups, links and salts byte by byte, what replay accepts,
//! why only what was written last can be lost, and why nothing stale is ever read. Invariant kept: a
//! sector that a sync may have covered is not written again in the same use of its chunk, and no chunk
//! that an earlier opening wrote is written to while a root leads there.
//!
//! # How it is called
//!
//! * A commit: `append(…, synced)`, save the pages, sync, `synced_through`. Pages are saved in the
//!   order of the appends.
//! * `sync()` of deferred commits: `begin_sync`, sync the disk, `synced_through` with what it gave.
//!   Commits may be appended and saved meanwhile; they touch no sector that the sync covers.
//! * Ahead of need: when `wants_chunk`, allocate and prepare a chunk, `add_chunk`.
//! * A checkpoint: `position_at_or_before` the first sequence that the trees lack goes into the root
//!   record; `release_before` the position in the *older* of the two durable roots gives chunks back.
//! * Recovery: `Replay::read`, then `append_accepted` of its groups to a writer in a fresh chunk, sync,
//!   and only then a root that names the chunk.

mod format;
pub(crate) mod replay;
#[cfg(test)]
mod tests;
pub(crate) mod writer;
