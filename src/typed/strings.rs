//! Keys without a fixed length: byte strings and strings.
//!
//! Delimited, they are escaped as in FoundationDB's tuple layer, with a terminator of two bytes:
//! a terminator of one would not be told from an escape when more follows.

use super::key::{DecodeKey, EncodeKey};

const ESCAPED: u8 = 0x00;
const ZERO: u8 = 0xFF;
const END: u8 = 0x00;

impl EncodeKey<Vec<u8>> for [u8] {
    fn append_delimited(&self, out: &mut Vec<u8>) {
        for byte in self {
            out.push(*byte);
            if *byte == ESCAPED {
                out.push(ZERO);
            }
        }
        out.extend_from_slice(&[ESCAPED, END]);
    }

    fn append_last(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl EncodeKey for Vec<u8> {
    fn append_delimited(&self, out: &mut Vec<u8>) {
        self.as_slice().append_delimited(out);
    }

    fn append_last(&self, out: &mut Vec<u8>) {
        self.as_slice().append_last(out);
    }
}

impl DecodeKey for Vec<u8> {
    fn type_name() -> String {
        "bytes".into()
    }

    fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
        let mut taken = Self::new();
        loop {
            let at = bytes.iter().position(|byte| *byte == ESCAPED)?;
            taken.extend_from_slice(&bytes[..at]);
            let kind = *bytes.get(at + 1)?;
            *bytes = &bytes[at + 2..];
            match kind {
                END => return Some(taken),
                ZERO => taken.push(0),
                _ => return None,
            }
        }
    }

    fn read_last(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl EncodeKey<String> for str {
    fn append_delimited(&self, out: &mut Vec<u8>) {
        self.as_bytes().append_delimited(out);
    }

    fn append_last(&self, out: &mut Vec<u8>) {
        self.as_bytes().append_last(out);
    }
}

impl EncodeKey for String {
    fn append_delimited(&self, out: &mut Vec<u8>) {
        self.as_str().append_delimited(out);
    }

    fn append_last(&self, out: &mut Vec<u8>) {
        self.as_str().append_last(out);
    }
}

impl DecodeKey for String {
    fn type_name() -> String {
        "string".into()
    }

    fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(Vec::take_delimited(bytes)?).ok()
    }

    fn read_last(bytes: &[u8]) -> Option<Self> {
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    }
}
