//! Notes on two devices that are changed apart from each other, and brought together again.
//!
//! `cargo run --example sync`
//!
//! Each device keeps a snapshot of what it had when the two last met. What changed since is told by a
//! diff, whose cost is that of the changes, and sent as messages. The other device reconciles: it takes
//! what it has not changed itself, and decides where both have changed one note.

use std::error::Error;

use futures::stream;
use thunderhead::{Collision, Decision, Difference, Snapshot, Store, StoredValue};

/// What one device tells the other about a note: what it was when they last met, and what it is.
struct Message {
    key: Vec<u8>,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

struct Device {
    name: &'static str,
    notes: Store,
    /// What the device had when the two last met.
    met: Snapshot,
}

impl Device {
    fn new(name: &'static str) -> thunderhead::Result<Self> {
        let notes = Store::in_memory()?;
        let met = notes.snapshot();
        Ok(Self { name, notes, met })
    }

    /// Everything that changed here since the two last met.
    fn messages(&self) -> thunderhead::Result<Vec<Message>> {
        let load = |value: Option<&StoredValue>| -> thunderhead::Result<Option<Vec<u8>>> {
            value
                .map(|value| Ok(value.load().wait()?.to_vec()))
                .transpose()
        };
        self.met
            .diff(&self.notes.snapshot())?
            .map(|difference| {
                let difference = difference?;
                Ok(Message {
                    key: difference.key().to_vec(),
                    old: load(difference.old())?,
                    new: load(difference.new())?,
                })
            })
            .collect()
    }

    /// Brings in what the other device changed, as one commit.
    fn receive(&mut self, messages: Vec<Message>) -> thunderhead::Result<()> {
        let differences = messages.into_iter().filter_map(|message| {
            let Message { key, old, new } = message;
            Some(Ok(match (old, new) {
                (Some(old), Some(new)) => Difference::Changed {
                    key,
                    old: old.into(),
                    new: new.into(),
                },
                (Some(old), None) => Difference::Removed {
                    key,
                    old: old.into(),
                },
                (None, Some(new)) => Difference::Added {
                    key,
                    new: new.into(),
                },
                (None, None) => return None,
            }))
        });
        let mut transaction = self.notes.begin().wait()?;
        let done = transaction
            .reconcile(stream::iter(differences), |collision| async {
                keep_both(collision).await
            })
            .wait()?;
        transaction.commit().wait()?;
        println!(
            "{}: {} changes received, {} taken, {} were the same, {} collided",
            self.name, done.differences, done.applied, done.agreed, done.collisions
        );
        Ok(())
    }
}

/// A note that was changed on both devices has both texts, and one that was deleted on one of them and
/// changed on the other stays. The same on both, whoever decides.
async fn keep_both(collision: Collision) -> thunderhead::Result<Decision> {
    Ok(match (collision.ours, collision.theirs) {
        (Some(ours), Some(theirs)) => {
            let mut texts = [ours.load().await?.to_vec(), theirs.load().await?.to_vec()];
            texts.sort();
            Decision::Put(texts.join(&b" / "[..]).into())
        }
        (Some(_), None) => Decision::Ours,
        (None, _) => Decision::Theirs,
    })
}

/// The two meet: each tells the other what changed, and both are the same then.
fn meet(left: &mut Device, right: &mut Device) -> thunderhead::Result<()> {
    let (from_left, from_right) = (left.messages()?, right.messages()?);
    left.receive(from_right)?;
    right.receive(from_left)?;
    left.met = left.notes.snapshot();
    right.met = right.notes.snapshot();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut laptop = Device::new("laptop")?;
    let mut phone = Device::new("phone")?;

    laptop.notes.put("shopping", "milk").wait()?;
    laptop.notes.put("ideas", "a boat").wait()?;
    meet(&mut laptop, &mut phone)?;

    // Apart from each other, both go on.
    laptop.notes.put("shopping", "milk, bread").wait()?;
    laptop.notes.delete("ideas").wait()?;
    laptop.notes.put("books", "a red one").wait()?;
    phone.notes.put("shopping", "milk, apples").wait()?;
    phone.notes.put("books", "a red one").wait()?;
    meet(&mut laptop, &mut phone)?;

    let entries = |store: &Store| store.iter().collect::<thunderhead::Result<Vec<_>>>();
    assert_eq!(entries(&laptop.notes)?, entries(&phone.notes)?);
    for (key, value) in entries(&phone.notes)? {
        let text = String::from_utf8_lossy;
        println!("{}: {}", text(&key), text(&value));
    }
    Ok(())
}
