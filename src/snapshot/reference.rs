//! References: values that name another key, and how they are followed.
//!
//! A reference is stored with the absolute key that it stands for. Whoever reads a key follows it,
//! within one version, hop by hop: each hop asks a [`Find`] for one key, just as reading that key
//! would, so whatever notes which keys were read sees the whole chain. A chain that comes to no value
//! is an error that names all of it. Nothing is followed out of the view that is read.

use std::future::Future;
use std::sync::Arc;

use super::get::{Lookup, ask_journal, fold_chains, lookup_below};
use super::value::{load_value, whole_chain};
use super::version::Layered;
use crate::cache::pin;
use crate::error::{Error, Result};
use crate::format::SequenceNumber;
use crate::format::record::Tag;
use crate::tree::merge::{resolve, stored_base};
use crate::tree::pages::Pages;
use crate::tree::search::Chains;

/// How many references are followed for one key.
const HOPS_MAX: usize = 16;

/// What is stored for a key.
pub(crate) type Stored = (Tag, Vec<u8>);

/// Finds what is stored for keys of the whole store, all in one version.
pub(crate) trait Find: Sync {
    /// What is stored for a key.
    fn find_stored(&self, key: &[u8]) -> impl Future<Output = Result<Option<Stored>>> + Send;
}

/// The key that a stored value needs: that of a reference, or of one with merge operands over it.
pub(crate) fn target_of(tag: Tag, payload: &[u8]) -> Option<&[u8]> {
    match tag {
        Tag::Reference => Some(payload),
        Tag::Merge => match stored_base(payload) {
            Some((Tag::Reference, target)) => Some(target),
            _ => None,
        },
        _ => None,
    }
}

/// What a key stands for in the end: what is stored, and under which key.
pub(crate) struct Settled {
    pub(crate) key: Vec<u8>,
    pub(crate) tag: Tag,
    pub(crate) payload: Vec<u8>,
}

/// Follows references from what is stored for a key, as far as the first value; what is no reference
/// stays what it is. `within`: what all keys of the view begin with.
///
/// Merge operands over a reference change what it gives, as it is in this version.
pub(crate) async fn follow(
    find: &impl Find,
    pages: &Arc<Pages>,
    within: &[u8],
    key: &[u8],
    stored: Stored,
) -> Result<Settled> {
    let (end, operands) = way_of(find, within, key, stored).await?;
    if operands.is_empty() {
        return Ok(end);
    }
    let mut value = load_value(pages, &end.key, end.tag, &end.payload).await?;
    for (over, operands) in operands.iter().rev() {
        let chain = whole_chain(pages, operands).await?;
        value = resolve(&pages.operators, over, Some(&value), &chain)?.into();
    }
    Ok(Settled {
        tag: Tag::Inline,
        payload: value.into(),
        ..end
    })
}

/// Where references lead from what is stored for a key; and the chains of merge operands on the way,
/// each with its key.
pub(crate) async fn way_of(
    find: &impl Find,
    within: &[u8],
    key: &[u8],
    (mut tag, mut payload): Stored,
) -> Result<(Settled, Vec<(Vec<u8>, Vec<u8>)>)> {
    let mut chain = vec![key.to_vec()];
    let mut operands = Vec::new();
    let mut key = key.to_vec();
    while let Some(target) = target_of(tag, &payload) {
        let target = target.to_vec();
        let is_known = chain.contains(&target);
        chain.push(target.clone());
        if is_known {
            return Err(Error::broken_reference("references in a circle", chain));
        }
        if chain.len() > HOPS_MAX + 1 {
            let what = format!("more than {HOPS_MAX} references, one after the other");
            return Err(Error::broken_reference(what, chain));
        }
        if !target.starts_with(within) {
            let what = "a reference to a key outside of the view that is read";
            return Err(Error::broken_reference(what, chain));
        }
        if tag == Tag::Merge {
            operands.push((key, payload));
        }
        let Some(found) = find.find_stored(&target).await? else {
            let what = "a reference to a key that has no value";
            return Err(Error::broken_reference(what, chain));
        };
        (tag, payload) = found;
        key = target;
    }
    Ok((Settled { key, tag, payload }, operands))
}

impl Find for Layered {
    async fn find_stored(&self, key: &[u8]) -> Result<Option<Stored>> {
        let version = self.version();
        // What the search asked for stays in memory until it is done, however small the cache.
        let mut loaded = Vec::new();
        loop {
            let (pointer, expect) = {
                let guard = pin();
                let mut chains = Chains::new();
                let newest = SequenceNumber(u64::MAX);
                let own = self.overlay.as_deref();
                let own = own.and_then(|own| ask_journal(own, newest, key, &mut chains));
                let found = match own {
                    Some(stored) => fold_chains(version.pages(), key, stored, &chains),
                    None => lookup_below(
                        version.pages(),
                        version,
                        self.view.bound,
                        key,
                        chains,
                        &guard,
                    )?,
                };
                match found {
                    Lookup::Absent => return Ok(None),
                    Lookup::Stored(tag, payload) => return Ok(Some((tag, payload.to_vec()))),
                    Lookup::Folded(tag, payload) => return Ok(Some((tag, payload))),
                    Lookup::Need(pointer, expect) => (pointer, expect),
                }
            };
            loaded.push(version.pages().load(&pointer, expect).await?);
        }
    }
}
