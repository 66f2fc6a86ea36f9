//! Sorting against the overlay's own answers.

use std::collections::BTreeSet;

use crate::format::record::Tag;
use crate::transaction::Overlay;
use crate::transaction::overlay::tests::{random_key, random_operation};
use crate::tree::journal::{Found, Outcome};

/// A key with its operations, newest first.
type Kept = (Vec<u8>, Vec<(Tag, Vec<u8>)>);

#[test]
fn sorted_operations_are_those_that_lookups_find() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let prefix: &[u8] = [&b""[..], b"a shared beginning/"][random.usize(..2)];
        let mut overlay = Overlay::new(0);
        let mut keys = BTreeSet::new();
        for _ in 0..random.usize(..400) {
            let key = random_operation(&mut random, prefix, &mut overlay);
            keys.insert(key);
        }
        let mut expected: Vec<Kept> = Vec::new();
        let mut covered = Vec::new();
        for _ in 0..20 {
            let mut key = prefix.to_vec();
            key.extend(random_key(&mut random));
            keys.insert(key);
        }
        for key in keys {
            let mut found = Found::new();
            let outcome = overlay.lookup(&key, &mut found);
            let entries: Vec<_> = (found.iter())
                .map(|entry| (entry.tag, entry.payload.to_vec()))
                .collect();
            let settled = entries.last().is_some_and(|(tag, _)| *tag != Tag::Merge);
            let ends = outcome == Outcome::Ends;
            if !settled {
                covered.push((key.clone(), ends));
            }
            if !entries.is_empty() {
                expected.push((key, entries));
            }
        }
        let sorted = overlay.into_sorted();
        let found: Vec<Kept> = (sorted.keys())
            .map(|operations| {
                let entries = operations.entries();
                let entries = entries.map(|entry| (entry.tag, entry.payload.to_vec()));
                (operations.key().to_vec(), entries.collect())
            })
            .collect();
        assert_eq!(found, expected);
        let ranges = sorted.range_deletes();
        for pair in ranges.windows(2) {
            assert!(pair[0].end.as_ref().is_some_and(|end| *end < pair[1].low));
        }
        for (key, covered) in covered {
            let inside = ranges
                .iter()
                .any(|range| range.low <= key && range.end.as_ref().is_none_or(|end| key < *end));
            assert_eq!(inside, covered, "{key:?}");
        }
    }
}
