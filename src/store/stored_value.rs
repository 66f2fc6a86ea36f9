//! [`StoredValue`]: a value that is known to be there, and is read when it is asked for.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::operation::Operation;
use super::reader::Noting;
use super::subtree::Base;
use super::value::{Value, ValueKind};
use super::value_reader::ValueReader;
use crate::error::Result;
use crate::format::record::Tag;
use crate::snapshot::diff::{Stored, Verdict, is_same_content, verdict};
use crate::snapshot::{Layered, load_value, stored_length, target_of};
use crate::value::OffTree;

/// How much of two values of different stores is compared at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A value of a [`Difference`](crate::Difference) or a [`Collision`](crate::Collision): as a version
/// has it, and not read before it is asked for if it is large; it keeps that version. Or as somebody
/// else had it: made of bytes.
///
/// ```
/// use thunderhead::StoredValue;
///
/// let value = StoredValue::from(b"made of bytes".to_vec());
/// assert_eq!(value.at_hand(), Some(&b"made of bytes"[..]));
/// assert_eq!(value.load().wait()?, "made of bytes");
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone)]
pub struct StoredValue {
    content: Content,
}

#[derive(Clone)]
enum Content {
    Given(Value),
    Stored(Box<InVersion>),
}

/// What a version has for a key.
#[derive(Clone)]
struct InVersion {
    over: Layered,
    base: Base,
    /// In the tree.
    key: Vec<u8>,
    stored: Stored,
}

impl StoredValue {
    pub(super) fn new(over: Layered, base: Base, key: Vec<u8>, stored: Stored) -> Self {
        let content = Content::Stored(Box::new(InVersion {
            over,
            base,
            key,
            stored,
        }));
        Self { content }
    }

    /// A reference to a key, as somebody else has it.
    pub fn reference_to(key: impl AsRef<[u8]>) -> Self {
        Value::of(ValueKind::Reference(key.as_ref())).into()
    }

    /// The value. Costs nothing but a copy where it is [at hand](Self::at_hand); else it is read, all of
    /// it. Of a [reference](Self::reference) it is the key that it names, as ranges give it: see
    /// [`Value::kind`].
    ///
    /// Errors: `Corrupt`; `Io`; `OperatorMissing`; `BrokenReference`, of merge operands on a reference.
    pub fn load(&self) -> Operation<impl Future<Output = Result<Value>> + Send + use<'_>> {
        Operation::new(async move {
            let here = match (&self.content, self.reference()) {
                (Content::Given(value), _) => return Ok(value.clone()),
                (Content::Stored(_), Some(kind)) => return Ok(Value::of(kind)),
                (Content::Stored(here), None) => here,
            };
            if let Some(bytes) = self.at_hand() {
                return Ok(Value::of(ValueKind::Bytes(bytes)));
            }
            here.load().await.map(Value::new)
        })
    }

    /// The value, if it is small enough to be at hand, or is made of bytes: nothing has to be read for
    /// it. `None` also of references.
    pub fn at_hand(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Given(value) => match value.kind() {
                ValueKind::Bytes(bytes) => Some(bytes),
                _ => None,
            },
            Content::Stored(here) => (here.stored.0 == Tag::Inline).then_some(&here.stored.1[..]),
        }
    }

    /// The off-tree value of the tree that it is, if it is one.
    pub(super) fn off_tree(&self) -> Option<OffTree> {
        match &self.content {
            Content::Stored(here) if here.stored.0 == Tag::OffTree => {
                let (value, base) = OffTree::with_base(&here.stored.1).ok()?;
                base.is_none().then_some(value)
            }
            _ => None,
        }
    }

    /// If it is a reference to another key, which is not followed: which one.
    pub fn reference(&self) -> Option<ValueKind<'_>> {
        match &self.content {
            Content::Given(value) => match value.kind() {
                ValueKind::Bytes(_) => None,
                reference => Some(reference),
            },
            Content::Stored(here) => (here.stored.0 == Tag::Reference)
                .then(|| ValueKind::reference(&here.stored.1, here.base.bytes())),
        }
    }

    /// The length of the value in bytes, of a reference that of the key that it names. Large values are
    /// not read for it; only those are for which merge operands are pending. Errors: those of
    /// [`load`](Self::load).
    pub fn length(&self) -> Operation<impl Future<Output = Result<u64>> + Send + use<'_>> {
        Operation::new(async move {
            if let Content::Stored(here) = &self.content
                && let Some(length) = stored_length(here.stored.0, &here.stored.1)?
            {
                return Ok(length);
            }
            Ok(self.load().await?.len() as u64)
        })
    }

    /// A reader of the value, for large ones: in bounded memory. `None` if there is no need: it is
    /// [at hand](Self::at_hand), or a [reference](Self::reference). Errors: those of
    /// [`load`](Self::load).
    pub fn reader(
        &self,
    ) -> Operation<impl Future<Output = Result<Option<ValueReader<'static>>>> + Send + use<'_>>
    {
        Operation::new(async move {
            let here = match &self.content {
                Content::Stored(here) if self.at_hand().is_none() => here,
                _ => return Ok(None),
            };
            let pages = Arc::clone(here.over.version().pages());
            let view = here.over.view.clone();
            match here.stored.0 {
                Tag::Reference => Ok(None),
                Tag::OffTree => ValueReader::off_tree(pages, view, here.stored.1.clone()).map(Some),
                _ => Ok(Some(ValueReader::whole(pages, view, here.load().await?))),
            }
        })
    }

    /// Whether another one has the same bytes, or is a reference to the same key. What is at hand is
    /// compared, what is stored in one place is the same, and what is of one length is read, as far as
    /// it is the same. Values for which a merge operator is missing are only the same as themselves.
    /// Errors: `Corrupt`; `Io`; `BrokenReference`.
    pub fn is_same<'v>(
        &'v self,
        other: &'v Self,
    ) -> Operation<impl Future<Output = Result<bool>> + Send + use<'v>> {
        Operation::new(async move {
            if self.reference().is_some() || other.reference().is_some() {
                return Ok(self.reference() == other.reference());
            }
            if let (Some(one), Some(other)) = (self.at_hand(), other.at_hand()) {
                return Ok(one == other);
            }
            if let (Content::Stored(one), Content::Stored(other)) = (&self.content, &other.content)
                && let pages = [one, other].map(|it| it.over.version().pages())
                && Arc::ptr_eq(pages[0], pages[1])
            {
                let stored = [one, other].map(|it| Some((it.stored.0, &it.stored.1[..])));
                let stored = match verdict(stored) {
                    Verdict::Same => return Ok(true),
                    Verdict::Different => return Ok(false),
                    Verdict::Unsure => [&one.stored, &other.stored],
                };
                return is_same_content(pages, &one.key, stored).await;
            }
            if self.length().await? != other.length().await? {
                return Ok(false);
            }
            let readers = (self.reader().await?, other.reader().await?);
            let (Some(one), Some(other)) = readers else {
                return Ok(self.load().await? == other.load().await?);
            };
            let mut at = 0;
            while at < one.length() {
                let piece = one.read_at(at, PIECE_BYTES).await?;
                if piece.is_empty() || piece != other.read_at(at, PIECE_BYTES).await? {
                    return Ok(false);
                }
                at += piece.len() as u64;
            }
            Ok(true)
        })
    }
}

impl InVersion {
    /// What is not at hand, nor a reference.
    async fn load(&self) -> Result<Bytes> {
        let (tag, payload) = (self.stored.0, &self.stored.1[..]);
        if target_of(tag, payload).is_some() {
            let noting = Noting {
                over: &self.over,
                reads: None,
            };
            let stored = (tag, payload.to_vec());
            return noting.load(self.base.bytes(), &self.key, stored).await;
        }
        load_value(self.over.version().pages(), &self.key, tag, payload).await
    }
}

impl From<Value> for StoredValue {
    fn from(value: Value) -> Self {
        Self {
            content: Content::Given(value),
        }
    }
}

impl From<Vec<u8>> for StoredValue {
    fn from(bytes: Vec<u8>) -> Self {
        Value::new(bytes.into()).into()
    }
}

impl From<Bytes> for StoredValue {
    fn from(bytes: Bytes) -> Self {
        Value::new(bytes).into()
    }
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("StoredValue");
        match (self.at_hand(), self.reference()) {
            (Some(bytes), _) => told.field("bytes", &bytes).finish(),
            (None, Some(reference)) => told.field("reference", &reference).finish(),
            (None, None) => told.finish_non_exhaustive(),
        }
    }
}
