//! Keys made of others: tuples and options.

use super::key::{DecodeKey, EncodeKey};

const NONE: u8 = 0;
const SOME: u8 = 1;

impl<K: EncodeKey> EncodeKey for Option<K> {
    type Stored = Option<K::Stored>;

    fn append_delimited(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(NONE),
            Some(key) => {
                out.push(SOME);
                key.append_delimited(out);
            }
        }
    }

    fn append_last(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(NONE),
            Some(key) => {
                out.push(SOME);
                key.append_last(out);
            }
        }
    }
}

impl<K: DecodeKey> DecodeKey for Option<K> {
    fn type_name() -> String {
        format!("option of {}", K::type_name())
    }

    fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        match *kind {
            NONE => Some(None),
            SOME => K::take_delimited(bytes).map(Some),
            _ => None,
        }
    }

    fn read_last(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&NONE, []) => Some(None),
            (&SOME, rest) => K::read_last(rest).map(Some),
            _ => None,
        }
    }
}

impl EncodeKey for () {
    type Stored = Self;

    fn append_delimited(&self, _: &mut Vec<u8>) {}
}

impl DecodeKey for () {
    fn type_name() -> String {
        "()".into()
    }

    fn take_delimited(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

macro_rules! tuples {
    ($(($($part:ident $at:tt,)* | $last:ident $last_at:tt),)*) => {$(
        impl<$($part: EncodeKey,)* $last: EncodeKey> EncodeKey for ($($part,)* $last,) {
            type Stored = ($($part::Stored,)* $last::Stored,);

            fn append_delimited(&self, out: &mut Vec<u8>) {
                $(self.$at.append_delimited(out);)*
                self.$last_at.append_delimited(out);
            }

            fn append_last(&self, out: &mut Vec<u8>) {
                $(self.$at.append_delimited(out);)*
                self.$last_at.append_last(out);
            }
        }

        impl<$($part: DecodeKey,)* $last: DecodeKey> DecodeKey for ($($part,)* $last,) {
            fn type_name() -> String {
                let parts: &[String] = &[$($part::type_name(),)* $last::type_name()];
                format!("({},)", parts.join(", "))
            }

            fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($part::take_delimited(bytes)?,)* $last::take_delimited(bytes)?,))
            }

            #[allow(unused_mut, reason = "a tuple of one takes nothing before its last part")]
            fn read_last(mut bytes: &[u8]) -> Option<Self> {
                Some(($($part::take_delimited(&mut bytes)?,)* $last::read_last(bytes)?,))
            }
        }
    )*};
}

tuples! {
    (| A 0),
    (A 0, | B 1),
    (A 0, B 1, | C 2),
    (A 0, B 1, C 2, | D 3),
    (A 0, B 1, C 2, D 3, | E 4),
    (A 0, B 1, C 2, D 3, E 4, | F 5),
    (A 0, B 1, C 2, D 3, E 4, F 5, | G 6),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, | H 7),
}
