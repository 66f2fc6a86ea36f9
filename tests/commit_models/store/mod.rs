//! The files of the library that decide who writes when, and who sees it, as they are, over another
//! `sync`.

#[path = "../../../src/store/current.rs"]
pub mod current;
#[path = "../../../src/store/gate.rs"]
pub mod gate;
#[path = "../../../src/store/queue.rs"]
pub mod queue;
#[path = "../../../src/store/signal.rs"]
pub mod signal;
pub mod sync;
