//! The bare load generator. It sends a canned request, and walks over the records of the answer.

use std::path::Path;

use anyhow::Result;

use crate::load::{Load, Shape, Talk, Until, first_fastcgi};
use crate::sample::Sample;

pub(super) fn send(socket: &Path, requests: u64, connections: u64, keep: bool) -> Result<()> {
    let request = Sample::small().wire(1, keep);
    let answers = first_fastcgi(socket, &request)?;
    let talk = Talk { requests: vec![request], answers };
    let connections = connections as usize;
    let shape = if keep { Shape::Kept(connections) } else { Shape::Apart(connections) };
    Load::connect(socket, shape, &talk)?.drive(Until::Sent(requests)).map(drop)
}
