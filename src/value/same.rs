//! Whether two values have the same bytes.
//!
//! They are compared from their indexes down. What they share is not read; where one was made of the
//! other, the cost is that of the difference. Memory: two pieces, and the index pages on the way.

use crate::disk::Disk;
use crate::error::Result;
use crate::format::StoreId;

use super::payload::OffTree;
use super::reader::ValueReader;
use super::source::PageSource;
use super::walk::expand;

/// How much of each value is compared at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Whether two values have the same bytes.
pub(crate) async fn is_same_value<S: PageSource + Clone>(
    disk: &Disk,
    store: StoreId,
    (one, other): (OffTree, OffTree),
    pages: S,
) -> Result<bool> {
    let mut parts = vec![(one, other)];
    while let Some((one, other)) = parts.pop() {
        if one.length != other.length {
            return Ok(false);
        }
        if one.length == 0 || one.root == other.root {
            continue;
        }
        if one.depth > 1 && one.depth == other.depth {
            let below = [expand(&one, &pages).await?, expand(&other, &pages).await?];
            let [one, other] = below.map(|children| children.values);
            let lengths = |parts: &[OffTree]| parts.iter().map(|it| it.length).collect::<Vec<_>>();
            if lengths(&one) == lengths(&other) {
                parts.extend(one.into_iter().zip(other).rev());
                continue;
            }
        }
        let reader = |part: OffTree| {
            let payload = part.to_payload();
            ValueReader::with_pages(disk.clone(), store, &payload, pages.clone())
        };
        let (length, readers) = (one.length, (reader(one)?, reader(other)?));
        let mut at = 0;
        while at < length {
            let piece = readers.0.read(at, PIECE_BYTES).await?;
            if piece.is_empty() || piece != readers.1.read(at, PIECE_BYTES).await? {
                return Ok(false);
            }
            at += piece.len() as u64;
        }
    }
    Ok(true)
}
