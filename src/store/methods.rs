//! The methods that a store, its snapshots and its transactions have in common.

/// Defines them for a type with a field `reader`; ranges live as long as the argument says.
macro_rules! reading_methods {
    ($life:lifetime) => {
        /// The value of a key, or `None`. Cached: one descent and one copy; else one read a level
        /// that is not in memory. Errors: `InvalidArgument` for a key of more than 32 KiB;
        /// `Corrupt`; `Io`; `OperatorMissing`; `BrokenReference`.
        pub fn get<K: AsRef<[u8]> + Send>(
            &self,
            key: K,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<$crate::store::Value>>>
            + Send
            + use<'_, K>,
        > {
            $crate::store::Operation::new(async move { self.reader.get(key.as_ref()).await })
        }

        /// The values of some keys, in their order, all as of one moment. What is not in memory is
        /// read from the disk as many at a time as it can serve: on a slow one, much faster than
        /// one after the other. Memory: all the values. Errors: those of [`get`](Self::get), at the
        /// first key that has one.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("a", "1").wait()?;
        /// let found = store.get_many(["a", "b"]).wait()?;
        /// assert_eq!(found[0].as_deref(), Some(&b"1"[..]));
        /// assert!(found[1].is_none());
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn get_many<K: AsRef<[u8]> + Send + Sync>(
            &self,
            keys: impl IntoIterator<Item = K>,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Vec<Option<$crate::store::Value>>>> + Send,
        > {
            let keys: Vec<K> = keys.into_iter().collect();
            $crate::store::Operation::new(async move { self.reader.get_many(&keys).await })
        }

        /// Lends the value of a key to a function; `None` if there is none. Nothing is copied or
        /// allocated when the value is in its leaf. The function should be short: memory that is
        /// given up meanwhile is not reused before it returns. Errors: those of [`get`](Self::get);
        /// then the function was not called.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("k", "value").wait()?;
        /// let first = store.get_with("k", |value| value[0]).wait()?;
        /// assert_eq!(first, Some(b'v'));
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn get_with<K: AsRef<[u8]> + Send, R: Send>(
            &self,
            key: K,
            function: impl FnOnce(&[u8]) -> R + Send,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<R>>> + Send,
        > {
            $crate::store::Operation::new(async move {
                self.reader.get_with(key.as_ref(), function).await
            })
        }

        /// The bytes of a value from `offset` on, at most `length`, fewer at its end; `None` if the
        /// key has none. Of a large value only the blocks that are asked for are read: 32 KiB each.
        /// Errors: those of [`get`](Self::get).
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("large", vec![7; 1 << 20]).wait()?;
        /// let part = store.get_part("large", (1 << 20) - 3, 10).wait()?;
        /// assert_eq!(part.unwrap(), [7, 7, 7]);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn get_part<K: AsRef<[u8]> + Send>(
            &self,
            key: K,
            offset: u64,
            length: usize,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<$crate::store::Value>>>
            + Send
            + use<'_, K>,
        > {
            $crate::store::Operation::new(async move {
                self.reader.get_part(key.as_ref(), offset, length).await
            })
        }

        /// A reader of the value of a key, as it is now, whatever is written later; `None` if the key
        /// has none. It reads a value of any size in bounded memory, from the beginning or from any
        /// place on: see [`ValueReader`](crate::ValueReader).
        pub fn value_reader<K: AsRef<[u8]> + Send>(
            &self,
            key: K,
        ) -> $crate::store::Operation<
            impl std::future::Future<
                Output = $crate::Result<Option<$crate::store::ValueReader<$life>>>,
            > + Send
            + use<'_, K>,
        > {
            $crate::store::Operation::new(
                async move { self.reader.value_reader(key.as_ref()).await },
            )
        }

        /// The length of the value of a key in bytes, without reading a large value; `None` if there is
        /// none. Costs a descent. Errors: those of [`get`](Self::get).
        pub fn value_length<K: AsRef<[u8]> + Send>(
            &self,
            key: K,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<u64>>> + Send + use<'_, K>,
        > {
            $crate::store::Operation::new(
                async move { self.reader.value_length(key.as_ref()).await },
            )
        }

        /// Whether a key has a value. Costs a descent, and allocates nothing. Errors: those of
        /// [`get`](Self::get).
        pub fn contains_key<K: AsRef<[u8]> + Send>(
            &self,
            key: K,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<bool>> + Send + use<'_, K>,
        > {
            $crate::store::Operation::new(
                async move { self.reader.contains_key(key.as_ref()).await },
            )
        }

        /// The entries of a range of keys, from both ends; nothing is read before the first is asked
        /// for. What is a range, and of what: see [`KeyRange`](crate::KeyRange).
        pub fn range(&self, range: impl $crate::store::KeyRange) -> $crate::store::Range<$life> {
            let (low, high) = range.to_bounds();
            self.reader.range(low, high)
        }

        /// All entries, from both ends. As [`range`](Self::range) of everything.
        pub fn iter(&self) -> $crate::store::Range<$life> {
            self.reader
                .range(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded)
        }

        /// The entries whose keys begin with a prefix, from both ends. To count them or to delete
        /// them, there is [`Prefix`](crate::Prefix).
        pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> $crate::store::Range<$life> {
            self.range($crate::store::Prefix(prefix))
        }

        /// A cursor over all entries, to seek and to step both ways. It stands nowhere yet.
        pub fn cursor(&self) -> $crate::store::Cursor<$life> {
            self.cursor_in(..)
        }

        /// A cursor that does not leave a range of keys.
        pub fn cursor_in(&self, range: impl $crate::store::KeyRange) -> $crate::store::Cursor<$life> {
            let (low, high) = range.to_bounds();
            self.reader.cursor(low, high)
        }

        /// What comes next in the keys, up to and with a separator, each once, in order: the names in
        /// a directory, where keys are paths. Costs a descent for each, whatever is below it; no
        /// value is read.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// for path in ["etc/hosts", "etc/ssh/config", "etc/ssh/keys", "home"] {
        ///     store.put(path, "…").wait()?;
        /// }
        /// let names = |view: &thunderhead::Store| -> thunderhead::Result<Vec<Vec<u8>>> {
        ///     view.components(b'/').collect()
        /// };
        /// assert_eq!(names(&store)?, [&b"etc/"[..], b"home"]);
        /// assert_eq!(names(&store.subtree("etc/"))?, [&b"hosts"[..], b"ssh/"]);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn components(&self, separator: u8) -> $crate::store::Components<$life> {
            self.reader.components(separator)
        }

        /// The entry with the smallest key, or `None` if there is none. Costs a descent. Errors: those
        /// of [`get`](Self::get).
        pub fn first(
            &self,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<$crate::store::Entry>>> + Send,
        > {
            let mut range = self.iter();
            $crate::store::Operation::new(async move { range.next_entry().await })
        }

        /// The entry with the greatest key, or `None` if there is none. Costs a descent. Errors: those
        /// of [`get`](Self::get).
        pub fn last(
            &self,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<$crate::store::Entry>>> + Send,
        > {
            let mut range = self.iter();
            $crate::store::Operation::new(async move { range.next_back_entry().await })
        }

        /// The exact number of entries. Where operations are pending whose effect on it is unknown,
        /// the first call after them finds out, once for each: it merges them with their leaves,
        /// which are read if they are not in memory. Calls after that take O(log n), and as much
        /// as that for each operation that no checkpoint has taken into the tree yet.
        pub fn len(
            &self,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<u64>> + Send + use<'_>,
        > {
            let unbounded = std::ops::Bound::Unbounded;
            $crate::store::Operation::new(async move {
                self.reader.count(unbounded.clone(), unbounded).await
            })
        }

        /// Whether there are no entries. Costs a descent, and looks at what is pending before the first
        /// entry. Errors: `Corrupt`; `Io`.
        pub fn is_empty(
            &self,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<bool>> + Send + use<'_>,
        > {
            $crate::store::Operation::new(async move {
                Ok(self.iter().next_key_with(|_| ()).await?.is_none())
            })
        }

        /// The exact number of entries of a range of keys. O(log n) where nothing is pending; see
        /// [`len`](Self::len). Errors: `Corrupt`; `Io`.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// for key in ["a", "b", "c"] {
        ///     store.put(key, "…").wait()?;
        /// }
        /// assert_eq!(store.count("b"..).wait()?, 2);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn count(
            &self,
            range: impl $crate::store::KeyRange,
        ) -> $crate::store::Operation<impl std::future::Future<Output = $crate::Result<u64>> + Send>
        {
            let (low, high) = range.to_bounds();
            $crate::store::Operation::new(async move { self.reader.count(low, high).await })
        }

        /// Between which bounds the number of entries of a range lies, and the bytes that they take.
        /// O(log n) always: it reads the pages on the way to the two ends of the range and looks at
        /// no more than a thousand keys of each journal in memory. Where nothing is pending, the
        /// number is exact.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("a", "1").wait()?;
        /// store.put("b", "2").wait()?;
        /// let estimate = store.estimate("a"..).wait()?;
        /// assert!(estimate.entries.contains(&2));
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn estimate(
            &self,
            range: impl $crate::store::KeyRange,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<$crate::store::Estimate>> + Send,
        > {
            let (low, high) = range.to_bounds();
            $crate::store::Operation::new(async move { self.reader.estimate(low, high).await })
        }

        /// The entry that has exactly `rank` entries before it; `None` if there are no more than `rank`.
        /// O(log n) where nothing is pending; see [`len`](Self::len). Errors: those of
        /// [`get`](Self::get).
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// for key in ["a", "b", "c"] {
        ///     store.put(key, "…").wait()?;
        /// }
        /// let (median, _) = store.nth(1).wait()?.unwrap();
        /// assert_eq!(median, b"b");
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn nth(
            &self,
            rank: u64,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<$crate::store::Entry>>>
            + Send
            + use<'_>,
        > {
            $crate::store::Operation::new(async move { self.reader.nth(rank).await })
        }
    };
}

/// The methods that transactions and batches have in common: for a type with fields `writes` and
/// `durability` and a method `spill_if_large`.
macro_rules! writing_methods {
    () => {
        /// Puts a value. One that is too large for a leaf is written to the disk right away; others
        /// cost a copy. Errors: `InvalidArgument` for a key of more than 32 KiB or a value of more
        /// than 1 TiB; `StorageFull`; `ReadOnly`; `Closed`; `Poisoned`; `Io`.
        pub fn put<K: AsRef<[u8]> + Send, V: AsRef<[u8]> + Send>(
            &mut self,
            key: K,
            value: V,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<()>> + Send + use<'_, K, V>,
        > {
            $crate::store::Operation::new(async move {
                self.writes.put(key.as_ref(), value.as_ref()).await?;
                self.spill_if_large().await
            })
        }

        /// Puts a value of a known length, in bytes, that a function fills in place; it is given zeros.
        /// If the function panics, nothing has changed. Errors: those of [`put`](Self::put).
        pub fn put_reserved<K: AsRef<[u8]> + Send>(
            &mut self,
            key: K,
            length: usize,
            fill: impl FnOnce(&mut [u8]) + Send,
        ) -> $crate::store::Operation<impl std::future::Future<Output = $crate::Result<()>> + Send>
        {
            $crate::store::Operation::new(async move {
                self.writes.put_reserved(key.as_ref(), length, fill).await?;
                self.spill_if_large().await
            })
        }

        /// Makes a key stand for another one: see [`Store::put_reference`](crate::Store::put_reference).
        /// In a view, both are keys of the view.
        pub fn put_reference<K: AsRef<[u8]> + Send, T: AsRef<[u8]> + Send>(
            &mut self,
            key: K,
            target: T,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<()>> + Send + use<'_, K, T>,
        > {
            $crate::store::Operation::new(async move {
                self.writes.put_reference(key.as_ref(), target.as_ref())?;
                self.spill_if_large().await
            })
        }

        /// A writer of a value whose length need not be known, in bounded memory. The value is among
        /// these writes once it is [finished](crate::ValueWriter::finish).
        pub fn value_writer(
            &mut self,
            key: impl AsRef<[u8]>,
        ) -> $crate::Result<$crate::store::ValueWriter<'_>> {
            $crate::store::ValueWriter::begin(self, key.as_ref())
        }

        /// Deletes a key. No error if there is none. Errors: those of [`put`](Self::put); a full disk is
        /// no reason.
        pub fn delete<K: AsRef<[u8]> + Send>(
            &mut self,
            key: K,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<()>> + Send + use<'_, K>,
        > {
            $crate::store::Operation::new(async move {
                self.writes.delete(key.as_ref())?;
                self.spill_if_large().await
            })
        }

        /// Deletes all keys of a range. O(1) here; the store does the work in the background. Errors:
        /// those of [`put`](Self::put); a full disk is no reason.
        pub fn delete_range(
            &mut self,
            range: impl $crate::store::KeyRange,
        ) -> $crate::store::Operation<impl std::future::Future<Output = $crate::Result<()>> + Send>
        {
            let range = range.to_bounds();
            $crate::store::Operation::new(async move {
                self.writes.delete_range(range)?;
                self.spill_if_large().await
            })
        }

        /// Merges an operand into the value of a key, by an operator that was registered. Does not look
        /// what there is. Errors: those of [`put`](Self::put); `InvalidArgument` for an operand of more
        /// than 64 KiB; `OperatorMissing`.
        pub fn merge<K: AsRef<[u8]> + Send, V: AsRef<[u8]> + Send>(
            &mut self,
            key: K,
            operator: &str,
            operand: V,
        ) -> $crate::store::Operation<impl std::future::Future<Output = $crate::Result<()>> + Send>
        {
            $crate::store::Operation::new(async move {
                self.writes
                    .merge(key.as_ref(), operator, operand.as_ref())?;
                self.spill_if_large().await
            })
        }

        /// What the commit will be if nobody says otherwise: see [`Durability`](crate::Durability).
        pub fn set_durability(&mut self, durability: $crate::store::Durability) {
            self.durability = durability;
        }
    };
}

pub(crate) use {reading_methods, writing_methods};

impl IntoIterator for &super::Store {
    type Item = crate::Result<super::Entry>;
    type IntoIter = super::Range<'static>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for &super::Snapshot {
    type Item = crate::Result<super::Entry>;
    type IntoIter = super::Range<'static>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'t> IntoIterator for &'t super::Transaction {
    type Item = crate::Result<super::Entry>;
    type IntoIter = super::Range<'t>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
