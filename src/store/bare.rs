//! The least that any reader of a key in memory does: what `benches/instructions.rs` measures
//! [`get_with`](crate::Store::get_with) against. **Not part of the stable interface.**

use super::Store;
use crate::cache::pin;
use crate::format::record::Tag;
use crate::snapshot::{Glance, glance};
use crate::tree::search::{Passed, Step, search};

/// What no correct reader can leave out: a guard, the newest version and as of when to read it, a look at
/// the journals above its tree, and the way down. Gives the length of the value, if all of it is in
/// memory and in place.
pub fn bare_descent(store: &Store, key: &[u8]) -> Option<usize> {
    let core = &store.shared.core;
    let guard = pin();
    let bound = core.published();
    match glance(&core.pages, core.current.parts(&guard), bound, key, &guard) {
        Glance::Value(value) => Some(value.len()),
        Glance::Absent | Glance::Unknown => None,
    }
}

/// The way down alone, from the root of the tree, whatever is above it.
pub fn bare_search(store: &Store, key: &[u8]) -> Option<usize> {
    let core = &store.shared.core;
    let guard = pin();
    let parts = core.current.parts(&guard);
    let (root, hint, mut above) = (&parts.root, &parts.root_hint, Passed(false));
    match search(&core.pages, root, hint, key, &mut above, &guard) {
        Ok(Step::Found {
            tag: Tag::Inline,
            payload,
        }) => Some(payload.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_reads_find_what_is_in_memory() {
        let store = Store::in_memory().unwrap();
        store.put("k", "value").wait().unwrap();
        let found = |key: &[u8]| (bare_descent(&store, key), bare_search(&store, key));
        assert_eq!(found(b"k"), (Some(5), None));
        store.checkpoint().wait().unwrap();
        assert_eq!(store.get_with("k", <[u8]>::len).wait().unwrap(), Some(5));
        assert_eq!(found(b"k"), (Some(5), Some(5)));
        assert_eq!(found(b"other"), (None, None));
    }
}
