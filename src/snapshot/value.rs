//! From what is stored for a key to the bytes that a reader sees.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::{Handle, Install};
use crate::error::{Error, Result};
use crate::format::record::Tag;
use crate::tree::merge::{older_operands, resolve, stored_base, with_older_operands};
use crate::tree::pages::Pages;
use crate::value::{ExtentPointer, OffTree, PageSource, ValueReader};

/// Index pages of off-tree values, kept in the frame table.
#[derive(Clone)]
pub(crate) struct CachedPages {
    pub(crate) pages: Arc<Pages>,
}

/// A cached index page.
pub(crate) struct CachedPage(Handle);

impl AsRef<[u8]> for CachedPage {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl PageSource for CachedPages {
    type Page = CachedPage;

    async fn load(&self, page: ExtentPointer, level: u8) -> Result<CachedPage> {
        let frames = &self.pages.frames;
        let handle = match frames.get(page.extent.address, page.birth) {
            // A page that something else is known by is not this one: checked by its checksum.
            Some(handle) => {
                page.verify(self.pages.store, handle.bytes())?;
                handle
            }
            None => {
                let bytes = self.pages.disk.read(page.extent).await?;
                page.verify(self.pages.store, &bytes)?;
                let install = Install {
                    level,
                    hints: 0,
                    dirty: false,
                };
                frames.install(page.extent.address, page.birth, bytes, install)
            }
        };
        Ok(CachedPage(handle))
    }
}

/// A reader of an off-tree value, with its index pages kept in the cache.
pub(crate) fn off_tree_reader(
    pages: &Arc<Pages>,
    payload: &[u8],
) -> Result<ValueReader<CachedPages>> {
    let source = CachedPages {
        pages: Arc::clone(pages),
    };
    ValueReader::with_pages(pages.disk.clone(), pages.store, payload, source)
}

/// The bytes of a value that is stored like this. References were followed before: see
/// [`follow`](super::follow).
pub(crate) async fn load_value(
    pages: &Arc<Pages>,
    key: &[u8],
    tag: Tag,
    payload: &[u8],
) -> Result<Bytes> {
    match tag {
        Tag::Inline => Ok(Bytes::copy_from_slice(payload)),
        Tag::OffTree => Ok(off_tree_reader(pages, payload)?
            .read_all(usize::MAX)
            .await?
            .into()),
        Tag::Merge => {
            let base = match stored_base(payload) {
                Some((Tag::OffTree, payload)) => Some(
                    off_tree_reader(pages, payload)?
                        .read_all(usize::MAX)
                        .await?,
                ),
                Some((Tag::Reference, _)) => return Err(not_a_value()),
                _ => None,
            };
            let chain = whole_chain(pages, payload).await?;
            Ok(resolve(&pages.operators, key, base.as_deref(), &chain)?.into())
        }
        Tag::Reference | Tag::Delete | Tag::DeleteRange | Tag::Elsewhere => Err(not_a_value()),
    }
}

/// A chain of merge operands with those that are in an off-tree value.
pub(crate) async fn whole_chain<'c>(pages: &Arc<Pages>, chain: &'c [u8]) -> Result<Cow<'c, [u8]>> {
    let Some(older) = older_operands(chain) else {
        return Ok(Cow::Borrowed(chain));
    };
    let reader = off_tree_reader(pages, older)?;
    let older = reader.read_all(usize::MAX).await?;
    Ok(Cow::Owned(with_older_operands(chain, &older)))
}

fn not_a_value() -> Error {
    Error::corrupt("a deletion or a reference stands for a value")
}

/// Some of the bytes of a value: those from `offset` on, at most `length`, fewer at its end.
pub(crate) async fn read_part(
    pages: &Arc<Pages>,
    key: &[u8],
    tag: Tag,
    payload: &[u8],
    offset: u64,
    length: usize,
) -> Result<Bytes> {
    if tag == Tag::OffTree {
        let reader = off_tree_reader(pages, payload)?;
        let left = reader.value().length.saturating_sub(offset);
        let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(Bytes::new());
        }
        return Ok(reader.read(offset, length).await?.into());
    }
    let whole = load_value(pages, key, tag, payload).await?;
    let start = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(whole.len());
    let end = start.saturating_add(length).min(whole.len());
    Ok(whole.slice(start..end))
}

/// The length of a value without reading it, where that is known.
pub(crate) fn stored_length(tag: Tag, payload: &[u8]) -> Result<Option<u64>> {
    Ok(match tag {
        Tag::Inline => Some(payload.len() as u64),
        Tag::OffTree => Some(OffTree::from_payload(payload)?.length),
        _ => None,
    })
}
