//! Merge operands: operations that say how a value changes, without knowing the value.
//!
//! A chain of them, oldest first, stands on a base in the payload of [`Tag::Merge`]
//! ([`crate::format::records`] has the bytes). Flushes and readers [`fold`] chains into what is below
//! as far as the operators are known; [`resolve`] gives a reader the value or says which operator is
//! missing. Invariant kept: whatever is folded when, and whatever panics, the value that comes out in
//! the end is the same.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::bytes::{put_varint, read_varint};
use crate::format::record::Tag;

/// The longest name of an operator.
pub(crate) const OPERATOR_NAME_BYTES_MAX: usize = 255;

/// How operands change values: an associative function, known in the file by name and version.
///
/// Operands and values are of one kind: `merge(merge(a, b), c)` equals `merge(a, merge(b, c))`, and
/// an operand merged into nothing is the value that it stands for. Operands are applied in the order
/// of commits. The function has to be a function: same arguments, same result. It cannot delete.
///
/// If it panics while the store works in the background, the operands are kept as they are and
/// tried again when the key is next read.
///
/// ```
/// use thunderhead::{MergeOperator, Options, disk::MemoryDisk};
///
/// /// Adds numbers.
/// struct Add;
///
/// fn number(bytes: &[u8]) -> u64 {
///     bytes.try_into().map_or(0, u64::from_le_bytes)
/// }
///
/// impl MergeOperator for Add {
///     fn name(&self) -> &str {
///         "add"
///     }
///
///     fn merge(&self, _: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
///         let sum = existing.map_or(0, number) + number(operand);
///         out.extend_from_slice(&sum.to_le_bytes());
///     }
/// }
///
/// let store = Options::new().merge_operator(Add).open_disk(MemoryDisk::new())?;
/// for amount in [3u64, 4] {
///     store.merge("visits", "add", amount.to_le_bytes()).wait()?;
/// }
/// assert_eq!(store.get_with("visits", number).wait()?, Some(7));
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// The name under which operands of this operator stand in the file; 1 to 255 bytes.
    fn name(&self) -> &str;

    /// The version of the operator, which stands in the file too. Operands of another version are
    /// left alone, and reading them is an error.
    fn version(&self) -> u32 {
        1
    }

    /// Appends to `out` what becomes of `existing` when `operand` is merged into it. `existing` is a
    /// value, or an older operand, or nothing.
    fn merge(&self, key: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>);
}

/// The operators that are registered with a store.
#[derive(Clone, Default)]
pub(crate) struct Operators {
    by_name: HashMap<String, Arc<dyn MergeOperator>>,
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Operators {
    pub(crate) fn register(&mut self, operator: Arc<dyn MergeOperator>) -> Result<()> {
        let name = operator.name().to_owned();
        if name.is_empty() || name.len() > OPERATOR_NAME_BYTES_MAX {
            return Err(Error::invalid(
                "the name of a merge operator has 1 to 255 bytes",
            ));
        }
        if self.by_name.insert(name.clone(), operator).is_some() {
            return Err(Error::invalid(format!(
                "the merge operator {name:?} is registered twice"
            )));
        }
        Ok(())
    }

    fn find(&self, operand: &Operand<'_>) -> Option<&dyn MergeOperator> {
        let name = std::str::from_utf8(operand.name).ok()?;
        let operator = self.by_name.get(name)?;
        (u64::from(operator.version()) == operand.version).then_some(operator.as_ref())
    }

    /// The payload of an operation that merges one operand.
    pub(crate) fn chain_of(&self, name: &str, operand: &[u8]) -> Result<Vec<u8>> {
        let operator = self.by_name.get(name).ok_or_else(|| {
            Error::new(
                ErrorKind::OperatorMissing,
                format!("the merge operator {name:?} is not registered with this store"),
            )
        })?;
        let mut chain = vec![0];
        let version = u64::from(operator.version());
        Operand {
            name: name.as_bytes(),
            version,
            bytes: operand,
        }
        .append_to(&mut chain);
        Ok(chain)
    }
}

#[derive(Clone, Copy)]
struct Operand<'a> {
    name: &'a [u8],
    version: u64,
    bytes: &'a [u8],
}

impl<'a> Operand<'a> {
    fn append_to(&self, out: &mut Vec<u8>) {
        out.push(self.name.len() as u8);
        out.extend_from_slice(self.name);
        put_varint(out, self.version);
        put_varint(out, self.bytes.len() as u64);
        out.extend_from_slice(self.bytes);
    }

    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&name_length, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(name_length as usize)?;
        let (version, taken) = read_varint(rest)?;
        let rest = &rest[taken..];
        let (length, taken) = read_varint(rest)?;
        let (bytes, rest) = rest[taken..].split_at_checked(usize::try_from(length).ok()?)?;
        Some((
            Self {
                name,
                version,
                bytes,
            },
            rest,
        ))
    }
}

/// What operands are merged into.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base<'a> {
    /// Whatever stands below, which is not known here.
    Below,
    /// Nothing.
    Absent,
    /// A stored value, or an older chain.
    Stored(Tag, &'a [u8]),
}

/// Says that the oldest operands of a chain stand in an off-tree value.
const LONG: u8 = 3;

/// A chain taken apart.
struct Parts<'c> {
    /// The payload of the off-tree value that has the oldest operands.
    older: Option<&'c [u8]>,
    base: Base<'c>,
    /// The bytes of the operands that are here.
    operands: &'c [u8],
}

/// Takes a chain apart.
fn split(chain: &[u8]) -> Option<Parts<'_>> {
    let (older, chain) = match chain.split_first()? {
        (&LONG, rest) => {
            let (length, taken) = read_varint(rest)?;
            let (older, rest) = rest[taken..].split_at_checked(usize::try_from(length).ok()?)?;
            (Some(older), rest)
        }
        _ => (None, chain),
    };
    let (base, operands) = split_base(chain)?;
    Some(Parts {
        older,
        base,
        operands,
    })
}

/// Splits a chain, none of whose operands are elsewhere, into its base and the bytes of its operands.
fn split_base(chain: &[u8]) -> Option<(Base<'_>, &[u8])> {
    let (&base, rest) = chain.split_first()?;
    Some(match base {
        0 => (Base::Below, rest),
        1 => (Base::Absent, rest),
        2 => {
            let (&tag, rest) = rest.split_first()?;
            let tag = Tag::from_byte(tag)
                .filter(|tag| matches!(tag, Tag::Inline | Tag::OffTree | Tag::Reference))?;
            let (length, taken) = read_varint(rest)?;
            let length = usize::try_from(length).ok()?;
            let (payload, rest) = rest[taken..].split_at_checked(length)?;
            (Base::Stored(tag, payload), rest)
        }
        _ => return None,
    })
}

/// The stored value under a chain, if it holds one.
pub(crate) fn stored_base(chain: &[u8]) -> Option<(Tag, &[u8])> {
    match split(chain)?.base {
        Base::Stored(tag, payload) => Some((tag, payload)),
        _ => None,
    }
}

/// The payload of the off-tree value that has the oldest operands of a chain.
pub(crate) fn older_operands(chain: &[u8]) -> Option<&[u8]> {
    split(chain)?.older
}

/// A chain with its oldest operands, which stood elsewhere, in their place.
pub(crate) fn with_older_operands(chain: &[u8], older: &[u8]) -> Vec<u8> {
    let Some(parts) = split(chain) else {
        return chain.to_vec();
    };
    let mut out = Vec::with_capacity(chain.len() + older.len());
    append_base(&mut out, parts.base);
    out.extend_from_slice(older);
    out.extend_from_slice(parts.operands);
    out
}

/// The bytes of the operands that are in a chain itself.
pub(crate) fn own_operands(chain: &[u8]) -> &[u8] {
    split(chain).map_or(&[], |parts| parts.operands)
}

/// A chain without operands of its own: all of them are in an off-tree value.
pub(crate) fn with_operands_elsewhere(chain: &[u8], older: &[u8]) -> Vec<u8> {
    let Some(parts) = split(chain) else {
        return chain.to_vec();
    };
    let mut out = Vec::new();
    append_older(&mut out, Some(older));
    append_base(&mut out, parts.base);
    out
}

/// The payloads of the off-tree values that a chain names.
pub(crate) fn off_tree_in(chain: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = split(chain);
    let older = parts.as_ref().and_then(|parts| parts.older);
    let base = parts.and_then(|parts| match parts.base {
        Base::Stored(Tag::OffTree, payload) => Some(payload),
        _ => None,
    });
    older.into_iter().chain(base)
}

/// A chain with another stored value under it.
pub(crate) fn with_stored_base(chain: &[u8], tag: Tag, payload: &[u8]) -> Vec<u8> {
    let Some(parts) = split(chain) else {
        return chain.to_vec();
    };
    let mut out = Vec::with_capacity(chain.len());
    append_older(&mut out, parts.older);
    append_base(&mut out, Base::Stored(tag, payload));
    out.extend_from_slice(parts.operands);
    out
}

/// Whether a chain needs to know what stands below it. One with operands elsewhere knows that.
pub(crate) fn needs_below(chain: &[u8]) -> bool {
    chain.first() == Some(&0)
}

/// Whether a chain is well-formed.
pub(crate) fn is_well_formed(chain: &[u8]) -> bool {
    let Some(Parts {
        operands: mut rest,
        base,
        older,
    }) = split(chain)
    else {
        return false;
    };
    if older.is_some() && matches!(base, Base::Below) {
        return false;
    }
    while !rest.is_empty() {
        let Some((_, after)) = Operand::read(rest) else {
            return false;
        };
        rest = after;
    }
    true
}

fn operands<'a>(mut rest: &'a [u8], out: &mut Vec<Operand<'a>>) {
    while let Some((operand, after)) = Operand::read(rest) {
        out.push(operand);
        rest = after;
    }
}

/// Merges two things by an operator, unless the operator panics.
fn guarded(
    operator: &dyn MergeOperator,
    key: &[u8],
    existing: Option<&[u8]>,
    operand: &[u8],
) -> Option<Vec<u8>> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut out = Vec::new();
        operator.merge(key, existing, operand, &mut out);
        out
    }))
    .ok()
}

/// Puts a newer chain over a base, folding as far as the operators are known. What comes out is a
/// value ([`Tag::Inline`]) or a chain ([`Tag::Merge`]).
pub(crate) fn fold(
    operators: &Operators,
    key: &[u8],
    base: Base<'_>,
    chain: &[u8],
) -> (Tag, Vec<u8>) {
    let Some(own) = split(chain) else {
        return (Tag::Merge, chain.to_vec());
    };
    let mut pending = Vec::new();
    let mut elsewhere = own.older;
    let base = match (own.base, base) {
        (Base::Below, Base::Stored(Tag::Merge, older)) => {
            let Some(older) = split(older) else {
                return (Tag::Merge, chain.to_vec());
            };
            operands(older.operands, &mut pending);
            elsewhere = older.older;
            older.base
        }
        (Base::Below, base) => base,
        (own, _) => own,
    };
    operands(own.operands, &mut pending);

    let mut pending = pending.into_iter().peekable();
    let mut value: Option<Vec<u8>> = match base {
        Base::Stored(Tag::Inline, value) => Some(value.to_vec()),
        _ => None,
    };
    let foldable =
        elsewhere.is_none() && matches!(base, Base::Absent | Base::Stored(Tag::Inline, _));
    while foldable && let Some(operand) = pending.peek() {
        let merged = operators
            .find(operand)
            .and_then(|operator| guarded(operator, key, value.as_deref(), operand.bytes));
        let Some(merged) = merged else { break };
        value = Some(merged);
        pending.next();
    }
    if let (Some(value), None, None) = (&mut value, pending.peek(), elsewhere) {
        return (Tag::Inline, std::mem::take(value));
    }
    let mut out = Vec::new();
    append_older(&mut out, elsewhere);
    match &value {
        Some(value) => append_base(&mut out, Base::Stored(Tag::Inline, value)),
        None => append_base(&mut out, base),
    }
    // Neighbours of the same operator become one operand.
    while let Some(operand) = pending.next() {
        let mut joined: Option<Vec<u8>> = None;
        while let Some(next) = pending.peek() {
            let same = next.name == operand.name && next.version == operand.version;
            let Some(operator) = operators.find(&operand).filter(|_| same) else {
                break;
            };
            let existing = joined.as_deref().unwrap_or(operand.bytes);
            let Some(merged) = guarded(operator, key, Some(existing), next.bytes) else {
                break;
            };
            joined = Some(merged);
            pending.next();
        }
        let bytes = joined.as_deref().unwrap_or(operand.bytes);
        Operand { bytes, ..operand }.append_to(&mut out);
    }
    (Tag::Merge, out)
}

fn append_base(out: &mut Vec<u8>, base: Base<'_>) {
    match base {
        Base::Below => out.push(0),
        Base::Absent => out.push(1),
        Base::Stored(tag, payload) => {
            out.push(2);
            out.push(tag as u8);
            put_varint(out, payload.len() as u64);
            out.extend_from_slice(payload);
        }
    }
}

fn append_older(out: &mut Vec<u8>, older: Option<&[u8]>) {
    if let Some(payload) = older {
        out.push(LONG);
        put_varint(out, payload.len() as u64);
        out.extend_from_slice(payload);
    }
}

/// The value of a chain whose base is known, for a reader: folding must succeed. A base that is
/// stored elsewhere is given by the caller as an inline value, and operands that are, in the chain.
/// Panics of operators are the caller's.
pub(crate) fn resolve(
    operators: &Operators,
    key: &[u8],
    base: Option<&[u8]>,
    chain: &[u8],
) -> Result<Vec<u8>> {
    let malformed = || Error::corrupt("a chain of merge operands is malformed");
    let (own_base, rest) = split_base(chain).ok_or_else(malformed)?;
    let mut value = match own_base {
        Base::Stored(Tag::Inline, value) => Some(value.to_vec()),
        Base::Absent => None,
        _ => base.map(<[u8]>::to_vec),
    };
    let mut pending = Vec::new();
    operands(rest, &mut pending);
    for operand in pending {
        let operator = operators.find(&operand).ok_or_else(|| {
            Error::new(
                ErrorKind::OperatorMissing,
                format!(
                    "the value needs the merge operator {:?} version {}, which is not registered",
                    String::from_utf8_lossy(operand.name),
                    operand.version
                ),
            )
        })?;
        let mut out = Vec::new();
        operator.merge(key, value.as_deref(), operand.bytes, &mut out);
        value = Some(out);
    }
    value.ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Append;
    use super::*;

    fn known() -> Operators {
        let mut operators = Operators::default();
        operators.register(Arc::new(Append)).unwrap();
        operators
    }

    #[test]
    fn folding_in_any_grouping_gives_the_same_value() {
        let operators = known();
        let unknown = Operators::default();
        let one = |operand: &[u8]| operators.chain_of("append", operand).unwrap();
        for mask in 0..8 {
            let with = |bit: u32| {
                if mask >> bit & 1 == 1 {
                    &operators
                } else {
                    &unknown
                }
            };
            let (tag, upper) = fold(
                with(0),
                b"k",
                Base::Stored(Tag::Merge, &one(b"2")),
                &one(b"3"),
            );
            assert_eq!(tag, Tag::Merge);
            let base = Base::Stored(Tag::Inline, b"0");
            let (tag, lower) = fold(with(1), b"k", base, &one(b"1"));
            let (tag, value) = fold(with(2), b"k", Base::Stored(tag, &lower), &upper);
            let value = match tag {
                Tag::Inline => value,
                _ => resolve(&operators, b"k", None, &value).unwrap(),
            };
            assert_eq!(value, b"0123", "mask {mask}");
        }
    }

    #[test]
    fn operands_that_are_elsewhere_stay_the_oldest_whatever_is_folded_over_them() {
        let operators = known();
        let one = |operand: &[u8]| operators.chain_of("append", operand).unwrap();
        let target = Base::Stored(Tag::Reference, b"target");
        let (tag, chain) = fold(&operators, b"k", target, &one(b"1"));
        assert_eq!(tag, Tag::Merge);
        let older = own_operands(&chain).to_vec();
        let chain = with_operands_elsewhere(&chain, b"payload");
        let (tag, chain) = fold(&operators, b"k", Base::Stored(tag, &chain), &one(b"2"));
        assert_eq!(
            (tag, older_operands(&chain)),
            (Tag::Merge, Some(&b"payload"[..]))
        );
        assert_eq!(stored_base(&chain), Some((Tag::Reference, &b"target"[..])));
        assert!(is_well_formed(&chain) && !needs_below(&chain));
        assert_eq!(off_tree_in(&chain).collect::<Vec<_>>(), [b"payload"]);
        let whole = with_older_operands(&chain, &older);
        let value = resolve(&operators, b"k", Some(b"0"), &whole).unwrap();
        assert_eq!(value, b"012");
        // Without them nobody guesses.
        assert!(resolve(&operators, b"k", Some(b"0"), &chain).is_err());
        let based = with_stored_base(&chain, Tag::Inline, b"5");
        let (tag, based) = fold(
            &operators,
            b"k",
            Base::Stored(Tag::Merge, &based),
            &one(b"3"),
        );
        assert_eq!(tag, Tag::Merge, "what is elsewhere comes first");
        let whole = with_older_operands(&based, &older);
        let (tag, value) = fold(&operators, b"k", Base::Absent, &whole);
        assert_eq!((tag, &value[..]), (Tag::Inline, &b"5123"[..]));
    }

    #[test]
    fn a_panicking_operator_leaves_the_operands_as_they_are() {
        let operators = known();
        let chain = operators.chain_of("append", b"panic").unwrap();
        let (tag, payload) = fold(&operators, b"k", Base::Absent, &chain);
        assert_eq!(tag, Tag::Merge);
        assert!(is_well_formed(&payload) && !needs_below(&payload));
    }

    #[test]
    fn an_unknown_operator_is_named_when_the_value_is_read() {
        let chain = known().chain_of("append", b"x").unwrap();
        let error = resolve(&Operators::default(), b"k", None, &chain).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OperatorMissing);
        assert!(error.to_string().contains("append"));
    }
}
