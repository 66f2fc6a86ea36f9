//! Keys made of others: tuples and options.

use super::key::{DecodeKey, EncodeKey};

const NONE: u8 = 0;
const SOME: u8 = 1;

impl<K, Q: EncodeKey<K>> EncodeKey<Option<K>> for Option<Q> {
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
    ($(($($part:ident $stored:ident $at:tt,)* | $last:ident $last_stored:ident $last_at:tt),)*) => {$(
        impl<$($stored, $part: EncodeKey<$stored>,)* $last_stored, $last: EncodeKey<$last_stored>>
            EncodeKey<($($stored,)* $last_stored,)> for ($($part,)* $last,)
        {
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
    (| A KA 0),
    (A KA 0, | B KB 1),
    (A KA 0, B KB 1, | C KC 2),
    (A KA 0, B KB 1, C KC 2, | D KD 3),
    (A KA 0, B KB 1, C KC 2, D KD 3, | E KE 4),
    (A KA 0, B KB 1, C KC 2, D KD 3, E KE 4, | F KF 5),
    (A KA 0, B KB 1, C KC 2, D KD 3, E KE 4, F KF 5, | G KG 6),
    (A KA 0, B KB 1, C KC 2, D KD 3, E KE 4, F KF 5, G KG 6, | H KH 7),
}
