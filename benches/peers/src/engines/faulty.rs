//! An engine that lies, each time in another way, to see that the phases notice.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::{Both, Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    /// One byte in the middle of each value.
    FlipsAByte,
    LosesAPut,
    ForgetsUpdates,
    InventsValues,
    CountsWrongly,
    SkipsInRanges,
    StopsRangesEarly,
    MixesUpOrder,
    KeepsRemoved,
    KeepsRange,
    LosesOnClose,
    GivesAnotherPart,
    KeepsWhatWasGivenUp,
    /// Of transactions beside each other one does not see the other.
    LosesOneOfTwo,
}

const FAULTS: [Fault; 15] = [
    Fault::Nothing,
    Fault::FlipsAByte,
    Fault::LosesAPut,
    Fault::ForgetsUpdates,
    Fault::InventsValues,
    Fault::CountsWrongly,
    Fault::SkipsInRanges,
    Fault::StopsRangesEarly,
    Fault::MixesUpOrder,
    Fault::KeepsRemoved,
    Fault::KeepsRange,
    Fault::LosesOnClose,
    Fault::GivesAnotherPart,
    Fault::KeepsWhatWasGivenUp,
    Fault::LosesOneOfTwo,
];

/// The engine with a fault, by its number.
fn kind_numbered<const FAULT: usize>() -> Kind {
    Kind {
        name: "faulty",
        package: "faulty",
        open: |directory, _: Settings| Ok(Box::new(Faulty::open(directory, FAULTS[FAULT]))),
        notes: &[],
        weaker: &[],
    }
}

pub fn kind(fault: Fault) -> Kind {
    match fault {
        Fault::Nothing => kind_numbered::<0>(),
        Fault::FlipsAByte => kind_numbered::<1>(),
        Fault::LosesAPut => kind_numbered::<2>(),
        Fault::ForgetsUpdates => kind_numbered::<3>(),
        Fault::InventsValues => kind_numbered::<4>(),
        Fault::CountsWrongly => kind_numbered::<5>(),
        Fault::SkipsInRanges => kind_numbered::<6>(),
        Fault::StopsRangesEarly => kind_numbered::<7>(),
        Fault::MixesUpOrder => kind_numbered::<8>(),
        Fault::KeepsRemoved => kind_numbered::<9>(),
        Fault::KeepsRange => kind_numbered::<10>(),
        Fault::LosesOnClose => kind_numbered::<11>(),
        Fault::GivesAnotherPart => kind_numbered::<12>(),
        Fault::KeepsWhatWasGivenUp => kind_numbered::<13>(),
        Fault::LosesOneOfTwo => kind_numbered::<14>(),
    }
}

struct Faulty {
    fault: Fault,
    map: Arc<Mutex<Map>>,
    /// Held by a transaction.
    alone: Mutex<()>,
}

/// What stands in for the disk.
fn disk() -> &'static Mutex<HashMap<PathBuf, Arc<Mutex<Map>>>> {
    static DISK: OnceLock<Mutex<HashMap<PathBuf, Arc<Mutex<Map>>>>> = OnceLock::new();
    DISK.get_or_init(Mutex::default)
}

impl Faulty {
    fn open(directory: &Path, fault: Fault) -> Self {
        let mut disk = disk().lock().unwrap();
        let map = disk.entry(directory.to_owned()).or_default();
        Self {
            fault,
            map: Arc::clone(map),
            alone: Mutex::default(),
        }
    }
}

impl Engine for Faulty {
    fn offers(&self, _safety: Safety) -> bool {
        true
    }

    fn write(
        &self,
        _safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let before = self.map.lock().unwrap().clone();
        let result = work(&mut &*self);
        if result.is_err() && self.fault != Fault::KeepsWhatWasGivenUp {
            *self.map.lock().unwrap() = before;
        }
        result
    }

    fn transacts(&self) -> bool {
        true
    }

    fn transact(
        &self,
        _safety: Safety,
        work: &mut (dyn FnMut(&mut dyn Both) -> Result<()> + Send),
    ) -> Result<u64> {
        let alone = self.alone.lock().unwrap();
        let before = self.map.lock().unwrap().clone();
        work(&mut &*self)?;
        if self.fault == Fault::LosesOneOfTwo {
            // As if another one had read the same, and written over it.
            *self.map.lock().unwrap() = before;
        }
        drop(alone);
        Ok(0)
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        work(&mut &*self)
    }

    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        if self.fault != Fault::KeepsRange {
            let mut map = self.map.lock().unwrap();
            map.retain(|key, _| !(low..end).contains(&key.as_slice()));
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        if self.fault == Fault::LosesOnClose {
            self.map.lock().unwrap().pop_last();
        }
        Ok(())
    }
}

impl Writer for &Faulty {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut map = self.map.lock().unwrap();
        let lost = self.fault == Fault::LosesAPut && map.len() == 1000;
        let kept = self.fault == Fault::ForgetsUpdates && map.contains_key(key);
        if !lost && !kept {
            let mut value = value.to_vec();
            if self.fault == Fault::FlipsAByte {
                let middle = value.len() / 2;
                value[middle] ^= 1;
            }
            map.insert(key.to_vec(), value);
        } else if lost {
            // Once only: another key takes its place.
            map.insert(vec![0; 24], value.to_vec());
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        if self.fault != Fault::KeepsRemoved {
            self.map.lock().unwrap().remove(key);
        }
        Ok(())
    }
}

impl Both for &Faulty {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        Reader::get(self, key, lend)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Writer::put(self, key, value)
    }
}

impl Reader for &Faulty {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        let map = self.map.lock().unwrap();
        match map.get(key) {
            Some(value) => lend(value),
            None if self.fault == Fault::InventsValues => lend(&[1; 150]),
            None => return Ok(false),
        }
        Ok(true)
    }

    fn get_part(
        &mut self,
        key: &[u8],
        offset: usize,
        length: usize,
        lend: Lend<'_>,
    ) -> Result<bool> {
        let shift = if self.fault == Fault::GivesAnotherPart {
            8
        } else {
            0
        };
        let map = self.map.lock().unwrap();
        let value = map.get(key);
        if let Some(value) = value {
            lend(&value[offset - shift..offset - shift + length]);
        }
        Ok(value.is_some())
    }

    fn range(
        &mut self,
        from: &[u8],
        direction: Direction,
        limit: usize,
        lend: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        let map = self.map.lock().unwrap();
        let mut entries: Vec<(&Vec<u8>, &Vec<u8>)> = match direction {
            Direction::Forward => map
                .range(from.to_vec()..)
                .take(limit.min(1 << 40))
                .collect(),
            Direction::Backward => {
                let range = map.range(..=from.to_vec());
                range.rev().take(limit.min(1 << 40)).collect()
            }
        };
        match self.fault {
            Fault::SkipsInRanges if entries.len() > 3 => {
                // As many as were asked for, but for one in between.
                entries.remove(1);
                let last = entries.last().map(|(key, _)| (*key).clone());
                let next = last.and_then(|last| match direction {
                    Direction::Forward => map.range(last..).nth(1),
                    Direction::Backward => map.range(..last).next_back(),
                });
                entries.extend(next);
            }
            Fault::StopsRangesEarly => {
                entries.pop();
            }
            Fault::MixesUpOrder if entries.len() > 3 => entries.swap(1, 2),
            _ => {}
        }
        entries
            .into_iter()
            .for_each(|(key, value)| lend(key, value));
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        let wrong = u64::from(self.fault == Fault::CountsWrongly);
        Ok(self.map.lock().unwrap().len() as u64 + wrong)
    }
}
