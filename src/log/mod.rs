//! The commit log: what makes a commit durable before any page of a tree is written.
//!
//! * [`mod@format`]: chunks, groups and links as bytes, drawn as tables.
//! * [`writer`]: [`LogWriter`](writer::LogWriter), which turns commits into pages to be saved. It does no I/O.
//! * [`replay`]: [`Replay`](replay::Replay), what a log holds from a position on, verified.
//!
//! # How a log is laid out
//!
//! A *chunk* is an extent that was filled with zeros by [`Disk::prepare`] before its first use and
//! is recycled afterwards. Each use of a chunk has a random *salt*; whoever names a chunk (the root
//! record, or a link in the chunk before) names the salt too, so a chunk needs no header of its
//! own. In it stand *groups*, each one write, each holding one or more commits in sequence order.
//!
//! ```text
//! chunk:  | group | group |·| group       |·| free …            | link | link |
//!                          ^ fresh sector after a sync           the last two sectors
//! ```
//!
//! The last two sectors are kept for the *link*, which names the next chunk and its salt. It is
//! written twice: were one copy damaged and the only one, the log would seem to end there, and
//! commits that were acknowledged would vanish without a word.
//!
//! # Why only what was written last can be lost
//!
//! The writer begins a fresh sector before anything that follows the beginning of a sync, so a
//! crash damages no sector that a sync covered. Every group says through which sequence the log was
//! known to be synced when it was written, and its header verifies without its payload. When replay
//! meets a place that does not verify, it looks at the sectors behind it, and through an intact link
//! also into the chunks behind: a header there that claims a sync of what cannot be read means
//! damage ([`Corrupt`](crate::ErrorKind::Corrupt)); otherwise the log was torn there and ends.
//! What cannot be told from a torn end is damage to the last group, which nothing refers to yet,
//! and to both copies of a link at once.
//!
//! # Why nothing stale is ever read
//!
//! Within one use of a chunk each byte is written at most once: a log is *never resumed in a chunk
//! that an earlier opening wrote*. Opening for writing begins a new chunk with a new salt, copies
//! into it the groups that replay accepted and the trees do not contain
//! ([`LogWriter::append_accepted`](writer::LogWriter::append_accepted)), syncs it, and only then publishes a root record that names it.
//!
//! * Bytes of an earlier use carry another salt of 64 random bits.
//! * What lies behind a cut carries the salt of a chunk that nothing reachable names any more.
//! * A crash at any moment of recovery leaves the old root and, untouched, the old chunks; the next
//!   recovery begins from the same bytes, however often that happens. Writing the accepted tail
//!   again in its old place, even with equal bytes, would not do: a sector being written may hold
//!   anything after a crash, and the last group may have been acknowledged.
//! * Copied groups claim to be synced through the end of the copy. That holds whenever they can be
//!   reached, as the root that leads to them is published after their sync, and it makes
//!   damage to the last of them damage, not a torn end.
//!
//! The price is that opening after a crash writes what was logged since the last checkpoint once
//! more, and needs room for it. After a clean close there is nothing to copy, and the new log may
//! begin in the old chunk, under a new salt, as soon as both root slots say so.
//!
//! A group's checksum also covers the store's id and the group's address, and the checksum of the
//! group before (the *chain*), so a misdirected or a lost write does not verify either.
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
//!
//! [`Disk::prepare`]: crate::disk::Disk::prepare

mod format;
pub(crate) mod replay;
#[cfg(test)]
mod tests;
pub(crate) mod writer;
