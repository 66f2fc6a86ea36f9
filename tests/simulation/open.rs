//! Transactions that are open beside others: what they asked for, and whether it is so still.

use thunderhead::{Result, Transaction};

use super::model::{Operation, State, apply};
use super::script::Question;
use super::world::write;

/// What a question is answered with: entries, or how many there are.
type Answer = (Vec<(Vec<u8>, Vec<u8>)>, u64);

/// What a transaction did.
#[derive(Clone)]
pub enum Deed {
    Asked(Question, Answer),
    Did(Operation),
}

/// A transaction that is open.
pub struct Open {
    transaction: Transaction,
    /// What it should see.
    own: State,
    pub deeds: Vec<Deed>,
}

impl Open {
    pub fn new(transaction: Transaction, state: &State) -> Self {
        Self {
            transaction,
            own: state.clone(),
            deeds: Vec::new(),
        }
    }

    pub fn ask(&mut self, question: &Question) -> Result<()> {
        let found = ask(&self.transaction, question)?;
        let expected = answer(&self.own, question);
        assert_eq!(found, expected, "{question:?} in a transaction");
        self.deeds.push(Deed::Asked(question.clone(), found));
        Ok(())
    }

    pub fn add(&mut self, operations: &[Operation]) -> Result<()> {
        for operation in operations {
            // One that failed may be there in part: the transaction is not to be committed then.
            write(&mut self.transaction, std::slice::from_ref(operation))?;
            apply(&mut self.own, operation);
            self.deeds.push(Deed::Did(operation.clone()));
        }
        Ok(())
    }

    /// Whether all that it asked for is the same in another state.
    pub fn fits(&self, state: &State) -> bool {
        fits(&self.deeds, state)
    }

    /// What is left to be committed, and what that does.
    pub fn into_parts(self) -> (Transaction, Vec<Operation>) {
        let operations = self.deeds.into_iter().filter_map(|deed| match deed {
            // Of a range that is none nothing is written.
            Deed::Did(Operation::DeleteRange(low, end)) if low >= end => None,
            Deed::Did(operation) => Some(operation),
            Deed::Asked(..) => None,
        });
        (self.transaction, operations.collect())
    }
}

/// Whether a transaction would be answered the same in another state.
pub fn fits(deeds: &[Deed], state: &State) -> bool {
    let mut own = state.clone();
    deeds.iter().all(|deed| match deed {
        Deed::Asked(question, answered) => answer(&own, question) == *answered,
        Deed::Did(operation) => {
            apply(&mut own, operation);
            true
        }
    })
}

fn answer(state: &State, question: &Question) -> Answer {
    let plain = |(key, value): (&Vec<u8>, &std::sync::Arc<[u8]>)| (key.clone(), value.to_vec());
    match question {
        Question::Key(key) => (state.get_key_value(key).map(plain).into_iter().collect(), 0),
        Question::Range(low, end) => {
            let inside = state.range(low.clone()..end.clone());
            (inside.map(plain).collect(), 0)
        }
        Question::Count(low, end) => {
            let inside = state.range(low.clone()..end.clone());
            (Vec::new(), inside.count() as u64)
        }
        Question::Last(count) => (state.iter().rev().take(*count).map(plain).collect(), 0),
    }
}

/// The same of a transaction.
fn ask(transaction: &Transaction, question: &Question) -> Result<Answer> {
    let plain = |entry: Result<(Vec<u8>, thunderhead::Value)>| {
        entry.map(|(key, value)| (key, value.to_vec()))
    };
    Ok(match question {
        Question::Key(key) => {
            let found = transaction.get(key).wait()?;
            let entry = found.map(|value| (key.clone(), value.to_vec()));
            (entry.into_iter().collect(), 0)
        }
        Question::Range(low, end) => {
            let range = transaction.range(low.as_slice()..end.as_slice());
            (range.map(plain).collect::<Result<_>>()?, 0)
        }
        Question::Count(low, end) => {
            let count = transaction.count(low.as_slice()..end.as_slice()).wait()?;
            (Vec::new(), count)
        }
        Question::Last(count) => {
            let last = transaction.iter().rev().take(*count);
            (last.map(plain).collect::<Result<_>>()?, 0)
        }
    })
}
