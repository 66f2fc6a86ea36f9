//! The methods that a store, its snapshots and its transactions have in common.

/// Defines them for a type with a field `reader`; ranges live as long as the argument says.
macro_rules! reading_methods {
    ($life:lifetime) => {
        /// The value of a key, or `None`. Cached: one descent and one copy; else one read a level
        /// that is not in memory. Errors: `InvalidArgument` for a key of more than 32 KiB;
        /// `Corrupt`; `Io`; `OperatorMissing`; `BrokenReference`.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("k", "value").wait()?;
        /// assert_eq!(store.get("k").wait()?.unwrap(), "value");
        /// assert!(store.get("other").wait()?.is_none());
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn get<K: AsRef<[u8]> + Send>(
            &self,
            key: K,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<Option<$crate::store::Value>>>
            + Send
            + use<'_, K>,
        > {
            self.reader.lend(key, $crate::store::Value::copied)
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
            self.reader.lend(key, function)
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
        /// place on: see [`ValueReader`](crate::ValueReader). Costs a descent; errors: those of
        /// [`get`](Self::get).
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// use std::io::Read;
        ///
        /// store.put("film", vec![7; 100_000]).wait()?;
        /// let mut start = [0; 4];
        /// let mut reader = store.value_reader("film").wait()?.expect("it was just put");
        /// reader.read_exact(&mut start)?;
        /// assert_eq!(start, [7; 4]);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
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
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("film", vec![7; 100_000]).wait()?;
        /// assert_eq!(store.value_length("film").wait()?, Some(100_000));
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("k", "").wait()?;
        /// assert!(store.contains_key("k").wait()?);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn contains_key<K: AsRef<[u8]> + Send>(
            &self,
            key: K,
        ) -> $crate::store::Operation<
            impl std::future::Future<Output = $crate::Result<bool>> + Send + use<'_, K>,
        > {
            self.reader.has_key(key)
        }

        /// The entries of a range of keys, from both ends. What is a range, and of what: see
        /// [`KeyRange`](crate::KeyRange); one that ends before it begins is empty.
        ///
        /// Copies the bounds, and reads nothing before the first entry is asked for. Errors come in the
        /// place of entries: those of [`get`](Self::get).
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// for key in ["a", "b", "c"] {
        ///     store.put(key, "…").wait()?;
        /// }
        /// let mut keys = Vec::new();
        /// for entry in store.range("a".."c").rev() {
        ///     let (key, _value) = entry?;
        ///     keys.push(key);
        /// }
        /// assert_eq!(keys, [b"b", b"a"]);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn range(&self, range: impl $crate::store::KeyRange) -> $crate::store::Range<$life> {
            let (low, high) = range.to_bounds();
            self.reader.range(low, high)
        }

        /// All entries, from both ends. As [`range`](Self::range) of everything.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("k", "v").wait()?;
        /// for entry in store.iter() {
        ///     assert_eq!(entry?.1, "v");
        /// }
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn iter(&self) -> $crate::store::Range<$life> {
            self.reader
                .range(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded)
        }

        /// The entries whose keys begin with a prefix, from both ends. To count them or to delete
        /// them, there is [`Prefix`](crate::Prefix). Cost and errors: those of [`range`](Self::range).
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// for key in ["fruit/apple", "fruit/pear", "root/carrot"] {
        ///     store.put(key, "…").wait()?;
        /// }
        /// assert_eq!(store.prefix("fruit/").count(), 2);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> $crate::store::Range<$life> {
            self.range($crate::store::Prefix(prefix))
        }

        /// A cursor over all entries, to seek and to step both ways. It stands nowhere yet, and
        /// nothing is read before it is moved.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("b", "…").wait()?;
        /// let mut cursor = store.cursor();
        /// assert!(cursor.seek("a").wait()?);
        /// assert_eq!(cursor.key(), Some(&b"b"[..]));
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn cursor(&self) -> $crate::store::Cursor<$life> {
            self.cursor_in(..)
        }

        /// A cursor that does not leave a range of keys: past either end of it there is nothing. It
        /// stands nowhere yet, and nothing is read before it is moved.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// for key in ["a", "b", "c"] {
        ///     store.put(key, "…").wait()?;
        /// }
        /// let mut cursor = store.cursor_in(.."c");
        /// assert!(cursor.last().wait()?);
        /// assert_eq!(cursor.key(), Some(&b"b"[..]));
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn cursor_in(&self, range: impl $crate::store::KeyRange) -> $crate::store::Cursor<$life> {
            let (low, high) = range.to_bounds();
            self.reader.cursor(low, high)
        }

        /// What comes next in the keys, up to and with a separator, each once, in order: the names in
        /// a directory, where keys are paths. Costs a descent for each, whatever is below it; no
        /// value is read. Errors come in the place of names: `Corrupt`; `Io`.
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
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("a", "1").wait()?;
        /// store.put("b", "2").wait()?;
        /// let (key, _value) = store.first().wait()?.expect("there are two");
        /// assert_eq!(key, b"a");
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("a", "1").wait()?;
        /// store.put("b", "2").wait()?;
        /// let (key, _value) = store.last().wait()?.expect("there are two");
        /// assert_eq!(key, b"b");
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
        /// which are read if they are not in memory. Calls after that take O(log n), and as much as
        /// that for each operation that no checkpoint has taken into the tree yet. Errors:
        /// `Corrupt`; `Io`.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("k", "v").wait()?;
        /// assert_eq!(store.len().wait()?, 1);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// assert!(store.is_empty().wait()?);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
        /// number is exact. Errors: `Corrupt`; `Io`.
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

        /// The entry that has exactly `rank` entries before it; `None` if there are no more than
        /// `rank`. O(log n) where nothing is pending; see [`len`](Self::len). Errors: those of
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
/// `durability` and a method `spill_if_large`. The argument, for the examples, makes one of a `store`.
macro_rules! writing_methods {
    ($begin:literal) => {
        /// Puts a value. One that is too large for a leaf is written to the disk right away; others
        /// cost a copy. Errors: `InvalidArgument` for a key of more than 32 KiB or a value of more
        /// than 1 TiB; `StorageFull`; `ReadOnly`; `Closed`; `Poisoned`; `Io`.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        #[doc = concat!("let mut writes = ", $begin, ";")]
        /// writes.put("k", "v").wait()?;
        /// writes.commit().wait()?;
        /// assert_eq!(store.get("k").wait()?.unwrap(), "v");
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        #[doc = concat!("let mut writes = ", $begin, ";")]
        /// writes.put_reserved("k", 8, |value| value.copy_from_slice(&7u64.to_be_bytes())).wait()?;
        /// writes.commit().wait()?;
        /// assert_eq!(store.get("k").wait()?.unwrap(), 7u64.to_be_bytes());
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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

        /// Makes a key stand for another one: see
        /// [`Store::put_reference`](crate::Store::put_reference). In a view, both are keys of the
        /// view. Cost and errors: those of [`put`](Self::put).
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        #[doc = concat!("let mut writes = ", $begin, ";")]
        /// writes.put("2026/report", "words").wait()?;
        /// writes.put_reference("newest", "2026/report").wait()?;
        /// writes.commit().wait()?;
        /// assert_eq!(store.get("newest").wait()?.unwrap(), "words");
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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

        /// A writer of a value whose length need not be known, in bounded memory. The value is
        /// among these writes once it is [finished](crate::ValueWriter::finish). Takes nothing from
        /// the disk yet. Errors: `InvalidArgument` for a key of more than 32 KiB; `ReadOnly`;
        /// `StorageFull`; `Closed`; `Poisoned`.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        #[doc = concat!("let mut writes = ", $begin, ";")]
        /// let mut writer = writes.value_writer("film")?;
        /// writer.write(b"first, ").wait()?;
        /// writer.write(b"second").wait()?;
        /// writer.finish().wait()?;
        /// writes.commit().wait()?;
        /// assert_eq!(store.get("film").wait()?.unwrap(), "first, second");
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
        pub fn value_writer(
            &mut self,
            key: impl AsRef<[u8]>,
        ) -> $crate::Result<$crate::store::ValueWriter<'_>> {
            $crate::store::ValueWriter::begin(self, key.as_ref())
        }

        /// Deletes a key. No error if there is none; does not look whether there is. Errors: those
        /// of [`put`](Self::put); a full disk is no reason.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("k", "v").wait()?;
        #[doc = concat!("let mut writes = ", $begin, ";")]
        /// writes.delete("k").wait()?;
        /// writes.commit().wait()?;
        /// assert!(!store.contains_key("k").wait()?);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        /// store.put("2025/old", "…").wait()?;
        /// store.put("2026/new", "…").wait()?;
        #[doc = concat!("let mut writes = ", $begin, ";")]
        /// writes.delete_range(.."2026/").wait()?;
        /// writes.commit().wait()?;
        /// assert_eq!(store.len().wait()?, 1);
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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

        /// Merges an operand into the value of a key, by an operator that was registered. Does not
        /// look what there is. Errors: those of [`put`](Self::put); `InvalidArgument` for an
        /// operand of more than 64 KiB; `OperatorMissing`. See
        /// [`MergeOperator`](crate::MergeOperator), which has an example.
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

        /// What the commit waits for: see [`Durability`](crate::Durability). Otherwise it is that
        /// of the store.
        ///
        /// ```
        /// # let store = thunderhead::Store::in_memory()?;
        #[doc = concat!("let mut writes = ", $begin, ";")]
        /// writes.set_durability(thunderhead::Durability::Buffered);
        /// writes.put("k", "v").wait()?;
        /// writes.commit().wait()?;
        /// # Ok::<(), thunderhead::Error>(())
        /// ```
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
