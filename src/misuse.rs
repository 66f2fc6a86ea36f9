//! What must not compile. Not part of the documentation: these are tests.
//!
//! Each mistake stands beside the same program without it, which compiles and runs: so it is the
//! mistake that is refused, and not a misspelt name. The codes of the errors are checked by compilers
//! that can; what they print changes from one to the next, and is not compared.
//!
//! # A transaction that was committed is gone
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! transaction.put("k", "v").wait()?;
//! transaction.commit().wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0382
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! transaction.commit().wait()?;
//! transaction.put("k", "v").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # So is a batch, and a store that was closed
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let mut batch = store.batch();
//! batch.put("k", "v").wait()?;
//! batch.commit().wait()?;
//! store.close().wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0382
//! # let store = thunderhead::Store::in_memory()?;
//! let mut batch = store.batch();
//! batch.commit().wait()?;
//! batch.put("k", "v").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0382
//! # let store = thunderhead::Store::in_memory()?;
//! store.close().wait()?;
//! store.put("k", "v").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # A view of a transaction is all there is of it, and ends before it
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! let mut view = transaction.subtree("users/");
//! view.put("ann", "…").wait()?;
//! drop(view);
//! transaction.put("k", "v").wait()?;
//! transaction.commit().wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0499
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! let mut view = transaction.subtree("users/");
//! transaction.put("k", "v").wait()?;
//! view.put("ann", "…").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0505
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! let mut view = transaction.subtree("users/");
//! transaction.commit().wait()?;
//! view.put("ann", "…").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # A view cannot be committed by itself
//!
//! ```compile_fail,E0507
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! transaction.subtree("users/").commit().wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # Nor can an attempt, which whoever tries it commits
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! transaction.subtree("users/").put("ann", "…").wait()?;
//! transaction.commit().wait()?;
//! let put = |mut attempt: thunderhead::Attempt| async move { attempt.put("k", "v").await };
//! store.transact(put).wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0507
//! # let store = thunderhead::Store::in_memory()?;
//! let commit = |attempt: thunderhead::Attempt| async move { attempt.commit().await.map(drop) };
//! store.transact(commit).wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # A savepoint is kept or undone before its transaction is committed
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! let mut savepoint = transaction.savepoint();
//! savepoint.put("k", "v").wait()?;
//! savepoint.keep();
//! transaction.commit().wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0505
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! let mut savepoint = transaction.savepoint();
//! transaction.commit().wait()?;
//! savepoint.keep();
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # What is lent goes back
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let copied = store.get_with("k", |value| value.to_vec()).wait()?;
//! let copied = store.iter().next_with(|key, _| key.to_vec()).wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail
//! # let store = thunderhead::Store::in_memory()?;
//! let kept = store.get_with("k", |value| value).wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail
//! # let store = thunderhead::Store::in_memory()?;
//! let kept = store.iter().next_with(|key, _| key).wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0521
//! # let store = thunderhead::Store::in_memory()?;
//! let mut kept: Option<&[u8]> = None;
//! store.get_with("k", |value| kept = Some(value)).wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # A key that a cursor lends ends with its step
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let mut cursor = store.cursor();
//! while cursor.next().wait()? {
//!     println!("{:?}", cursor.key());
//! }
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0502
//! # let store = thunderhead::Store::in_memory()?;
//! let mut cursor = store.cursor();
//! cursor.next().wait()?;
//! let key = cursor.key();
//! cursor.next().wait()?;
//! println!("{key:?}");
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0499
//! # let store = thunderhead::Store::in_memory()?;
//! let mut cursor = store.cursor();
//! cursor.next().wait()?;
//! let value = cursor.value().wait()?;
//! cursor.next().wait()?;
//! println!("{value:?}");
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # What goes through a transaction keeps others from writing in it
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! let keys: Vec<_> = transaction.iter().keys().collect::<Result<_, _>>()?;
//! for key in keys {
//!     transaction.delete(key).wait()?;
//! }
//! for taken in transaction.extract_if(.., |_, _| true) {
//!     println!("{:?}", taken?);
//! }
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0502
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! for key in transaction.iter().keys() {
//!     transaction.delete(key?).wait()?;
//! }
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0499
//! # let store = thunderhead::Store::in_memory()?;
//! let mut transaction = store.begin().wait()?;
//! for taken in transaction.extract_if(.., |_, _| true) {
//!     transaction.put("copy", taken?.1).wait()?;
//! }
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0505
//! # let store = thunderhead::Store::in_memory()?;
//! let transaction = store.begin().wait()?;
//! let range = transaction.iter();
//! transaction.commit().wait()?;
//! println!("{}", range.count());
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # Snapshots are read, batches are written
//!
//! ```
//! # let store = thunderhead::Store::in_memory()?;
//! store.snapshot().get("k").wait()?;
//! store.batch().put("k", "v").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0599
//! # let store = thunderhead::Store::in_memory()?;
//! store.snapshot().put("k", "v").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0599
//! # let store = thunderhead::Store::in_memory()?;
//! store.batch().get("k").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # An operation that nobody waits for has no result
//!
//! ```compile_fail,E0277
//! # let store = thunderhead::Store::in_memory()?;
//! let value = store.get("k")?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # Tables take the types that they say
//!
//! ```
//! use thunderhead::typed::Table;
//!
//! const AGES: Table<String, u32> = Table::new("ages");
//! # let store = thunderhead::Store::in_memory()?;
//! let ages = AGES.of(&store).wait()?;
//! ages.put("ann", &41).wait()?;
//! let age: Option<u32> = ages.get("ann").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0277
//! use thunderhead::typed::Table;
//!
//! const AGES: Table<String, u32> = Table::new("ages");
//! # let store = thunderhead::Store::in_memory()?;
//! let ages = AGES.of(&store).wait()?;
//! ages.put(&7u64, &41).wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0277
//! use thunderhead::typed::Table;
//!
//! const AGES: Table<String, u32> = Table::new("ages");
//! # let store = thunderhead::Store::in_memory()?;
//! let ages = AGES.of(&store).wait()?;
//! ages.put("ann", "forty-one").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! ```compile_fail,E0308
//! use thunderhead::typed::Table;
//!
//! const AGES: Table<String, u32> = Table::new("ages");
//! # let store = thunderhead::Store::in_memory()?;
//! let ages = AGES.of(&store).wait()?;
//! let age: Option<String> = ages.get("ann").wait()?;
//! # Ok::<(), thunderhead::Error>(())
//! ```
//!
//! # Options take what has their unit, and all of them have a value
//!
//! ```
//! use thunderhead::{Durability, Options};
//!
//! let options = Options::new().cache_bytes(64 << 20).durability(Durability::Deferred);
//! ```
//!
//! ```compile_fail,E0308
//! let options = thunderhead::Options::new().cache_bytes("64 MiB");
//! ```
//!
//! ```compile_fail,E0308
//! let options = thunderhead::Options::new().durability(false);
//! ```
//!
//! # Kinds of errors and of values may become more
//!
//! ```
//! use thunderhead::ValueKind;
//!
//! fn is_reference(kind: ValueKind<'_>) -> bool {
//!     match kind {
//!         ValueKind::Bytes(_) => false,
//!         ValueKind::Reference(_) | ValueKind::ReferenceOutside(_) => true,
//!         _ => false,
//!     }
//! }
//! ```
//!
//! ```compile_fail,E0004
//! use thunderhead::ValueKind;
//!
//! fn is_reference(kind: ValueKind<'_>) -> bool {
//!     match kind {
//!         ValueKind::Bytes(_) => false,
//!         ValueKind::Reference(_) | ValueKind::ReferenceOutside(_) => true,
//!     }
//! }
//! ```
//!
//! # Nobody else says what can be narrowed
//!
//! ```compile_fail,E0277
//! struct Own;
//! impl thunderhead::Narrow for Own {}
//! ```
