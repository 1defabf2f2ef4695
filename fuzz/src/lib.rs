//! The shared parts of the fuzz targets. Each target is the `run` of a module; README.md says what
//! each asserts.

pub mod calls;
pub mod checked;
pub mod client;
pub mod heap;
pub mod input;
pub mod model;
pub mod pair;
pub mod params;
pub mod server;
pub mod twice;
pub mod wire;
