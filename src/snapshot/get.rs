//! Reading one key: journals first, newest first, then the tree.

use smallvec::SmallVec;

use super::learnt::kept_from;
use super::version::Parts;
#[cfg(test)]
use super::version::Version;
use crate::cache::Guard;
use crate::error::Result;
use crate::format::record::{Tag, hash_key};
use crate::format::{PagePointer, SequenceNumber};
use crate::tree::journal::{Found, Journal, Outcome};
use crate::tree::merge::{Base, needs_below};
use crate::tree::pages::{Expect, Pages};
use crate::tree::search::{Chains, Passed, Step, search};

/// What a version has for a key.
pub(crate) enum Lookup<'g> {
    Absent,
    /// Stored like this.
    Stored(Tag, &'g [u8]),
    /// Put together from merge operands; still a chain if an operator is missing or the base is
    /// off-tree.
    Folded(Tag, Vec<u8>),
    /// A page is needed first.
    Need(PagePointer, Expect),
}

/// Asks one journal. `Some`: the search ends with this. Else `chains` may have grown.
pub(crate) fn ask_journal<'j>(
    journal: &'j Journal,
    bound: SequenceNumber,
    key: &[u8],
    chains: &mut Chains,
) -> Option<Option<(Tag, &'j [u8])>> {
    ask_journal_after(journal, SequenceNumber(0), bound, key, chains)
}

/// The same, as if the journal began after a sequence.
fn ask_journal_after<'j>(
    journal: &'j Journal,
    after: SequenceNumber,
    bound: SequenceNumber,
    key: &[u8],
    chains: &mut Chains,
) -> Option<Option<(Tag, &'j [u8])>> {
    let mut found: Found<'j> = SmallVec::new();
    let outcome = journal.lookup_after(key, after, bound, &mut found);
    for entry in found {
        match entry.tag {
            Tag::Delete => return Some(None),
            Tag::Merge if needs_below(entry.payload) => chains.push(entry.payload.to_vec()),
            tag => return Some(Some((tag, entry.payload))),
        }
    }
    (outcome == Outcome::Ends).then_some(None)
}

/// Asks the journals of a version, newest first, as [`ask_journal`] does. Costs a probe of a filter for
/// each that is not empty.
#[inline]
fn ask_journals<'j>(
    version: &'j Parts,
    bound: SequenceNumber,
    key: &[u8],
    chains: &mut Chains,
) -> Option<Option<(Tag, &'j [u8])>> {
    let mut hash = None;
    for journal in &version.journals {
        if journal.is_empty() {
            continue;
        }
        let hash = *hash.get_or_insert_with(|| hash_key(key));
        if !journal.may_contain(hash) && !journal.has_range_deletes() {
            continue;
        }
        let stored = ask_journal(journal, bound, key, chains);
        if stored.is_some() {
            return stored;
        }
    }
    None
}

/// Puts what was found under the operands that stand above it.
pub(crate) fn fold_chains<'g>(
    pages: &Pages,
    key: &[u8],
    stored: Option<(Tag, &'g [u8])>,
    chains: &Chains,
) -> Lookup<'g> {
    let mut folded: Option<(Tag, Vec<u8>)> = None;
    for chain in chains.iter().rev() {
        let base = match (&folded, stored) {
            (Some((tag, payload)), _) => Base::Stored(*tag, payload),
            (None, Some((tag, payload))) => Base::Stored(tag, payload),
            (None, None) => Base::Absent,
        };
        folded = Some(crate::tree::merge::fold(&pages.operators, key, base, chain));
    }
    match (folded, stored) {
        (Some((tag, payload)), _) => Lookup::Folded(tag, payload),
        (None, Some((tag, payload))) => Lookup::Stored(tag, payload),
        (None, None) => Lookup::Absent,
    }
}

#[cfg(test)]
/// Looks for a key in a version as of a sequence. Costs one descent, and a probe of a filter for
/// each journal that is not empty.
#[inline]
pub(crate) fn lookup<'g>(
    version: &'g Version,
    bound: SequenceNumber,
    key: &[u8],
    guard: &'g Guard,
) -> Result<Lookup<'g>> {
    let (pages, parts) = (version.pages(), version.parts());
    lookup_below(pages, parts, bound, key, Chains::new(), guard)
}

/// The same under operands that were found already, newest first. The parts may be those of a
/// version that nobody holds any more: then a page that is needed may be gone from the disk.
#[inline]
pub(crate) fn lookup_below<'g>(
    pages: &Pages,
    version: &'g Parts,
    bound: SequenceNumber,
    key: &[u8],
    mut chains: Chains,
    guard: &'g Guard,
) -> Result<Lookup<'g>> {
    if let Some((value, as_of)) = version.learnt.folded(key, bound) {
        return Ok(lookup_after(
            pages,
            version,
            (as_of, value),
            bound,
            key,
            chains,
        ));
    }
    let above = chains.len();
    let found = lookup_all(pages, version, bound, key, &mut chains, guard)?;
    if above == 0
        && chains.len() > 1
        && chains.len() >= kept_from(&pages.settings)
        && what_follows_is_in_the_first(version, bound)
        && let Lookup::Folded(Tag::Inline, value) = &found
    {
        version.learnt.note_folded(key, bound, value);
    }
    Ok(found)
}

/// The same, where it is known what the key had as of a sequence.
#[cold]
fn lookup_after<'g>(
    pages: &Pages,
    version: &'g Parts,
    (as_of, value): (SequenceNumber, Vec<u8>),
    bound: SequenceNumber,
    key: &[u8],
    mut chains: Chains,
) -> Lookup<'g> {
    // What was committed since is in the first journal.
    let journal = &version.journals[0];
    let before = chains.len();
    if let Some(stored) = ask_journal_after(journal, as_of, bound, key, &mut chains) {
        return fold_chains(pages, key, stored, &chains);
    }
    if chains.is_empty() {
        return Lookup::Folded(Tag::Inline, value);
    }
    let Lookup::Folded(tag, folded) = fold_chains(pages, key, Some((Tag::Inline, &value)), &chains)
    else {
        return Lookup::Absent;
    };
    if before == 0 && tag == Tag::Inline {
        version.learnt.note_folded(key, bound, &folded);
    }
    Lookup::Folded(tag, folded)
}

/// Whether all that a version has after a sequence, and will have, is in its first journal. Not so for a name
/// in the midst of others.
fn what_follows_is_in_the_first(version: &Parts, bound: SequenceNumber) -> bool {
    let Some((_, others)) = version.journals.split_first() else {
        return false;
    };
    let mut last = others.iter().filter_map(|journal| journal.last_sequence());
    last.all(|last| last <= bound)
}

fn lookup_all<'g>(
    pages: &Pages,
    version: &'g Parts,
    bound: SequenceNumber,
    key: &[u8],
    chains: &mut Chains,
    guard: &'g Guard,
) -> Result<Lookup<'g>> {
    if let Some(stored) = ask_journals(version, bound, key, chains) {
        return Ok(fold_chains(pages, key, stored, chains));
    }
    let step = search(pages, &version.root, &version.root_hint, key, chains, guard)?;
    let stored = match step {
        Step::Found { tag, payload } => Some((tag, payload)),
        Step::Absent => None,
        Step::Need(pointer, expect) => return Ok(Lookup::Need(pointer, expect)),
    };
    pages.frames.count_hit();
    if chains.is_empty() {
        return Ok(match stored {
            Some((tag, payload)) => Lookup::Stored(tag, payload),
            None => Lookup::Absent,
        });
    }
    Ok(fold_chains(pages, key, stored, chains))
}

/// What a glance at a version tells of a key.
pub(crate) enum Glance<'g> {
    Absent,
    /// Its value, in place.
    Value(&'g [u8]),
    /// Something has to be loaded or put together, or is wrong.
    Unknown,
}

/// Looks for a key whose value is in memory and in one piece: a bare descent. As [`lookup_below`]
/// without operands above; it tells less, and has nothing to keep what it would tell.
#[inline(never)]
pub(crate) fn glance<'g>(
    pages: &Pages,
    version: &'g Parts,
    bound: SequenceNumber,
    key: &[u8],
    guard: &'g Guard,
) -> Glance<'g> {
    let is_above = version.journals.iter().any(|journal| !journal.is_empty());
    if is_above && let Some(found) = glance_at_journals(version, bound, key) {
        return found;
    }
    let (root, hint, mut above) = (&version.root, &version.root_hint, Passed(false));
    let found = match search(pages, root, hint, key, &mut above, guard) {
        Ok(Step::Found {
            tag: Tag::Inline,
            payload,
        }) => Glance::Value(payload),
        Ok(Step::Absent) => Glance::Absent,
        Ok(Step::Found { .. } | Step::Need(..)) | Err(_) => return Glance::Unknown,
    };
    if above.0 {
        return Glance::Unknown;
    }
    pages.frames.count_hit();
    found
}

/// The same in the journals. `None`: they say nothing.
#[inline(never)]
fn glance_at_journals<'g>(
    version: &'g Parts,
    bound: SequenceNumber,
    key: &[u8],
) -> Option<Glance<'g>> {
    if version.learnt.may_have_folded(key) {
        return Some(Glance::Unknown);
    }
    let mut chains = Chains::new();
    match ask_journals(version, bound, key, &mut chains) {
        _ if !chains.is_empty() => Some(Glance::Unknown),
        None => None,
        Some(None) => Some(Glance::Absent),
        Some(Some((Tag::Inline, value))) => Some(Glance::Value(value)),
        Some(Some(_)) => Some(Glance::Unknown),
    }
}
