//! [`Table`]: keys and values of two types in a subtree of their own.
//!
//! A table is a name and two types; [`Rows`] are what it has in a store, a snapshot or a transaction.
//! Beside the rows stands what their types are called, so that a table is not read as what it is not:
//!
//! ```text
//! <name, delimited> 00           the names of the types
//! <name, delimited> 01 <key>     a row
//! ```

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;

use super::key::{DecodeKey, EncodeKey, decode_key, encode_key, prefix_of};
use super::value::{DecodeValue, EncodeValue};
use crate::error::{Error, Result};
use crate::format::SequenceNumber;
use crate::store::{Operation, Prefix, Range, Snapshot, Store, Subtree, Transaction, Value};

const TYPES: u8 = 0;
const ROWS: u8 = 1;

/// The name of a table and the types of its keys and values: usually a constant.
///
/// ```
/// use thunderhead::{Store, typed::Table};
///
/// const AGES: Table<String, u32> = Table::new("ages");
/// const CITIES: Table<(String, u32), ()> = Table::new("by-city");
///
/// let store = Store::in_memory()?;
/// let mut transaction = store.begin().wait()?;
/// AGES.within(&mut transaction).wait()?.put("ann", &41).wait()?;
/// CITIES.within(&mut transaction).wait()?.put(&("bern", 41), &()).wait()?;
/// transaction.commit().wait()?;
///
/// let ages = AGES.of(&store).wait()?;
/// assert_eq!(ages.get("ann").wait()?, Some(41));
/// for row in ages.range("a".."b") {
///     let (name, age): (String, u32) = row?;
///     println!("{name}: {age}");
/// }
/// let wrong: Table<u64, u32> = Table::new("ages");
/// assert!(wrong.of(&store).wait().is_err());
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub struct Table<K, V> {
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.name).finish()
    }
}

impl<K: DecodeKey, V: DecodeValue> Table<K, V> {
    /// A table of a name. Tables are apart if their names are.
    /// Free, and possible in a constant.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            types: PhantomData,
        }
    }

    /// The rows in a store, which is prepared for them at the first time, by a commit. Costs a `get`.
    /// Errors: `TypeMismatch` if the table was made with other types; those of [`Store::get`] and
    /// [`Store::put`]; of a store that is open for reading only, `ReadOnly` if there is no such table.
    ///
    /// ```
    /// use thunderhead::{Store, typed::Table};
    ///
    /// const AGES: Table<String, u32> = Table::new("ages");
    ///
    /// let store = Store::in_memory()?;
    /// let ages = AGES.of(&store).wait()?;
    /// ages.put("ann", &41).wait()?;
    /// assert_eq!(ages.get("ann").wait()?, Some(41));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn of<'s>(
        &self,
        store: &'s Store,
    ) -> Operation<impl Future<Output = Result<Rows<Store, K, V>>> + Send + use<'s, K, V>> {
        let table = *self;
        Operation::new(async move {
            let types = table.key(TYPES);
            let found = match store.get(&types).await? {
                Some(found) => Some(found),
                None => store.put_if_absent(&types, table.type_names()).await?,
            };
            table.check(found.as_deref())?;
            Ok(Rows::new(store.subtree(table.key(ROWS))))
        })
    }

    /// The rows in a snapshot: none, if the table was not made by then. Costs a `get`. Errors:
    /// `TypeMismatch`; those of [`Store::get`].
    ///
    /// ```
    /// use thunderhead::{Store, typed::Table};
    ///
    /// const AGES: Table<String, u32> = Table::new("ages");
    ///
    /// let store = Store::in_memory()?;
    /// let before = store.snapshot();
    /// AGES.of(&store).wait()?.put("ann", &41).wait()?;
    /// assert!(AGES.in_snapshot(&before).wait()?.is_empty().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn in_snapshot<'s>(
        &self,
        snapshot: &'s Snapshot,
    ) -> Operation<impl Future<Output = Result<Rows<Snapshot, K, V>>> + Send + use<'s, K, V>> {
        let table = *self;
        Operation::new(async move {
            let found = snapshot.get(table.key(TYPES)).await?;
            table.check(found.as_deref())?;
            Ok(Rows::new(snapshot.subtree(table.key(ROWS))))
        })
    }

    /// The rows in a transaction, which prepares for them at the first time. Costs a
    /// `get`. Errors: `TypeMismatch`; those of [`Store::get`] and [`Store::put`].
    ///
    /// ```
    /// use thunderhead::{Store, typed::Table};
    ///
    /// const AGES: Table<String, u32> = Table::new("ages");
    ///
    /// let store = Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// let mut ages = AGES.within(&mut transaction).wait()?;
    /// ages.put("ann", &41).wait()?;
    /// drop(ages);
    /// transaction.commit().wait()?;
    /// assert_eq!(AGES.of(&store).wait()?.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn within<'t>(
        &self,
        transaction: &'t mut Transaction,
    ) -> Operation<
        impl Future<Output = Result<Rows<Subtree<'t, Transaction>, K, V>>> + Send + use<'t, K, V>,
    > {
        let table = *self;
        Operation::new(async move {
            let names = table.type_names();
            let found = transaction.put_if_absent(table.key(TYPES), names).await?;
            table.check(found.as_deref())?;
            Ok(Rows::new(transaction.subtree(table.key(ROWS))))
        })
    }

    /// Deletes the table in a transaction: its rows, and what it notes of its types, so that it can be
    /// made with others. One operation, whatever the number of rows.
    /// Errors: those of [`Store::delete_range`].
    ///
    /// ```
    /// use thunderhead::{Store, typed::Table};
    ///
    /// const AGES: Table<String, u32> = Table::new("ages");
    ///
    /// let store = Store::in_memory()?;
    /// AGES.of(&store).wait()?.put("ann", &41).wait()?;
    /// let mut transaction = store.begin().wait()?;
    /// AGES.delete(&mut transaction).wait()?;
    /// transaction.commit().wait()?;
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn delete<'t>(
        &self,
        transaction: &'t mut Transaction,
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'t, K, V>> {
        let whole = Prefix(prefix_of(self.name));
        Operation::new(async move { transaction.delete_range(whole).await })
    }

    fn key(&self, kind: u8) -> Vec<u8> {
        let mut key = prefix_of(self.name);
        key.push(kind);
        key
    }

    fn type_names(&self) -> Vec<u8> {
        encode_key(&(K::type_name(), V::type_name()))
    }

    /// `None`: nobody has made the table yet.
    fn check(&self, found: Option<&[u8]>) -> Result<()> {
        if found.is_none_or(|found| found == self.type_names()) {
            return Ok(());
        }
        let names = found.map(decode_key::<(String, String)>);
        let told = match names {
            Some(Ok((key, value))) => format!("keys that are {key} and values that are {value}"),
            _ => "types that cannot be told".into(),
        };
        Err(Error::type_mismatch(format!(
            "the table {:?} has {told}, not {} and {}",
            self.name,
            K::type_name(),
            V::type_name()
        )))
    }
}

/// The rows of a [`Table`] in a store, a snapshot or a transaction.
///
/// A method costs what that of the same name of a [`Store`] costs, and making the bytes of keys and
/// values; its errors are those of the same, and `TypeMismatch` where what is stored is not of the
/// types of the table. An example of most:
///
/// ```
/// use thunderhead::{Store, typed::Table};
///
/// const VISITS: Table<(String, u32), String> = Table::new("visits");
///
/// let store = Store::in_memory()?;
/// let visits = VISITS.of(&store).wait()?;
/// visits.put(&("bern", 3), "ann").wait()?;
/// visits.put(&("bern", 5), "bob").wait()?;
/// visits.put(&("ulm", 1), "ann").wait()?;
/// assert_eq!(visits.get(&("bern", 5)).wait()?.as_deref(), Some("bob"));
/// assert_eq!(visits.count(("bern", 4)..).wait()?, 2);
/// for row in visits.prefix(&("bern",)).rev() {
///     let ((city, day), visitor): ((String, u32), String) = row?;
///     println!("{visitor} was in {city} on day {day}");
/// }
/// assert_eq!(visits.insert(&("ulm", 1), "eve").wait()?.as_deref(), Some("ann"));
/// visits.delete_range(..("ulm", 0)).wait()?;
/// assert_eq!(visits.len().wait()?, 1);
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub struct Rows<S, K, V> {
    rows: S,
    types: PhantomData<fn() -> (K, V)>,
}

impl<S: Clone, K, V> Clone for Rows<S, K, V> {
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            types: PhantomData,
        }
    }
}

impl<S: fmt::Debug, K, V> fmt::Debug for Rows<S, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("rows", &self.rows).finish()
    }
}

fn value_of<V: DecodeValue>(bytes: &[u8]) -> Result<V> {
    V::read_value(bytes).ok_or_else(|| {
        let (bytes, name) = (bytes.len(), V::type_name());
        Error::type_mismatch(format!("a value of {bytes} bytes is not a {name}"))
    })
}

fn bytes_of<V, W: EncodeValue<V> + ?Sized>(value: &W) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.append_value(&mut bytes);
    bytes
}

fn bounds_of<K, Q: EncodeKey<K> + ?Sized>(
    range: &impl RangeBounds<Q>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let (low, high) = (range.start_bound(), range.end_bound());
    (low.map(encode_key), high.map(encode_key))
}

impl<S, K: DecodeKey, V: DecodeValue> Rows<S, K, V> {
    fn new(rows: S) -> Self {
        Self {
            rows,
            types: PhantomData,
        }
    }

    /// The rows as keys and values that are bytes. Free.
    ///
    /// ```
    /// use thunderhead::{Store, typed::{Table, encode_key}};
    ///
    /// const AGES: Table<String, u32> = Table::new("ages");
    ///
    /// let store = Store::in_memory()?;
    /// let ages = AGES.of(&store).wait()?;
    /// ages.put("ann", &41).wait()?;
    /// let bytes = ages.untyped().get(encode_key("ann")).wait()?;
    /// assert_eq!(bytes.unwrap(), 41u32.to_le_bytes());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn untyped(&self) -> &S {
        &self.rows
    }
}

/// What the rows of all three have in common; ranges live as long as the second argument says.
macro_rules! typed_reading {
    ([$($generic:tt)*] $rows:ty, $life:lifetime) => {
        impl<$($generic)* K: DecodeKey, V: DecodeValue> Rows<$rows, K, V> {
            /// The value of a key, or `None`. Cost and errors: see [`Rows`].
            pub fn get<Q: EncodeKey<K> + ?Sized>(
                &self,
                key: &Q,
            ) -> Operation<impl Future<Output = Result<Option<V>>> + Send> {
                let key = encode_key(key);
                Operation::new(async move {
                    let value = self.rows.get(key).await?;
                    value.map(|value| value_of(&value)).transpose()
                })
            }

            /// The values of some keys, in their order, all as of one moment: see
            /// [`Store::get_many`].
            /// Cost and errors: see [`Rows`].
            pub fn get_many<'q, Q: EncodeKey<K> + ?Sized + 'q>(
                &self,
                keys: impl IntoIterator<Item = &'q Q>,
            ) -> Operation<impl Future<Output = Result<Vec<Option<V>>>> + Send> {
                let keys: Vec<_> = keys.into_iter().map(encode_key).collect();
                Operation::new(async move {
                    let values = self.rows.get_many(keys).await?;
                    let read = |value: Option<Value>| value.map(|value| value_of(&value)).transpose();
                    values.into_iter().map(read).collect()
                })
            }

            /// The row with the smallest key.
            /// Cost and errors: see [`Rows`].
            pub fn first(&self) -> Operation<impl Future<Output = Result<Option<(K, V)>>> + Send> {
                let mut range = self.rows.iter().following();
                Operation::new(async move { range.next_entry().await?.map(|row| row_of(Ok(row))).transpose() })
            }

            /// The row with the greatest key.
            /// Cost and errors: see [`Rows`].
            pub fn last(&self) -> Operation<impl Future<Output = Result<Option<(K, V)>>> + Send> {
                let mut range = self.rows.iter().following();
                Operation::new(async move { range.next_back_entry().await?.map(|row| row_of(Ok(row))).transpose() })
            }

            /// Whether a key has a value.
            /// Cost and errors: see [`Rows`].
            pub fn contains_key<Q: EncodeKey<K> + ?Sized>(
                &self,
                key: &Q,
            ) -> Operation<impl Future<Output = Result<bool>> + Send> {
                let key = encode_key(key);
                Operation::new(async move { self.rows.contains_key(key).await })
            }

            /// The rows of a range of keys, from both ends.
            /// Cost and errors: see [`Rows`].
            pub fn range<Q: EncodeKey<K> + ?Sized>(
                &self,
                range: impl RangeBounds<Q>,
            ) -> TypedRange<$life, K, V> {
                TypedRange::new(self.rows.range(bounds_of(&range)))
            }

            /// The rows whose keys begin with the first parts of a tuple.
            /// Cost and errors: see [`Rows`].
            pub fn prefix<P, Q: EncodeKey<P> + ?Sized>(&self, first_parts: &Q) -> TypedRange<$life, K, V> {
                TypedRange::new(self.rows.prefix(prefix_of(first_parts)))
            }

            /// All rows, from both ends.
            /// Cost and errors: see [`Rows`].
            pub fn iter(&self) -> TypedRange<$life, K, V> {
                TypedRange::new(self.rows.iter())
            }

            /// The exact number of rows.
            /// Cost and errors: see [`Rows`].
            pub fn len(&self) -> Operation<impl Future<Output = Result<u64>> + Send> {
                Operation::new(async move { self.rows.len().await })
            }

            /// Whether there are no rows.
            /// Cost and errors: see [`Rows`].
            pub fn is_empty(&self) -> Operation<impl Future<Output = Result<bool>> + Send> {
                Operation::new(async move { self.rows.is_empty().await })
            }

            /// The exact number of rows of a range of keys.
            /// Cost and errors: see [`Rows`].
            pub fn count<Q: EncodeKey<K> + ?Sized>(
                &self,
                range: impl RangeBounds<Q>,
            ) -> Operation<impl Future<Output = Result<u64>> + Send> {
                let bounds = bounds_of(&range);
                Operation::new(async move { self.rows.count(bounds).await })
            }
        }
    };
}

typed_reading!([] Store, 'static);
typed_reading!([] Snapshot, 'static);
typed_reading!(['t,] Subtree<'t, Transaction>, '_);

/// What the rows of a store and of a transaction have in common.
macro_rules! typed_writing {
    ([$($generic:tt)*] $rows:ty, [$($mutable:tt)*], $put:ty) => {
        impl<$($generic)* K: DecodeKey, V: DecodeValue> Rows<$rows, K, V> {
            /// Puts a row.
            /// Cost and errors: see [`Rows`].
            pub fn put<Q, W>(
                &$($mutable)* self,
                key: &Q,
                value: &W,
            ) -> Operation<impl Future<Output = Result<$put>> + Send>
            where
                Q: EncodeKey<K> + ?Sized,
                W: EncodeValue<V> + ?Sized,
            {
                let (key, value) = (encode_key(key), bytes_of(value));
                Operation::new(async move { self.rows.put(key, value).await })
            }

            /// Makes a row stand for that of another key of the table: see
            /// [`Store::put_reference`].
            /// Cost and errors: see [`Rows`].
            pub fn put_reference<Q, T>(
                &$($mutable)* self,
                key: &Q,
                target: &T,
            ) -> Operation<impl Future<Output = Result<$put>> + Send>
            where
                Q: EncodeKey<K> + ?Sized,
                T: EncodeKey<K> + ?Sized,
            {
                let (key, target) = (encode_key(key), encode_key(target));
                Operation::new(async move { self.rows.put_reference(key, target).await })
            }

            /// Deletes a row. No error if there is none.
            /// Cost and errors: see [`Rows`].
            pub fn delete<Q: EncodeKey<K> + ?Sized>(
                &$($mutable)* self,
                key: &Q,
            ) -> Operation<impl Future<Output = Result<$put>> + Send> {
                let key = encode_key(key);
                Operation::new(async move { self.rows.delete(key).await })
            }

            /// Deletes all rows of a range of keys, as one operation.
            /// Cost and errors: see [`Rows`].
            pub fn delete_range<Q: EncodeKey<K> + ?Sized>(
                &$($mutable)* self,
                range: impl RangeBounds<Q>,
            ) -> Operation<impl Future<Output = Result<$put>> + Send> {
                let bounds = bounds_of(&range);
                Operation::new(async move { self.rows.delete_range(bounds).await })
            }

            /// Puts a row and gives the value before.
            /// Cost and errors: see [`Rows`].
            pub fn insert<Q, W>(
                &$($mutable)* self,
                key: &Q,
                value: &W,
            ) -> Operation<impl Future<Output = Result<Option<V>>> + Send>
            where
                Q: EncodeKey<K> + ?Sized,
                W: EncodeValue<V> + ?Sized,
            {
                let (key, value) = (encode_key(key), bytes_of(value));
                Operation::new(async move {
                    let before = self.rows.insert(key, value).await?;
                    before.map(|value| value_of(&value)).transpose()
                })
            }

            /// Puts a row unless there is one; gives the value that there is, or `None` if there was
            /// none.
            /// Cost and errors: see [`Rows`].
            pub fn put_if_absent<Q, W>(
                &$($mutable)* self,
                key: &Q,
                value: &W,
            ) -> Operation<impl Future<Output = Result<Option<V>>> + Send>
            where
                Q: EncodeKey<K> + ?Sized,
                W: EncodeValue<V> + ?Sized,
            {
                let (key, value) = (encode_key(key), bytes_of(value));
                Operation::new(async move {
                    let before = self.rows.put_if_absent(key, value).await?;
                    before.map(|value| value_of(&value)).transpose()
                })
            }

            /// Deletes a row and gives its value.
            /// Cost and errors: see [`Rows`].
            pub fn remove<Q: EncodeKey<K> + ?Sized>(
                &$($mutable)* self,
                key: &Q,
            ) -> Operation<impl Future<Output = Result<Option<V>>> + Send> {
                let key = encode_key(key);
                Operation::new(async move {
                    let before = self.rows.remove(key).await?;
                    before.map(|value| value_of(&value)).transpose()
                })
            }
        }
    };
}

typed_writing!([] Store, [], SequenceNumber);
typed_writing!(['t,] Subtree<'t, Transaction>, [mut], ());

/// What may fail half-way, because a row is not of the types, is done in a transaction, which can be
/// dropped then.
impl<K: DecodeKey + Send, V: DecodeValue + Send> Rows<Subtree<'_, Transaction>, K, V> {
    /// Makes a new value of the old one; `None` is no row. Gives the new one. If the function
    /// panics, or the old value is not of the type (`TypeMismatch`), nothing has changed. Cost and
    /// errors: see [`Rows`].
    ///
    /// ```
    /// use thunderhead::{Store, typed::Table};
    ///
    /// const VISITS: Table<String, u64> = Table::new("visits");
    ///
    /// let store = Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// let mut visits = VISITS.within(&mut transaction).wait()?;
    /// let one_more = |before: Option<u64>| Some(before.unwrap_or(0) + 1);
    /// visits.update("ann", one_more).wait()?;
    /// assert_eq!(visits.update("ann", one_more).wait()?, Some(2));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn update<Q: EncodeKey<K> + ?Sized>(
        &mut self,
        key: &Q,
        function: impl FnOnce(Option<V>) -> Option<V> + Send,
    ) -> Operation<impl Future<Output = Result<Option<V>>> + Send> {
        let key = encode_key(key);
        Operation::new(async move {
            let before = self.rows.get(&key).await?;
            let is_there = before.is_some();
            let before = before.map(|value| value_of(&value)).transpose()?;
            let after = function(before);
            match after.as_ref().map(bytes_of) {
                Some(bytes) => self.rows.put(key, bytes).await?,
                None if is_there => self.rows.delete(key).await?,
                None => {}
            }
            Ok(after)
        })
    }

    /// Takes the row with the smallest key out.
    /// Cost and errors: see [`Rows`].
    ///
    /// ```
    /// use thunderhead::{Store, typed::Table};
    ///
    /// const JOBS: Table<u64, String> = Table::new("jobs");
    ///
    /// let store = Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// let mut jobs = JOBS.within(&mut transaction).wait()?;
    /// jobs.put(&7, "later").wait()?;
    /// jobs.put(&3, "sooner").wait()?;
    /// assert_eq!(jobs.pop_first().wait()?, Some((3, "sooner".to_owned())));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn pop_first(&mut self) -> Operation<impl Future<Output = Result<Option<(K, V)>>> + Send> {
        Operation::new(async move {
            let first = self.first().await?;
            if let Some((key, _)) = &first {
                self.rows.delete(encode_key(key)).await?;
            }
            Ok(first)
        })
    }

    /// Takes the row with the greatest key out.
    /// Cost and errors: see [`Rows`].
    pub fn pop_last(&mut self) -> Operation<impl Future<Output = Result<Option<(K, V)>>> + Send> {
        Operation::new(async move {
            let last = self.last().await?;
            if let Some((key, _)) = &last {
                self.rows.delete(encode_key(key)).await?;
            }
            Ok(last)
        })
    }

    /// Deletes the rows of a range of keys for which the function says `false`; gives their number.
    /// Errors: `TypeMismatch` at the first row that is not of the types, with those before it
    /// deleted; the others: see [`Rows`].
    ///
    /// ```
    /// use thunderhead::{Store, typed::Table};
    ///
    /// const AGES: Table<String, u32> = Table::new("ages");
    ///
    /// let store = Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// let mut ages = AGES.within(&mut transaction).wait()?;
    /// ages.put("ann", &41).wait()?;
    /// ages.put("bob", &7).wait()?;
    /// assert_eq!(ages.retain_in::<str>(.., |_, age| age >= 18).wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn retain_in<Q: EncodeKey<K> + ?Sized>(
        &mut self,
        range: impl RangeBounds<Q>,
        mut keep: impl FnMut(K, V) -> bool + Send,
    ) -> Operation<impl Future<Output = Result<u64>> + Send> {
        let bounds = bounds_of(&range);
        Operation::new(async move {
            let mut deleted = 0;
            let mut cursor = self.rows.cursor_mut_in(bounds);
            while cursor.next().await? {
                let value = cursor.value().await?.map(value_of::<V>).transpose()?;
                let key = cursor.key().map(decode_key::<K>).transpose()?;
                if let (Some(key), Some(value)) = (key, value)
                    && !keep(key, value)
                {
                    cursor.delete().await?;
                    deleted += 1;
                }
            }
            Ok(deleted)
        })
    }
}

/// Rows in the order of their keys, from either end or both at once. As an [`Iterator`] it waits, as
/// a [`Stream`] it is awaited. References are followed.
#[must_use = "a range does nothing before it is asked"]
pub struct TypedRange<'r, K, V> {
    range: Range<'r>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<'r, K: DecodeKey, V: DecodeValue> TypedRange<'r, K, V> {
    fn new(range: Range<'r>) -> Self {
        Self {
            range: range.following(),
            types: PhantomData,
        }
    }
}

fn row_of<K: DecodeKey, V: DecodeValue>(
    entry: Result<(Vec<u8>, crate::store::Value)>,
) -> Result<(K, V)> {
    let (key, value) = entry?;
    Ok((decode_key(&key)?, value_of(&value)?))
}

impl<K: DecodeKey, V: DecodeValue> Iterator for TypedRange<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.range.next().map(row_of)
    }
}

impl<K: DecodeKey, V: DecodeValue> DoubleEndedIterator for TypedRange<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.range.next_back().map(row_of)
    }
}

impl<K: DecodeKey, V: DecodeValue> Stream for TypedRange<'_, K, V> {
    type Item = Result<(K, V)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let entry = ready!(Pin::new(&mut self.range).poll_next(context));
        Poll::Ready(entry.map(row_of))
    }
}
