//! [`Serde`]: whatever serde knows, as a value of a typed table.
//!
//! The bytes are those of postcard: small, without names, and documented. Without names, bytes of one
//! layout can pass for those of another; so what a table notes of the type is its layout, as far as the
//! type tells it to whoever deserializes it.

use serde::de::value::Error;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};

use super::value::{DecodeValue, EncodeValue};

/// A value of a table whose bytes serde makes, in the format of postcard.
///
/// A row costs a serialization when it is put, and a deserialization into a type that owns what it has
/// when it is read. `Serde(&value)` puts a value that is borrowed.
///
/// A table refuses a type whose name, fields or variants are others than when it was made
/// (`TypeMismatch`): postcard has no names, so data of the one would be misread as the other. Give the
/// new type a table of its own and move the rows. Types of fields are looked at in what stands first;
/// deeper changes are not noticed.
///
/// Putting panics where the type's own `Serialize` fails, as for sequences whose length it does not
/// tell; nothing has changed then.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use thunderhead::typed::{Serde, Table};
///
/// #[derive(Serialize, Deserialize)]
/// struct Person {
///     name: String,
///     born: i16,
/// }
///
/// const PEOPLE: Table<u64, Serde<Person>> = Table::new("people");
///
/// let store = thunderhead::Store::in_memory()?;
/// let people = PEOPLE.of(&store).wait()?;
/// let emmy = Person { name: "Emmy".into(), born: 1882 };
/// people.put(&7, &Serde(&emmy)).wait()?;
/// let Serde(found) = people.get(&7).wait()?.unwrap();
/// assert_eq!((&found.name[..], found.born), ("Emmy", 1882));
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serde<T>(pub T);

fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    let bytes = postcard::to_allocvec(value);
    out.extend_from_slice(&bytes.expect("the type's own Serialize succeeds, as documented"));
}

impl<T: Serialize> EncodeValue for Serde<T> {
    fn append_value(&self, out: &mut Vec<u8>) {
        append(&self.0, out);
    }
}

impl<T: Serialize> EncodeValue<Serde<T>> for Serde<&T> {
    fn append_value(&self, out: &mut Vec<u8>) {
        append(self.0, out);
    }
}

impl<T: Serialize + DeserializeOwned> DecodeValue for Serde<T> {
    fn type_name() -> String {
        let mut layout = String::from("postcard ");
        // It ends with an error, as there is nothing to deserialize from.
        let _ = T::deserialize(Layout {
            text: &mut layout,
            deeper: DEPTH_MAX,
        });
        layout
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Some(Self(value)),
            _ => None,
        }
    }
}

/// How deep a layout is told: types can contain themselves.
const DEPTH_MAX: u8 = 6;

/// Writes down what a type asks to be deserialized from.
struct Layout<'l> {
    text: &'l mut String,
    deeper: u8,
}

impl Layout<'_> {
    /// The layout of something inside.
    fn inside(&mut self) -> Result<Layout<'_>, Error> {
        let Some(deeper) = self.deeper.checked_sub(1) else {
            return told();
        };
        Ok(Layout {
            text: self.text,
            deeper,
        })
    }
}

fn told<T>() -> Result<T, Error> {
    Err(Error::custom("the layout is told"))
}

macro_rules! plain {
    ($($method:ident: $name:literal,)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            self.text.push_str($name);
            told()
        }
    )*};
}

impl<'de> Deserializer<'de> for Layout<'_> {
    type Error = Error;

    /// As postcard: some types are written in another way where people are to read it.
    fn is_human_readable(&self) -> bool {
        false
    }

    plain! {
        deserialize_any: "any",
        deserialize_bool: "bool",
        deserialize_i8: "i8",
        deserialize_i16: "i16",
        deserialize_i32: "i32",
        deserialize_i64: "i64",
        deserialize_i128: "i128",
        deserialize_u8: "u8",
        deserialize_u16: "u16",
        deserialize_u32: "u32",
        deserialize_u64: "u64",
        deserialize_u128: "u128",
        deserialize_f32: "f32",
        deserialize_f64: "f64",
        deserialize_char: "char",
        deserialize_str: "string",
        deserialize_string: "string",
        deserialize_bytes: "bytes",
        deserialize_byte_buf: "bytes",
        deserialize_unit: "()",
        deserialize_identifier: "identifier",
        deserialize_ignored_any: "anything",
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.text.push_str("option of ");
        visitor.visit_some(self.inside()?)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: V,
    ) -> Result<V::Value, Error> {
        self.text.push_str(name);
        told()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.text.push_str(name);
        self.text.push_str(" of ");
        visitor.visit_newtype_struct(self.inside()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text.push_str("sequence of ");
        visitor.visit_seq(First(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        parts: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.text.push_str(&format!("{parts} parts, first "));
        visitor.visit_seq(First(self))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        parts: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.text
            .push_str(&format!("{name} of {parts} parts, first "));
        visitor.visit_seq(First(self))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text.push_str("map from ");
        visitor.visit_map(First(self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.text
            .push_str(&format!("{name} {{{}}}, first ", fields.join(", ")));
        visitor.visit_seq(First(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.text
            .push_str(&format!("{name} {}", variants.join("|")));
        told()
    }
}

/// Hands out a layout for the first of several things.
struct First<'l>(Layout<'l>);

impl<'de> SeqAccess<'de> for First<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        seed.deserialize(self.0.inside()?).map(Some)
    }
}

impl<'de> MapAccess<'de> for First<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        seed.deserialize(self.0.inside()?).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.0.inside()?)
    }
}
