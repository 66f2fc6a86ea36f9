//! A merge operator for tests.

use super::merge::MergeOperator;

/// Puts operands one behind the other, and panics at the operand `panic`.
pub(crate) struct Append;

impl MergeOperator for Append {
    fn name(&self) -> &str {
        "append"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        assert_ne!(operand, b"panic");
        out.extend_from_slice(existing.unwrap_or(&[]));
        out.extend_from_slice(operand);
    }
}
