//! Off-tree values that were made of others: who frees what, as operations go over each other.
//!
//! A value that shares extents with the one whose place it takes names it as its *base*, as long as
//! the two have not met: in the log, in a root journal, in a batch on its way down. There, a value
//! owns what its base lacks, and the base all that it has itself. When the two meet, the newer one
//! takes its base's place and owns everything; what only the base had is freed. A flush lets
//! operations with a base down to where they meet it, so that pages never hold any.
//!
//! Of the values of one line each is made of the one before, and what one of them gave up, none
//! after it has. So whatever of them an operation goes over, what can be freed is what neither the
//! value that stays has, nor the base that is still to come.

use std::borrow::Cow;

use super::merge::{stored_base, with_stored_base};
use super::operation::lose;
use super::pages::Pages;
use crate::disk::block_on;
use crate::error::{ErrorKind, Result};
use crate::format::Birth;
use crate::format::record::Tag;
use crate::space::Dropped;
use crate::value::{DiskPages, OffTree, Unshared, each_unshared};

/// An off-tree value that no operation or entry names any more.
#[derive(Clone, Debug)]
pub(crate) struct LostValue {
    pub(crate) value: OffTree,
    /// Those that are still named and have extents of it: what it was made of, what was made of it.
    sharers: Vec<OffTree>,
    /// Whether one of them was made of it.
    pub(crate) has_heir: bool,
}

impl LostValue {
    /// The value of a payload, of which an heir may have been made. `None`: the payload does not
    /// decode, and names nothing that could be freed; `verify` reports it.
    pub(crate) fn of(payload: &[u8], heir: Option<OffTree>) -> Option<Self> {
        let (value, base) = OffTree::with_base(payload).ok()?;
        Some(Self {
            value,
            sharers: base.into_iter().chain(heir).collect(),
            has_heir: heir.is_some(),
        })
    }

    /// Whether others have extents of it.
    pub(crate) fn is_shared(&self) -> bool {
        !self.sharers.is_empty()
    }

    /// What is freed with it. Reads the pages of the index in which it differs from others, if there
    /// are any.
    pub(crate) fn parts(&self, pages: &Pages) -> Result<Vec<(Dropped, Birth)>> {
        let whole = |value: OffTree| {
            let item = Dropped::Value(value.to_payload().to_vec());
            (item, value.root.birth)
        };
        if !self.is_shared() {
            return Ok(vec![whole(self.value)]);
        }
        let source = DiskPages::new(pages.disk.clone(), pages.store);
        let mut parts = Vec::new();
        let found = block_on(each_unshared(&self.value, &self.sharers, &source, |part| {
            parts.push(match part {
                Unshared::Page(extent, birth) | Unshared::Blocks(extent, birth, _) => {
                    (Dropped::Extent(extent), birth)
                }
                Unshared::Whole(value) => whole(value),
            });
            Ok(())
        }));
        match found {
            Ok(()) => Ok(parts),
            // What cannot be found cannot be freed; `verify` reports both. Nothing else must wait.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The payload of the off-tree value that an operation or entry holds, or its operands go over.
fn payload_in(tag: Tag, payload: &[u8]) -> Option<&[u8]> {
    match tag {
        Tag::OffTree => Some(payload),
        Tag::Merge => match stored_base(payload) {
            Some((Tag::OffTree, payload)) => Some(payload),
            _ => None,
        },
        _ => None,
    }
}

/// Whether an operation holds an off-tree value with a base, and must come to it.
pub(crate) fn has_base(tag: Tag, payload: &[u8]) -> bool {
    let is_off_tree = matches!(tag, Tag::OffTree | Tag::Merge);
    is_off_tree
        && payload_in(tag, payload)
            .and_then(|payload| OffTree::with_base(payload).ok())
            .is_some_and(|(_, base)| base.is_some())
}

/// An operation goes over an older one of the same key that nobody will see. If it was made of the
/// older one's value, it takes its place: its base is that of the older one, or none.
pub(crate) fn supersede(
    tag: Tag,
    payload: &mut Cow<'_, [u8]>,
    older: (Tag, &[u8]),
    lost: &mut dyn FnMut(LostValue),
) {
    lose(older.0, older.1, &mut |old| {
        let Ok((old_value, old_base)) = OffTree::with_base(old) else {
            return;
        };
        let newer = payload_in(tag, payload).and_then(|newer| OffTree::with_base(newer).ok());
        let heir = match newer {
            Some((value, Some(base))) if base.is_same(&old_value) => Some(value),
            _ => None,
        };
        lost(LostValue {
            value: old_value,
            sharers: old_base.into_iter().chain(heir).collect(),
            has_heir: heir.is_some(),
        });
        let Some(heir) = heir else { return };
        let own = match old_base {
            Some(base) => heir.to_payload_over(base),
            None => heir.to_payload().to_vec(),
        };
        *payload = Cow::Owned(match tag {
            Tag::Merge => with_stored_base(payload, Tag::OffTree, &own),
            _ => own,
        });
    });
}
