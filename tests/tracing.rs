//! What a store tells a subscriber of `tracing`.

use std::error::Error;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use thunderhead::disk::{FileDisk, FileDiskOptions, SimulatedMachine};
use thunderhead::{Maintenance, Options, Store};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Notes the level and the message of each event.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(Level, String)>>>);

impl Notes {
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "thunderhead"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let noted = (*event.metadata().level(), message.0);
        self.0.lock().unwrap().push(noted);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn open(machine: &SimulatedMachine) -> thunderhead::Result<Store> {
    let disk = FileDisk::open_or_create_on(machine, &FileDiskOptions::default())?;
    Options::new()
        .maintenance(Maintenance::Caller)
        .open_disk(disk)
}

#[test]
fn what_a_store_does_is_told() -> Result<(), Box<dyn Error>> {
    let notes = Notes::default();
    let subscriber = notes.clone();
    tracing::subscriber::with_default(subscriber, || {
        let machine = SimulatedMachine::new(1);
        let messages = || -> Vec<_> { notes.take().into_iter().map(|note| note.1).collect() };
        let store = open(&machine)?;
        assert_eq!(messages(), ["opened"]);
        store.put("k", "v").wait()?;
        assert_eq!(messages().len(), 0);
        store.checkpoint().wait()?;
        assert_eq!(messages(), ["flushed", "checkpointed"]);
        store.compact_with(|_| ControlFlow::Continue(())).wait()?;
        assert_eq!(messages().last().map(String::as_str), Some("compacted"));
        store.put("k", "w").wait()?;
        drop(store);
        let store = open(&machine)?;
        assert_eq!(
            notes.take(),
            [
                (Level::INFO, "recovered".to_string()),
                (Level::INFO, "opened".to_string())
            ]
        );
        machine.fail_syncs(1);
        assert!(store.put("k", "x").wait().is_err());
        let told = notes.take();
        assert!(
            told.contains(&(Level::ERROR, "poisoned".to_string())),
            "{told:?}"
        );
        Ok(())
    })
}
