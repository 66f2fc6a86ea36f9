//! Whether values that are stored differently are the same: by their bytes.

use std::sync::Arc;

use super::super::value::{CachedPages, load_value};
use super::compare::Stored;
use crate::error::{ErrorKind, Result};
use crate::format::record::Tag;
use crate::tree::pages::Pages;
use crate::value::{OffTree, is_same_value};

/// Whether two values of a key are the same, each with the pages of its version. Values out of the tree
/// are read a piece at a time, and not where they share what they consist of. Those that cannot be
/// known, for want of an operator or a codec, are not the same.
pub(crate) async fn is_same_content(
    pages: [&Arc<Pages>; 2],
    key: &[u8],
    [one, other]: [&Stored; 2],
) -> Result<bool> {
    let same = async {
        if let (Tag::OffTree, Tag::OffTree) = (one.0, other.0) {
            let values = (
                OffTree::from_payload(&one.1)?,
                OffTree::from_payload(&other.1)?,
            );
            let pages = pages[0];
            let source = CachedPages {
                pages: Arc::clone(pages),
            };
            return is_same_value(&pages.disk, pages.store, values, source).await;
        }
        let one = load_value(pages[0], key, one.0, &one.1).await?;
        Ok(one == load_value(pages[1], key, other.0, &other.1).await?)
    };
    match same.await {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::OperatorMissing | ErrorKind::CodecMissing
            ) =>
        {
            Ok(false)
        }
        same => same,
    }
}
