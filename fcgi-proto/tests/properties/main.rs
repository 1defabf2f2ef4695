//! Properties of the codec and of both connections, for any bytes, any cut of them and any order
//! of calls.

mod any_calls;
mod any_cut;
mod conversations;
mod found;
mod log;
mod round_trips;
#[path = "../support/mod.rs"]
mod support;
