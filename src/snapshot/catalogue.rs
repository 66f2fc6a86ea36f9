//! Reads the catalogue of space (see [`crate::space::catalogue`]) out of a version of the system
//! tree: the pieces are put together again, gaps and strangers are damage.

use std::sync::Arc;

use super::cursor::{Cursor, Direction, Start, Stop};
use super::version::{Layered, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::Tag;
use crate::space::PendingItem;
use crate::space::catalogue::{
    CatalogueKey, all_pending_range, decode_pending, parse_key, pending_key,
};

/// Visits the entries from `low` on and below `end` of a version without journals.
pub(crate) async fn each_entry(
    version: &Arc<Version>,
    low: &[u8],
    end: &[u8],
    mut visit: impl FnMut(&[u8], Tag, &[u8]) -> Result<()> + Send,
) -> Result<()> {
    let over = Layered::whole(Arc::clone(version));
    let mut cursor = Cursor::new(Direction::Forward, Start::At(low.to_vec()));
    // What a step asked for stays in memory until the step is done, however small the cache.
    let mut loaded = Vec::new();
    loop {
        match cursor.step(&over)? {
            Stop::Entry if cursor.key() < end => {
                let (tag, payload) = cursor.stored(&over);
                visit(cursor.key(), tag, payload)?;
                loaded.clear();
            }
            Stop::Entry | Stop::End => return Ok(()),
            Stop::Need(pointer, expect) => {
                loaded.push(version.pages().load(&pointer, expect).await?);
            }
        }
    }
}

/// What a piece of a thing with a key of its own is called: the thing's key, and the number of the piece.
fn piece_of(key: &[u8]) -> Result<(&[u8], u32)> {
    let (thing, piece) = key.split_last_chunk::<4>().ok_or_else(stranger)?;
    Ok((thing, u32::from_be_bytes(*piece)))
}

/// The first thing whose key is `low` or after it, and before `end`, put together.
pub(crate) async fn first_thing(
    version: &Arc<Version>,
    low: &[u8],
    end: &[u8],
) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut found: Option<(Vec<u8>, Pieces)> = None;
    // Of what is found, all pieces; an entry of the next one ends it.
    let enough = Error::new(ErrorKind::Cancelled, "the next thing begins");
    let visited = each_entry(version, low, end, |key, tag, payload| {
        let (thing, piece) = piece_of(key)?;
        match &mut found {
            Some((before, pieces)) if before == thing => pieces.push(piece, tag, payload),
            Some(_) => Err(enough.duplicate()),
            None => {
                let (_, pieces) = found.insert((thing.to_vec(), Pieces::NONE));
                pieces.push(piece, tag, payload)
            }
        }
    })
    .await;
    match visited {
        Err(error) if error.kind() != ErrorKind::Cancelled => Err(error),
        _ => Ok(found.map(|(key, pieces)| (key, pieces.bytes))),
    }
}

/// The last thing whose key is before `end`, and `low` or after it, put together.
pub(crate) async fn last_thing(
    version: &Arc<Version>,
    low: &[u8],
    end: &[u8],
) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let over = Layered::whole(Arc::clone(version));
    let mut cursor = Cursor::new(Direction::Backward, Start::Past(end.to_vec()));
    let mut loaded = Vec::new();
    let thing = loop {
        match cursor.step(&over)? {
            Stop::Entry if cursor.key() >= low => break piece_of(cursor.key())?.0.to_vec(),
            Stop::Entry | Stop::End => return Ok(None),
            Stop::Need(pointer, expect) => {
                loaded.push(version.pages().load(&pointer, expect).await?);
            }
        }
    };
    drop(loaded);
    let mut after = thing.clone();
    after.extend_from_slice(&[0xff; 5]);
    first_thing(version, &thing, &after).await
}

/// One thing of the catalogue that is being put together.
struct Pieces {
    next: u32,
    bytes: Vec<u8>,
}

impl Pieces {
    const NONE: Self = Self {
        next: 0,
        bytes: Vec::new(),
    };

    fn push(&mut self, piece: u32, tag: Tag, payload: &[u8]) -> Result<()> {
        if piece != self.next || tag != Tag::Inline || payload.is_empty() {
            return Err(Error::corrupt(
                "a piece is missing in the system tree's catalogue of space",
            ));
        }
        self.next = piece.wrapping_add(1);
        self.bytes.extend_from_slice(payload);
        Ok(())
    }
}

fn stranger() -> Error {
    Error::corrupt("the system tree's catalogue of space has a key that means nothing")
}

/// The pieces of one thing, put together; nothing if it has none. `low` and `end` are what
/// [`segment_range`](crate::space::catalogue::segment_range) and its like give.
pub(crate) async fn read_pieces(version: &Arc<Version>, low: &[u8], end: &[u8]) -> Result<Vec<u8>> {
    let mut pieces = Pieces::NONE;
    each_entry(version, low, end, |key, tag, payload| {
        let piece = match parse_key(key).ok_or_else(stranger)? {
            CatalogueKey::Segment { piece, .. }
            | CatalogueKey::Summary { piece, .. }
            | CatalogueKey::Pending { piece, .. } => piece,
        };
        pieces.push(piece, tag, payload)
    })
    .await?;
    Ok(pieces.bytes)
}

/// Visits the pending items in the order of their numbers.
pub(crate) async fn each_pending(
    version: &Arc<Version>,
    visit: impl FnMut(u64, PendingItem) -> Result<()> + Send,
) -> Result<()> {
    each_pending_from(version, 0, visit).await
}

/// Visits the pending items from a number on.
pub(crate) async fn each_pending_from(
    version: &Arc<Version>,
    from: u64,
    mut visit: impl FnMut(u64, PendingItem) -> Result<()> + Send,
) -> Result<()> {
    let low = pending_key(from, 0);
    let (_, end) = all_pending_range();
    let mut present: Option<(u64, Pieces)> = None;
    each_entry(version, &low, &end, |key, tag, payload| {
        let Some(CatalogueKey::Pending { number, piece }) = parse_key(key) else {
            return Err(stranger());
        };
        if present
            .as_ref()
            .is_some_and(|(before, _)| *before != number)
            && let Some((before, pieces)) = present.take()
        {
            visit(before, decode_pending(&pieces.bytes)?)?;
        }
        let (_, pieces) = present.get_or_insert((number, Pieces::NONE));
        pieces.push(piece, tag, payload)
    })
    .await?;
    match present {
        Some((number, pieces)) => visit(number, decode_pending(&pieces.bytes)?),
        None => Ok(()),
    }
}
