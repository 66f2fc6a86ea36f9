//! Transactions that are open beside each other and beside all other calls.
//!
//! What each reads is the state in which it began, under its own writes. Whether it may commit follows
//! from what it asked for: done again on the state in which it commits, it must see the same, or it
//! must be refused; and where nobody wrote to what it asked for, it must not be. What it leaves is what
//! doing it again leaves.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use thunderhead::{Durability, ErrorKind, Isolation, Store, Transaction};

use crate::reading::Readable;
use crate::run::{Map, Outcome, Setup, apply, between, do_inside, told};
use crate::script::{Beside, Inside, Modify, Read, Step, Write};

/// A range of keys.
type Span = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// What is seen of the entries that were asked for.
/// How what was seen is told.
type Shown = fn(&[(&Vec<u8>, &Vec<u8>)]) -> String;
type See = Box<dyn Fn(&[(&Vec<u8>, &Vec<u8>)]) -> String>;

/// What an open transaction did.
enum Deed {
    Asked {
        spans: Vec<Span>,
        see: See,
        seen: String,
    },
    Wrote(Write),
    /// What became of some keys, by what was there.
    Changed(Vec<(Vec<u8>, Option<Vec<u8>>)>),
}

/// A transaction that is open.
struct Open {
    transaction: Transaction,
    isolation: Isolation,
    /// The state in which it began, and the same with its writes.
    base: Map,
    own: Map,
    deeds: Vec<Deed>,
    /// Keys that are what it wrote, whatever they were.
    decided: BTreeSet<Vec<u8>>,
    /// Keys that it put or deleted for certain, and where it may have.
    replaced: BTreeSet<Vec<u8>>,
    claims: Vec<Span>,
    /// It was only asked.
    only_reads: bool,
    /// How many bytes it wrote, about.
    bytes: usize,
    /// How many commits there were when it began.
    since: usize,
}

/// How many of those that wrote were committed, and how many refused, in all runs of this process.
pub static COMMITTED: AtomicU64 = AtomicU64::new(0);
pub static REFUSED: AtomicU64 = AtomicU64::new(0);

/// All that are open, and what commits have written to.
#[derive(Default)]
pub struct Besides {
    open: Vec<Open>,
    commits: Vec<Vec<Span>>,
}

const MOST: usize = 4;

/// Transactions that wrote more may be too large for the log, and alone at their commit.
const BYTES_LOGGED: usize = 16 << 10;

fn point(key: &[u8]) -> Span {
    (Bound::Included(key.to_vec()), Bound::Included(key.to_vec()))
}

fn everything() -> Span {
    (Bound::Unbounded, Bound::Unbounded)
}

fn lent(span: &Span) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let lend = |bound| Bound::as_ref(bound).map(Vec::as_slice);
    (lend(&span.0), lend(&span.1))
}

/// Whether there may be a key that is in both.
fn overlap(one: &Span, other: &Span) -> bool {
    let before = |high: &Bound<Vec<u8>>, low: &Bound<Vec<u8>>| match (high, low) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(high), Bound::Included(low)) => high < low,
        (
            Bound::Included(high) | Bound::Excluded(high),
            Bound::Included(low) | Bound::Excluded(low),
        ) => high <= low,
    };
    let is_empty = |span: &Span| before(&span.1, &span.0);
    !(is_empty(one) || is_empty(other) || before(&one.1, &other.0) || before(&other.1, &one.0))
}

fn of_all(entries: &[(&Vec<u8>, &Vec<u8>)]) -> String {
    format!("{entries:?}")
}

fn of_keys(entries: &[(&Vec<u8>, &Vec<u8>)]) -> String {
    let keys: Vec<_> = entries.iter().map(|(key, _)| key).collect();
    format!("{keys:?}")
}

fn of_lengths(entries: &[(&Vec<u8>, &Vec<u8>)]) -> String {
    let lengths: Vec<_> = entries.iter().map(|(_, value)| value.len()).collect();
    format!("{lengths:?}")
}

fn of_count(entries: &[(&Vec<u8>, &Vec<u8>)]) -> String {
    entries.len().to_string()
}

fn of_nothing(_: &[(&Vec<u8>, &Vec<u8>)]) -> String {
    String::new()
}

fn first(map: &Map) -> Span {
    let key = map.keys().next();
    (
        Bound::Unbounded,
        key.map_or(Bound::Unbounded, |key| Bound::Included(key.clone())),
    )
}

fn last(map: &Map) -> Span {
    let key = map.keys().next_back();
    (
        key.map_or(Bound::Unbounded, |key| Bound::Included(key.clone())),
        Bound::Unbounded,
    )
}

/// What a read asks for in a state, at most, and what it sees of that for certain.
fn asked(setup: &Setup, map: &Map, read: &Read) -> (Vec<Span>, Shown) {
    let key = |number: &usize| point(&setup.keys[*number]);
    let span = |low: &Bound<usize>, high: &Bound<usize>| {
        let own = |bound: &Bound<usize>| bound.map(|number| setup.keys[number].clone());
        (own(low), own(high))
    };
    match read {
        Read::Get(number) | Read::GetWith(number) => (vec![key(number)], of_all),
        Read::GetMany(numbers) => (numbers.iter().map(key).collect(), of_all),
        Read::GetPart(number, ..) | Read::ContainsKey(number) => (vec![key(number)], of_keys),
        Read::Stream(number, ..) => (vec![key(number)], of_all),
        Read::ValueLength(number) => (vec![key(number)], of_lengths),
        Read::Range(low, high, _) => (vec![span(low, high)], of_all),
        Read::Keys(low, high, _) => (vec![span(low, high)], of_keys),
        Read::Cursor(low, high, _) => (vec![span(low, high)], of_nothing),
        Read::Prefix(number, length) => {
            let key = &setup.keys[*number];
            let prefix = key[..(*length).min(key.len())].to_vec();
            let mut end = prefix.clone();
            while end.last() == Some(&u8::MAX) {
                end.pop();
            }
            let high = match end.last_mut() {
                Some(last) => {
                    *last += 1;
                    Bound::Excluded(end)
                }
                None => Bound::Unbounded,
            };
            (vec![(Bound::Included(prefix), high)], of_all)
        }
        Read::Components(_) => (vec![everything()], of_nothing),
        Read::First => (vec![first(map)], of_all),
        Read::Last => (vec![last(map)], of_all),
        Read::Len => (vec![everything()], of_count),
        Read::IsEmpty => (vec![everything()], of_nothing),
        Read::Count(low, high) => (vec![span(low, high)], of_count),
        Read::Estimate(..) => (Vec::new(), of_nothing),
        Read::Nth(rank) => {
            let found = map.keys().nth(*rank as usize);
            let high = found.map_or(Bound::Unbounded, |key| Bound::Included(key.clone()));
            (vec![(Bound::Unbounded, high)], of_count)
        }
    }
}

/// The same of what a write depends on.
fn asked_by(setup: &Setup, map: &Map, modify: &Modify) -> (Vec<Span>, See) {
    let key = |number: &usize| vec![point(&setup.keys[*number])];
    let span = |low: &Bound<usize>, high: &Bound<usize>| {
        let own = |bound: &Bound<usize>| bound.map(|number| setup.keys[number].clone());
        vec![(own(low), own(high))]
    };
    match modify {
        Modify::Insert(number, _)
        | Modify::Remove(number)
        | Modify::PutIfAbsent(number, _)
        | Modify::CompareExchange(number, ..)
        | Modify::Update(number, _) => (key(number), Box::new(of_all)),
        Modify::Stream(..) => (Vec::new(), Box::new(of_nothing)),
        Modify::WriteAt(number, _, content) | Modify::AppendTo(number, content) => {
            let see = if content.0 > 0 { of_all } else { of_nothing };
            (key(number), Box::new(see))
        }
        Modify::Truncate(number, length) => {
            let length = *length as usize;
            let see = move |entries: &[(&Vec<u8>, &Vec<u8>)]| {
                let cut = entries.iter().filter(|(_, value)| value.len() > length);
                format!(
                    "{:?}",
                    cut.map(|(_, value)| &value[..length]).collect::<Vec<_>>()
                )
            };
            (key(number), Box::new(see))
        }
        Modify::PopFirst => (vec![first(map)], Box::new(of_all)),
        Modify::PopLast => (vec![last(map)], Box::new(of_all)),
        Modify::RetainIn(low, high, number) | Modify::ExtractIf(low, high, number) => {
            let number = *number;
            let see = move |entries: &[(&Vec<u8>, &Vec<u8>)]| {
                let chosen = entries
                    .iter()
                    .filter(|(key, value)| crate::modifying::chosen(number, key, value));
                format!("{:?}", chosen.collect::<Vec<_>>())
            };
            (span(low, high), Box::new(see))
        }
    }
}

/// How two states differ.
fn changes(before: &Map, after: &Map) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), None));
    let new = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value));
    let new = new.map(|(key, value)| (key.clone(), Some(value.clone())));
    gone.chain(new).collect()
}

/// What a write writes to.
fn written(setup: &Setup, write: &Write) -> Span {
    match write {
        Write::Put(key, _)
        | Write::PutReserved(key, _)
        | Write::Delete(key)
        | Write::Merge(key, ..) => point(&setup.keys[*key]),
        Write::DeleteRange(low, high) => {
            let own = |bound: &Bound<usize>| bound.map(|number| setup.keys[number].clone());
            (own(low), own(high))
        }
    }
}

/// The keys that begin with some bytes.
fn beginning_with(prefix: &[u8]) -> Span {
    let mut end = prefix.to_vec();
    while end.last() == Some(&255) {
        end.pop();
    }
    let end = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    (Bound::Included(prefix.to_vec()), end)
}

/// What one call of a transaction may have written to.
fn touched(setup: &Setup, before: &Map, after: &Map, inside: &Inside) -> Vec<Span> {
    let own = |bound: &Bound<usize>| bound.map(|number| setup.keys[number].clone());
    let changed = changes(before, after);
    let mut spans: Vec<Span> = changed.iter().map(|(key, _)| point(key)).collect();
    match inside {
        Inside::Write(write) => spans.push(written(setup, write)),
        Inside::Modify(Modify::Stream(key, ..)) | Inside::Append(key, _) => {
            spans.push(point(&setup.keys[*key]));
        }
        Inside::Modify(modify) => spans.extend(asked_by(setup, before, modify).0),
        Inside::Edit(low, high, _) => spans.push((own(low), own(high))),
        Inside::Clone(from, to, length) => {
            let length = setup.keys[*from].len().min(*length);
            let to = &setup.keys[*to];
            spans.push(beginning_with(&to[..to.len().min(length)]));
        }
        Inside::Read(_) => {}
    }
    spans
}

/// The entries of some spans.
fn entries<'m>(map: &'m Map, spans: &[Span]) -> Vec<(&'m Vec<u8>, &'m Vec<u8>)> {
    spans
        .iter()
        .flat_map(|span| between(map, lent(span)))
        .collect()
}

impl Besides {
    /// A step of others was done: what it may have written to.
    pub fn note(&mut self, setup: &Setup, step: &Step, before: &Map, after: &Map) {
        let insides: Vec<Inside> = match step {
            Step::Write(write, _) => vec![Inside::Write(write.clone())],
            Step::Modify(modify, _) => vec![Inside::Modify(modify.clone())],
            Step::Batch { writes, commit, .. } if *commit => {
                writes.iter().cloned().map(Inside::Write).collect()
            }
            Step::Transaction { inside, commit, .. } if *commit => inside.clone(),
            Step::Savepoint {
                before,
                after,
                kept,
                ..
            } => match kept {
                true => [&before[..], after].concat(),
                false => before.clone(),
            },
            _ => return,
        };
        let mut spans: Vec<Span> = Vec::new();
        for inside in &insides {
            let pops = matches!(inside, Inside::Modify(Modify::PopFirst | Modify::PopLast));
            match pops && insides.len() > 1 {
                // Who knows what those before it left.
                true => spans.push(everything()),
                false => spans.extend(touched(setup, before, after, inside)),
            }
        }
        self.commits.push(spans);
    }

    /// The store is closed: all that are open end.
    pub fn end(&mut self) {
        self.open.clear();
    }

    /// Does a step; says whether anything was committed, which the map has then.
    pub fn step(&mut self, setup: &Setup, store: &Store, map: &mut Map, step: &Beside) -> Outcome {
        match step {
            Beside::Begin(isolation) => {
                if self.open.len() == MOST {
                    return Ok(());
                }
                let mut transaction = store.begin().wait().map_err(told)?;
                transaction.set_isolation(*isolation);
                self.open.push(Open {
                    transaction,
                    isolation: *isolation,
                    base: map.clone(),
                    own: map.clone(),
                    deeds: Vec::new(),
                    decided: BTreeSet::new(),
                    replaced: BTreeSet::new(),
                    claims: Vec::new(),
                    only_reads: true,
                    bytes: 0,
                    since: self.commits.len(),
                });
                Ok(())
            }
            _ if self.open.is_empty() => Ok(()),
            Beside::Within(number, inside) => {
                let at = number % self.open.len();
                self.open[at].make(setup, inside)
            }
            Beside::Commit(number, durability) => {
                let open = self.open.swap_remove(number % self.open.len());
                self.commit(setup, store, map, open, *durability)
            }
            Beside::Drop(number) => {
                let open = self.open.swap_remove(number % self.open.len());
                let mut transaction = open.transaction;
                transaction.subtree(&setup.view).check_all(&open.own)
            }
        }
    }

    fn commit(
        &mut self,
        setup: &Setup,
        store: &Store,
        map: &mut Map,
        open: Open,
        durability: Durability,
    ) -> Outcome {
        let Open {
            mut transaction,
            isolation,
            base,
            deeds,
            replaced,
            mut claims,
            only_reads,
            bytes,
            since,
            ..
        } = open;
        let mut now = map.clone();
        let mut differs = None;
        let mut spans: Vec<Span> = Vec::new();
        let mut wrote = claims.clone();
        for deed in deeds {
            match deed {
                Deed::Asked {
                    spans: asked,
                    see,
                    seen,
                } => {
                    let again = see(&entries(&now, &asked));
                    if again != seen {
                        differs.get_or_insert((asked.clone(), seen, again));
                    }
                    spans.extend(asked);
                }
                Deed::Wrote(write) => {
                    wrote.push(written(setup, &write));
                    apply(&mut now, setup, &write);
                }
                Deed::Changed(changes) => {
                    for (key, value) in changes {
                        match value {
                            Some(value) => now.insert(key, value),
                            None => now.remove(&key),
                        };
                    }
                }
            }
        }
        let (must, may): (Option<String>, Vec<Span>) = match isolation {
            Isolation::Snapshot => {
                let changed = replaced.iter().find(|key| base.get(*key) != map.get(*key));
                let must = changed.map(|key| format!("{key:?} was changed and replaced"));
                if bytes > BYTES_LOGGED {
                    claims.extend(spans);
                }
                (must, claims)
            }
            _ => {
                let must = differs.map(|(asked, seen, again)| {
                    let mut text = format!("asked for {asked:?} it saw {seen}, now {again}");
                    text.truncate(2000);
                    text
                });
                (must, spans)
            }
        };
        let others = || self.commits[since..].iter().flatten();
        let may = others().any(|written| may.iter().any(|asked| overlap(written, asked)));
        transaction.set_durability(durability);
        let before = store.sequence();
        match transaction.commit().wait() {
            Ok(sequence) if sequence == before => {
                let lost = now != *map && !only_reads;
                match lost {
                    true => Err("nothing was committed".into()),
                    false => Ok(()),
                }
            }
            Ok(sequence) => {
                if let Some(must) = must {
                    return Err(format!("committed although {must}"));
                }
                if sequence != store.sequence() || only_reads {
                    return Err(format!("commit {sequence:?} after {before:?}"));
                }
                COMMITTED.fetch_add(1, Ordering::Relaxed);
                *map = now;
                self.commits.push(wrote);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict => match (only_reads, may) {
                (true, _) => Err(format!("it wrote nothing: {error}")),
                (_, false) => Err(format!("nobody wrote to what it asked for: {error}")),
                (_, true) => {
                    REFUSED.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            },
            Err(error) => Err(told(error)),
        }
    }
}

impl Open {
    /// Does something in it, and notes what that asks for and writes.
    fn make(&mut self, setup: &Setup, inside: &Inside) -> Outcome {
        let before = self.own.clone();
        let mut view = self.transaction.subtree(&setup.view);
        do_inside(&mut view, setup, &mut self.own, inside)?;
        drop(view);
        if let Inside::Read(read) = inside {
            let (mut spans, see) = asked(setup, &before, read);
            if matches!(read, Read::Get(_) | Read::GetWith(_) | Read::GetMany(_)) {
                let decided = |span: &Span| matches!(&span.0, Bound::Included(key) if self.decided.contains(key));
                spans.retain(|span| !decided(span));
            }
            self.ask(&before, spans, Box::new(see));
            return Ok(());
        }
        self.only_reads = false;
        if let Inside::Write(write) = inside {
            let span = written(setup, write);
            if let Write::Put(key, _) | Write::PutReserved(key, _) | Write::Delete(key) = write {
                self.decided.insert(setup.keys[*key].clone());
                self.replaced.insert(setup.keys[*key].clone());
                self.claims.push(span);
            }
            if let Write::Put(key, content) | Write::PutReserved(key, content) = write {
                self.bytes += setup.keys[*key].len() + content.0;
            }
            self.bytes += 100;
            self.deeds.push(Deed::Wrote(write.clone()));
            return Ok(());
        }
        self.claims
            .extend(touched(setup, &before, &self.own, inside));
        let own = |bound: &Bound<usize>| bound.map(|number| setup.keys[number].clone());
        match inside {
            Inside::Modify(modify) => {
                let (spans, see) = asked_by(setup, &before, modify);
                self.ask(&before, spans, see);
            }
            Inside::Edit(low, high, _) => {
                let spans = vec![(own(low), own(high))];
                self.ask(&before, spans, Box::new(of_nothing));
            }
            // Which key is the greatest is asked for.
            _ => self.ask(&before, vec![everything()], Box::new(of_nothing)),
        }
        let changed = changes(&before, &self.own);
        for (key, value) in &changed {
            self.replaced.insert(key.clone());
            self.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + 100;
        }
        self.deeds.push(Deed::Changed(changed));
        Ok(())
    }

    fn ask(&mut self, before: &Map, spans: Vec<Span>, see: See) {
        let seen = see(&entries(before, &spans));
        self.deeds.push(Deed::Asked { spans, see, seen });
    }
}
