//! The files of the library that decide who writes when, as they are, over another `sync`.

#[path = "../../../src/store/gate.rs"]
pub mod gate;
#[path = "../../../src/store/queue.rs"]
pub mod queue;
#[path = "../../../src/store/signal.rs"]
pub mod signal;
pub mod sync;
