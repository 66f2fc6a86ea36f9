//! Keys and values come back as they were, and encoded keys compare as the keys do.

use std::cmp::Ordering;
use std::fmt::Debug;

use bytes::Bytes;

use super::*;

/// Every pair of some keys, alone and with something behind them.
fn check_keys<K: DecodeKey + Debug>(keys: &[K], compare: impl Fn(&K, &K) -> Ordering) {
    for one in keys {
        let last = encode_key(one);
        let back: K = decode_key(&last).unwrap();
        assert_eq!(compare(&back, one), Ordering::Equal, "{one:?}");
        let mut delimited = prefix_of(one);
        delimited.extend_from_slice(b"\0rest");
        let mut rest = &delimited[..];
        let back = K::take_delimited(&mut rest).unwrap();
        assert_eq!(compare(&back, one), Ordering::Equal, "{one:?}");
        assert_eq!(rest, b"\0rest", "{one:?}");
        for other in keys {
            let expected = compare(one, other);
            let encoded = last.cmp(&encode_key(other));
            assert_eq!(encoded, expected, "{one:?} and {other:?}");
            if expected == Ordering::Equal {
                continue;
            }
            for (behind_one, behind_other) in [(&b""[..], &b"\xFF\xFF"[..]), (b"\xFF\xFF", b"")] {
                let one = [&prefix_of(one)[..], behind_one].concat();
                let other = [&prefix_of(other)[..], behind_other].concat();
                assert_eq!(one.cmp(&other), expected);
            }
        }
    }
}

fn check_ordered<K: DecodeKey + Debug + Ord>(keys: &[K]) {
    check_keys(keys, K::cmp);
}

fn random_bytes(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = random.usize(..6);
    let mut byte = || random.choice([0, 1, 0x7F, 0xFE, 0xFF]).unwrap_or(0);
    (0..length).map(|_| byte()).collect()
}

fn random_string(random: &mut fastrand::Rng) -> String {
    let length = random.usize(..5);
    let mut letter = || random.choice(['\0', '\u{1}', 'a', 'é', '\u{10FFFF}']);
    (0..length).filter_map(|_| letter()).collect()
}

macro_rules! integers {
    ($($name:ident: $type:ty;)*) => {$(
        #[test]
        fn $name() {
            let mut random = fastrand::Rng::with_seed(1);
            let mut keys = vec![<$type>::MIN, <$type>::MIN + 1, 0, 1, <$type>::MAX - 1, <$type>::MAX];
            keys.push((0 as $type).wrapping_sub(1));
            keys.extend((0..100).map(|_| random.u128(..) as $type));
            check_ordered(&keys);
        }
    )*};
}

integers! {
    keys_of_u8: u8;
    keys_of_u16: u16;
    keys_of_u32: u32;
    keys_of_u64: u64;
    keys_of_u128: u128;
    keys_of_i8: i8;
    keys_of_i16: i16;
    keys_of_i32: i32;
    keys_of_i64: i64;
    keys_of_i128: i128;
}

#[test]
fn floats_are_in_total_order() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut keys = vec![
        f64::NEG_INFINITY,
        f64::MIN,
        -1.0,
        -f64::MIN_POSITIVE,
        -0.0,
        0.0,
        f64::MIN_POSITIVE,
        1.0,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
        -f64::NAN,
    ];
    keys.extend((0..100).map(|_| f64::from_bits(random.u64(..))));
    check_keys(&keys, f64::total_cmp);
    let halves: Vec<f32> = keys.iter().map(|key| *key as f32).collect();
    check_keys(&halves, f32::total_cmp);
}

#[test]
fn strings_and_bytes() {
    let mut random = fastrand::Rng::with_seed(3);
    let bytes: Vec<Vec<u8>> = (0..200).map(|_| random_bytes(&mut random)).collect();
    check_ordered(&bytes);
    let strings: Vec<String> = (0..200).map(|_| random_string(&mut random)).collect();
    check_ordered(&strings);
    check_ordered(&[[0u8; 16], [1; 16], [0xFF; 16]]);
    check_ordered(&['\0', 'a', '\u{D7FF}', '\u{E000}', char::MAX]);
    check_ordered(&[false, true]);
}

#[test]
fn composites() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut keys = Vec::new();
    for _ in 0..200 {
        let middle = random.bool().then(|| random_string(&mut random));
        keys.push((random_bytes(&mut random), middle, random.i16(-2..2)));
    }
    check_ordered(&keys);
    let last: Vec<(bool, (Option<Vec<u8>>,))> = (0..200)
        .map(|_| {
            let bytes = random.bool().then(|| random_bytes(&mut random));
            (random.bool(), (bytes,))
        })
        .collect();
    check_ordered(&last);
    check_ordered(&[None, Some(None), Some(Some(0u8)), Some(Some(1))]);
    check_ordered(&[(1u8, 2u16, 3u32, 4u64, 5u128, -1i8, (), "z".to_owned())]);
}

#[test]
fn what_is_looked_up_may_be_borrowed() {
    assert_eq!(encode_key("key"), encode_key(&"key".to_owned()));
    assert_eq!(encode_key(&b"key"[..]), encode_key(&b"key".to_vec()));
    let owned = ("a".to_owned(), Some(b"b".to_vec()));
    assert_eq!(encode_key(&("a", Some(&b"b"[..]))), encode_key(&owned));
    assert_eq!(prefix_of(&("a",)), prefix_of("a"));
}

#[test]
fn what_is_no_key_of_the_type_is_refused() {
    fn refused<K: DecodeKey + Debug>(bytes: &[u8]) {
        let error = decode_key::<K>(bytes).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::TypeMismatch);
        assert!(error.to_string().contains(&K::type_name()), "{error}");
    }
    refused::<u32>(&[0; 3]);
    refused::<u32>(&[0; 5]);
    refused::<bool>(&[2]);
    refused::<char>(&[0, 0, 0xD8, 0]);
    refused::<String>(&[0xFF]);
    refused::<(String, u8)>(b"no end");
    refused::<(String, u8)>(&[b'a', 0, 1, 0]);
    refused::<(String, u8)>(&[b'a', 0]);
    refused::<Option<u8>>(&[]);
    refused::<Option<u8>>(&[2, 0]);
    refused::<Option<u8>>(&[0, 0]);
    refused::<()>(&[0]);
}

#[test]
fn random_bytes_are_refused_or_read_back_to_themselves() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..20_000 {
        let bytes = random_bytes(&mut random);
        if let Ok(key) = decode_key::<(Vec<u8>, Option<bool>, String)>(&bytes) {
            assert_eq!(encode_key(&key), bytes);
        }
        if let Ok(key) = decode_key::<(Option<u8>, Vec<u8>)>(&bytes) {
            assert_eq!(encode_key(&key), bytes);
        }
    }
}

#[test]
fn values_come_back() {
    fn comes_back<V: DecodeValue + Debug + PartialEq>(value: V) {
        let mut bytes = Vec::new();
        value.append_value(&mut bytes);
        assert_eq!(V::read_value(&bytes), Some(value));
    }
    comes_back(7u8);
    comes_back(-7i128);
    comes_back(0.5f32);
    comes_back(true);
    comes_back(());
    comes_back([1u8; 16]);
    comes_back("text".to_owned());
    comes_back(vec![0u8, 1, 2]);
    comes_back(Bytes::from_static(b"bytes"));
    assert_eq!(u32::read_value(&[0; 3]), None);
    assert_eq!(bool::read_value(&[2]), None);
    assert_eq!(<()>::read_value(&[0]), None);
    assert_eq!(String::read_value(&[0xFF]), None);
    assert_eq!(<[u8; 2]>::read_value(&[0]), None);
}
