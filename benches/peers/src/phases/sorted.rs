//! A load in the order of the keys, into a store of its own.

use super::session::Session;
use super::{reading, writing};
use crate::engines::Result;

pub fn run(session: &mut Session) -> Result<()> {
    writing::load_sorted(session)?;
    reading::verify(session)?;
    session.close()
}
