//! Watches to their end: nothing is left out before it, it always comes, and nothing is kept after it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::Stream;
use thunderhead::disk::{FileDisk, FileDiskOptions, MemoryDisk, SimulatedMachine};
use thunderhead::{
    Change, Durability, Error, ErrorKind, Maintenance, Options, Prefix, Result, Store, Watch,
    Watched,
};

const KINDS: [Maintenance; 2] = [Maintenance::Background, Maintenance::Caller];

/// A task that counts how often it is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a watch has for a task by now.
fn poll(watch: &mut Watch, task: &Arc<Task>) -> Poll<Option<Result<Watched>>> {
    let waker = Waker::from(Arc::clone(task));
    Pin::new(watch).poll_next(&mut Context::from_waker(&waker))
}

/// A watch that ends, and with which error.
fn end(watch: &mut Watch, task: &Arc<Task>) -> ErrorKind {
    let Poll::Ready(Some(Err(error))) = poll(watch, task) else {
        panic!("it has not ended");
    };
    assert!(matches!(poll(watch, task), Poll::Ready(None)));
    error.kind()
}

/// The key of the only put of a commit.
fn key_put(watched: Poll<Option<Result<Watched>>>) -> Vec<u8> {
    let Poll::Ready(Some(Ok(Watched::Commit { changes, .. }))) = watched else {
        panic!("{watched:?}");
    };
    let [Change::Put { key, .. }] = &changes[..] else {
        panic!("{changes:?}");
    };
    key.clone()
}

fn store(maintenance: Maintenance) -> Store {
    let options = Options::new().maintenance(maintenance);
    options.open_disk(MemoryDisk::new()).unwrap()
}

#[test]
fn what_was_committed_before_the_end_is_given_before_it() {
    // More than is looked at in one go.
    let commits = |store: &Store| {
        let deferred = store.with_durability(Durability::Deferred);
        for number in 0..5000u32 {
            let key = [b"b", &number.to_be_bytes()[..]].concat();
            deferred.put(key, "elsewhere").wait().unwrap();
        }
        deferred.put("a", "watched").wait().unwrap();
    };
    let endings: [fn(Store); 2] = [|store| store.close().wait().unwrap(), drop];
    for ending in endings {
        let store = store(Maintenance::Caller);
        let mut watch = store.watch(Prefix("a"), store.sequence());
        commits(&store);
        ending(store);
        let task = Arc::default();
        assert_eq!(key_put(poll(&mut watch, &task)), b"a");
        assert_eq!(end(&mut watch, &task), ErrorKind::Closed);
    }
}

#[test]
fn a_watch_ends_with_the_last_clone_of_its_store() {
    for maintenance in KINDS {
        let store = store(maintenance);
        let mut watch = store.watch(.., store.sequence());
        let task = Arc::default();
        assert!(poll(&mut watch, &task).is_pending());
        drop(store.clone());
        assert!(poll(&mut watch, &task).is_pending());
        assert_eq!(task.woken(), 0);
        drop(store);
        assert_eq!(task.woken(), 1);
        assert_eq!(end(&mut watch, &task), ErrorKind::Closed);
    }
}

#[test]
fn a_watch_of_a_store_that_is_poisoned_ends() {
    let machine = SimulatedMachine::new(1);
    let disk = FileDisk::create_on(&machine, &FileDiskOptions::default()).unwrap();
    let options = Options::new().maintenance(Maintenance::Caller);
    let store = options.open_disk(disk).unwrap();
    let mut watch = store.watch(.., store.sequence());
    let mut behind = store.watch(.., store.sequence());
    let task = Arc::default();
    store.put("before", "1").wait().unwrap();
    assert_eq!(key_put(poll(&mut watch, &task)), b"before");
    assert!(poll(&mut watch, &task).is_pending());
    machine.fail_syncs(1);
    store.put("in doubt", "2").wait().unwrap_err();
    assert_eq!(task.woken(), 1);
    assert_eq!(end(&mut watch, &task), ErrorKind::Poisoned);
    // Readers see what was published, and so do watches.
    assert_eq!(key_put(poll(&mut behind, &task)), b"before");
    assert_eq!(end(&mut behind, &task), ErrorKind::Poisoned);
}

#[test]
fn a_watch_of_a_store_that_is_read_only_ends_when_it_is_closed() {
    let disk = MemoryDisk::new();
    let options = Options::new().maintenance(Maintenance::Caller);
    let store = options.open_disk(disk.clone()).unwrap();
    store.put("before", "1").wait().unwrap();
    store.close().wait().unwrap();
    let store = options.read_only().open_disk(disk).unwrap();
    let mut watch = store.watch(.., store.sequence());
    let task = Arc::default();
    assert!(poll(&mut watch, &task).is_pending());
    store.close().wait().unwrap();
    assert_eq!(task.woken(), 1);
    assert_eq!(end(&mut watch, &task), ErrorKind::Closed);
}

#[test]
fn tasks_that_do_not_wait_any_longer_are_forgotten() {
    let store = store(Maintenance::Caller);
    let kept = |task: &Arc<Task>| Arc::strong_count(task) - 1;
    let first = Arc::default();
    let mut passed_on = store.watch(.., store.sequence());
    assert!(poll(&mut passed_on, &first).is_pending());
    for _ in 0..10 {
        let task = Arc::default();
        let mut watch = store.watch(.., store.sequence());
        assert!(poll(&mut watch, &task).is_pending());
        assert!(poll(&mut watch, &task).is_pending());
        assert_eq!(kept(&task), 1);
        drop(watch);
        assert_eq!(kept(&task), 0);
    }
    // One watch wakes who asked it last.
    let last = Arc::default();
    assert!(poll(&mut passed_on, &last).is_pending());
    assert_eq!((kept(&first), kept(&last)), (0, 1));
    // A task that waits for two of them goes on waiting for the other one.
    let mut other = store.watch(.., store.sequence());
    assert!(poll(&mut other, &last).is_pending());
    drop(other);
    store.put("k", "v").wait().unwrap();
    assert_eq!((first.woken(), last.woken()), (0, 1));
    assert_eq!(key_put(poll(&mut passed_on, &last)), b"k");
}

#[test]
fn a_task_may_go_when_its_waker_is_let_go() {
    /// Owns the watch that keeps its waker.
    #[derive(Default)]
    struct Owner(std::sync::Mutex<Option<Watch>>);

    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }

    let store = store(Maintenance::Caller);
    let mut outer = store.watch(.., store.sequence());
    let owner = Arc::<Owner>::default();
    let waker = Waker::from(Arc::clone(&owner));
    let mut context = Context::from_waker(&waker);
    let mut inner = store.watch(.., store.sequence());
    let task = Arc::default();
    assert!(poll(&mut inner, &task).is_pending());
    assert!(Pin::new(&mut outer).poll_next(&mut context).is_pending());
    *owner.0.lock().unwrap() = Some(inner);
    drop((waker, owner));
    // With the last waker goes its task, and with that the watch which it waited for.
    drop(outer);
    assert_eq!(Arc::strong_count(&task), 1);
}

#[test]
fn who_comes_after_the_end_is_told_at_once() {
    let store = store(Maintenance::Caller);
    let other = store.clone();
    store.close().wait().unwrap();
    let mut watch = other.watch(.., other.sequence());
    let error: Error = watch.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
