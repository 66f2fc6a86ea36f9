//! [`Queue`]: whose turn it is to write, and who is told of it.
//!
//! One writes at a time: somebody alone, or one for a group of all who waited. Who finds nobody takes
//! the turn at once, and one who will be done in a moment is waited for without sleeping. Everybody else
//! enters the queue, and whoever finds no turn taken makes a group of those who wait there.
//!
//! * A thread that waits sees its group through, and sleeps no sooner than that. When its turn ends,
//!   the first thread that waits is woken *before* those whose outcome is known, so that the next group
//!   is under way while they are still being woken; and each of them is woken once.
//! * A task may be forgotten by those who poll it. So a group that a task begins is driven by all who
//!   wait, and where only tasks wait, all of them are told that it is somebody's turn.
//! * A group belongs to the queue: if the future of who began it is dropped, the others go on with it.
//!   If nobody else is there, it is for the caller to have somebody [advance](Queue::advance) it.
//!
//! That nobody is forgotten rests on an order: who waits first leaves word whom to wake, and then looks
//! whose turn it is; who ends a turn first says so, and then looks whom to wake.

use std::future::Future;
use std::hint::spin_loop;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use smallvec::SmallVec;

use super::gate::lock;
use super::signal::Signal;
use super::sync::{Arc, AtomicUsize, Mutex, Ordering};

/// How often a thread looks whether a turn that takes a moment has ended: about as long as falling
/// asleep and being woken would take it.
const LOOKS_MAX: u32 = 200;

/// Nobody has the turn.
const FREE: usize = 0;
/// Somebody has it, and will be done in a moment.
const BRIEF: usize = 1;
/// Somebody has it for longer than that.
const LONG: usize = 2;

/// What is done with those who wait.
pub(crate) trait Write: Clone + Send + Sync + 'static {
    type Entry: Send + 'static;
    type Outcome: Send + 'static;

    fn queue(&self) -> &Queue<Self::Entry, Self::Outcome>;

    /// How many of those who wait make a group, from the first on: at least one.
    fn together<'e>(&self, waiting: impl Iterator<Item = &'e Self::Entry>) -> usize;

    /// Does what a group wants; gives what came of each. Does not panic.
    fn write(
        &self,
        entries: Vec<Self::Entry>,
    ) -> impl Future<Output = Vec<Self::Outcome>> + Send + '_;
}

/// See the module.
pub(crate) struct Queue<E, O> {
    state: Mutex<State<E, O>>,
    /// `FREE`, `BRIEF` or `LONG`. Changed with the lock.
    pace: AtomicUsize,
    /// A turn has ended, and somebody who is not in the queue waited for that.
    ended: Signal,
    looks_max: u32,
}

struct State<E, O> {
    waiting: Vec<Waiting<E, O>>,
    turn: Option<Taken<O>>,
    /// Somebody who is not in the queue waits for the turn to end.
    awaited: bool,
}

struct Waiting<E, O> {
    entry: E,
    place: Arc<Place<O>>,
    /// A thread waits for it and does nothing else.
    on_thread: bool,
}

type Group = Shared<BoxFuture<'static, ()>>;
type Members<O> = Arc<Vec<Arc<Place<O>>>>;
type Wakers = SmallVec<[Waker; 1]>;

/// Who has the turn.
enum Taken<O> {
    Alone,
    Group {
        group: Group,
        members: Members<O>,
        /// One thread sees it through: nobody else drives it.
        on_thread: bool,
    },
}

/// Where one who waits finds what came of it.
struct Place<O>(Mutex<Found<O>>);

struct Found<O> {
    outcome: Option<O>,
    waker: Option<Waker>,
}

impl<O> Place<O> {
    fn new() -> Arc<Self> {
        let (outcome, waker) = (None, None);
        Arc::new(Self(Mutex::new(Found { outcome, waker })))
    }

    /// What came of it; or whom to wake when that is known, or when somebody's turn has come.
    fn outcome_or_wake(&self, waker: &Waker) -> Option<O> {
        let mut found = lock(&self.0);
        if let Some(outcome) = found.outcome.take() {
            return Some(outcome);
        }
        let kept = found.waker.as_ref();
        let replaced = match kept.is_some_and(|kept| kept.will_wake(waker)) {
            true => None,
            false => found.waker.replace(waker.clone()),
        };
        // A waker may be the last that keeps its task.
        drop(found);
        drop(replaced);
        None
    }

    fn settle(&self, outcome: O) -> Option<Waker> {
        let mut found = lock(&self.0);
        found.outcome = Some(outcome);
        found.waker.take()
    }

    fn take_waker(&self) -> Option<Waker> {
        lock(&self.0).waker.take()
    }
}

impl<E, O> State<E, O> {
    /// Whom to wake now that nobody has the turn.
    fn next(&self) -> Wakers {
        let mut waiting = self.waiting.iter();
        match waiting.find(|waiting| waiting.on_thread) {
            // One who left no word yet is about to look.
            Some(first) => first.place.take_waker().into_iter().collect(),
            None => self.all_waiting().collect(),
        }
    }

    fn all_waiting(&self) -> impl Iterator<Item = Waker> {
        let places = self.waiting.iter().map(|waiting| &waiting.place);
        places.filter_map(|place| place.take_waker())
    }
}

/// The turn, until dropped.
pub(crate) struct Turn<'q, E, O> {
    queue: &'q Queue<E, O>,
}

impl<E, O> Drop for Turn<'_, E, O> {
    #[inline]
    fn drop(&mut self) {
        self.queue.end();
    }
}

/// The next thing to do for somebody who waits.
enum Next {
    Drive { group: Group, on_thread: bool },
    Wait,
    Nothing,
}

impl<E, O> Queue<E, O> {
    /// A queue for so many processors.
    pub(crate) fn new(processors: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                turn: None,
                awaited: false,
            }),
            pace: AtomicUsize::new(FREE),
            ended: Signal::default(),
            // On one processor nobody gets any further while another one looks.
            looks_max: if processors > 1 { LOOKS_MAX } else { 0 },
        }
    }

    /// The turn, if nobody has it and nobody waits. `brief`: for a moment, in which nothing is waited
    /// for.
    #[inline]
    pub(crate) fn turn(&self, brief: bool) -> Option<Turn<'_, E, O>> {
        let mut state = lock(&self.state);
        if !state.waiting.is_empty() || state.turn.is_some() {
            return None;
        }
        state.turn = Some(Taken::Alone);
        self.pace
            .store(if brief { BRIEF } else { LONG }, Ordering::Release);
        Some(Turn { queue: self })
    }

    /// The same for a thread, which does not mind looking for a while where that is shorter than
    /// waiting.
    #[inline]
    pub(crate) fn turn_soon(&self, brief: bool) -> Option<Turn<'_, E, O>> {
        let mut looks = 0;
        loop {
            match self.pace.load(Ordering::Acquire) {
                FREE => return self.turn(brief),
                BRIEF if looks < self.looks_max => spin_loop(),
                _ => return None,
            }
            looks += 1;
        }
    }

    /// Nobody has the turn any more.
    fn end(&self) {
        let mut state = lock(&self.state);
        let ended = state.turn.take();
        self.pace.store(FREE, Ordering::Release);
        let next = state.next();
        let awaited = std::mem::take(&mut state.awaited);
        drop(state);
        drop(ended);
        next.into_iter().for_each(Waker::wake);
        if awaited {
            self.ended.give();
        }
    }

    /// Tells a group what came of it, and ends its turn.
    fn settle(&self, members: &[Arc<Place<O>>], outcomes: Vec<O>) {
        debug_assert_eq!(members.len(), outcomes.len(), "everybody is told");
        let pairs = members.iter().zip(outcomes);
        let wakers = pairs.filter_map(|(place, outcome)| place.settle(outcome));
        let wakers: Vec<_> = wakers.collect();
        // Only now: who finds nobody with the turn finds what came of it.
        self.end();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whoever drove the group under way does so no more: all others are told to look, since it may be
    /// that one alone who was woken to go on. `on_thread`: nobody else drove it.
    fn leave_group(&self, on_thread: bool) {
        let mut state = lock(&self.state);
        let mut wakers: Wakers = state.all_waiting().collect();
        let mut awaited = false;
        if let Some(Taken::Group {
            members,
            on_thread: driven,
            ..
        }) = &mut state.turn
        {
            wakers.extend(members.iter().filter_map(|member| member.take_waker()));
            if on_thread {
                *driven = false;
                awaited = std::mem::take(&mut state.awaited);
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if awaited {
            self.ended.give();
        }
    }

    /// The group under way, or a new one of those who wait. `on_thread`: a thread asks for it, which
    /// sees it through.
    fn next<W>(&self, state: &mut State<E, O>, write: &W, on_thread: bool) -> Next
    where
        W: Write<Entry = E, Outcome = O>,
        E: Send + 'static,
        O: Send + 'static,
    {
        match &state.turn {
            Some(Taken::Group {
                group,
                on_thread: false,
                ..
            }) => {
                let group = group.clone();
                return Next::Drive {
                    group,
                    on_thread: false,
                };
            }
            Some(_) => return Next::Wait,
            None => {}
        }
        if state.waiting.is_empty() {
            return Next::Nothing;
        }
        let count = write.together(state.waiting.iter().map(|waiting| &waiting.entry));
        let taken = state.waiting.drain(..count);
        let taken = taken.map(|waiting| (waiting.entry, waiting.place));
        let (entries, places): (Vec<E>, Vec<_>) = taken.unzip();
        let members = Arc::new(places);
        let group = run(write.clone(), entries, Arc::clone(&members));
        let group = group.boxed().shared();
        state.turn = Some(Taken::Group {
            group: group.clone(),
            members,
            on_thread,
        });
        self.pace.store(LONG, Ordering::Release);
        Next::Drive { group, on_thread }
    }

    /// Enters the queue, and drives groups until it is known what came of an entry. `on_thread`: a
    /// thread waits for that, and does nothing else. If the future is dropped, the entry stays.
    pub(crate) fn enter<'w, W>(write: &'w W, entry: E, on_thread: bool) -> InQueue<'w, W>
    where
        W: Write<Entry = E, Outcome = O>,
    {
        let place = Place::new();
        lock(&write.queue().state).waiting.push(Waiting {
            entry,
            place: Arc::clone(&place),
            on_thread,
        });
        InQueue {
            write,
            place,
            on_thread,
            driving: None,
            ended: false,
        }
    }

    /// For those who are not in the queue: drives the group under way, or a new one of those who wait,
    /// to its end, or waits for it; says whether there was any.
    pub(crate) async fn advance<W>(write: &W) -> bool
    where
        W: Write<Entry = E, Outcome = O>,
        E: Send + 'static,
        O: Send + 'static,
    {
        let queue = write.queue();
        let (next, count) = {
            let mut state = lock(&queue.state);
            let next = queue.next(&mut state, write, false);
            state.awaited |= matches!(next, Next::Wait);
            (next, queue.ended.count())
        };
        match next {
            Next::Drive { group, .. } => {
                let mut leaving = Leaving {
                    queue,
                    ended: false,
                };
                group.await;
                leaving.ended = true;
            }
            Next::Wait => queue.ended.after(count).await,
            Next::Nothing => return false,
        }
        true
    }
}

/// Somebody who drives a group and may be dropped.
struct Leaving<'q, E, O> {
    queue: &'q Queue<E, O>,
    ended: bool,
}

impl<E, O> Drop for Leaving<'_, E, O> {
    fn drop(&mut self) {
        if !self.ended {
            self.queue.leave_group(false);
        }
    }
}

async fn run<W: Write>(write: W, entries: Vec<W::Entry>, members: Members<W::Outcome>) {
    let outcomes = write.write(entries).await;
    write.queue().settle(&members, outcomes);
}

/// See [`Queue::enter`].
pub(crate) struct InQueue<'w, W: Write> {
    write: &'w W,
    place: Arc<Place<W::Outcome>>,
    on_thread: bool,
    /// A group, and whether nobody else drives it.
    driving: Option<(Group, bool)>,
    ended: bool,
}

impl<W: Write> Unpin for InQueue<'_, W> {}

impl<W: Write> Future for InQueue<'_, W> {
    type Output = W::Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<W::Outcome> {
        loop {
            if let Some((group, _)) = &mut self.driving {
                ready!(group.poll_unpin(context));
                self.driving = None;
            }
            // In this order: see the module.
            if let Some(outcome) = self.place.outcome_or_wake(context.waker()) {
                self.ended = true;
                return Poll::Ready(outcome);
            }
            let queue = self.write.queue();
            let next = queue.next(&mut lock(&queue.state), self.write, self.on_thread);
            match next {
                Next::Drive { group, on_thread } => self.driving = Some((group, on_thread)),
                Next::Wait => return Poll::Pending,
                // It has ended between the two looks.
                Next::Nothing => {}
            }
        }
    }
}

impl<W: Write> Drop for InQueue<'_, W> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let queue = self.write.queue();
        // Both may have wakers, and a waker may be the last that keeps a task which is in the queue.
        let (own, driving) = (self.place.take_waker(), self.driving.take());
        let mut state = lock(&queue.state);
        let mut waiting = state.waiting.iter_mut();
        if let Some(own) = waiting.find(|other| Arc::ptr_eq(&other.place, &self.place)) {
            own.on_thread = false;
        }
        // It may have been the one who was told that it is somebody's turn.
        let next = match state.turn {
            None => state.next(),
            Some(_) => Wakers::new(),
        };
        drop(state);
        if let Some((_, on_thread)) = driving {
            queue.leave_group(on_thread);
        }
        drop(own);
        next.into_iter().for_each(Waker::wake);
    }
}
