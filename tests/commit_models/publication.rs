//! What readers see while commits are published, journals are frozen, and flushed.

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use crate::cache::{deferred, pin};
use crate::check;
use crate::format::SequenceNumber;
use crate::snapshot::{Journal, Version, View};
use crate::store::current::Current;

struct Store {
    current: Current,
    published: AtomicU64,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            current: Current::new(Version::new(Vec::new(), vec![Arc::default()])),
            published: AtomicU64::new(0),
        })
    }

    fn view(&self) -> View {
        let published = || SequenceNumber(self.published.load(Ordering::Acquire));
        self.current.view(published)
    }

    /// As a commit does; every other one fills the journal.
    fn commit(&self, sequence: u64) {
        let mut current = self.current.change();
        current.parts().journals[0].lock().unwrap().push(sequence);
        self.published.store(sequence, Ordering::Release);
        if sequence.is_multiple_of(2) {
            let parts = current.parts();
            let journals = parts.journals.iter().cloned();
            let journals = std::iter::once(Arc::<Journal>::default()).chain(journals);
            let version = Version::new(parts.tree.clone(), journals.collect());
            current.store(version);
        }
    }

    /// As a large commit does, which is in the tree before it is published.
    fn commit_elsewhere(&self, sequence: u64) {
        let mut current = self.current.change();
        let parts = current.parts();
        let tree = parts.tree.iter().copied().chain([sequence]);
        let version = Version::new(tree.collect(), parts.journals.clone());
        current.store(version);
        self.published.store(sequence, Ordering::Release);
    }

    /// Brings the oldest journal into the tree, if it is not the newest.
    fn flush(&self) {
        let mut current = self.current.change();
        let parts = current.parts();
        if let [newer @ .., oldest] = &parts.journals[..]
            && !newer.is_empty()
        {
            let flushed = oldest.lock().unwrap().clone();
            let tree = parts.tree.iter().copied().chain(flushed);
            let version = Version::new(tree.collect(), newer.to_vec());
            current.store(version);
        }
    }
}

/// All through its bound, once.
fn assert_whole(view: &View) {
    let SequenceNumber(bound) = view.bound;
    let mut seen = view.version.tree.clone();
    for journal in &view.version.journals {
        let entered = journal.lock().unwrap().clone();
        // What comes after is beyond the bound.
        seen.extend(entered.into_iter().filter(|sequence| *sequence <= bound));
    }
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(1..=bound));
}

#[test]
fn a_view_has_every_commit_through_its_bound_and_later_ones_no_less() {
    check(|| {
        let store = Store::new();
        let readers = [(), ()].map(|()| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let mut last = SequenceNumber(0);
                for _ in 0..3 {
                    let view = store.view();
                    assert_whole(&view);
                    assert!(view.bound >= last);
                    last = view.bound;
                }
            })
        });
        let flushes = {
            let store = Arc::clone(&store);
            thread::spawn(move || (0..2).for_each(|_| store.flush()))
        };
        for sequence in 1..=5 {
            match sequence {
                3 => store.commit_elsewhere(sequence),
                _ => store.commit(sequence),
            }
            // Who committed sees it.
            let view = store.view();
            assert_eq!(view.bound, SequenceNumber(sequence));
            assert_whole(&view);
        }
        flushes.join().unwrap();
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn what_a_guard_may_have_seen_stays_and_the_rest_goes() {
    check(|| {
        let store = Store::new();
        let readers = [(), ()].map(|()| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                for _ in 0..2 {
                    let guard = pin();
                    let gone = Arc::clone(&store.current.parts(&guard).gone);
                    thread::yield_now();
                    assert!(!gone.load(Ordering::SeqCst), "it is looked at");
                    drop(guard);
                }
            })
        });
        let (first, gone) = {
            let first = store.current.load_full();
            (Arc::downgrade(&first), Arc::clone(&first.gone))
        };
        (1..=4).for_each(|sequence| store.commit(sequence));
        assert!(first.upgrade().is_none(), "the version itself goes at once");
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        drop(pin());
        assert!(
            gone.load(Ordering::SeqCst) && deferred() == 0,
            "nothing is kept for ever"
        );
    });
}
