//! `client_bytes`: a `ClientConnection` whose peer sends anything.

mod calls;
mod same;

use arbitrary::Result;
use fcgi_proto::{ClientConfig, Limits, Output, Role};

use crate::{
    heap,
    input::{self, CALLS, Cuts},
    wire::Side,
};

const OUTPUTS: [Output; 2] = [Output::Stdout, Output::Stderr];
const ROLES: [Role; 4] = [Role::Responder, Role::Responder, Role::Authorizer, Role::Filter];

/// Runs one input: its conversation cut two ways, or with random calls in between.
pub fn run(data: &[u8]) {
    heap::reset();
    if let Some(input) = input::Input::new(data, Side::Server) {
        // No choices are left: nothing more to try.
        let _ = all(input);
    }
}

fn all(input: input::Input<'_>) -> Result<()> {
    let input::Input { flags, mut steer, wire } = input;
    let mut limits = Limits::client();
    limits.requests = 4;
    let config = ClientConfig { limits: input::limits_for(&mut steer, limits, wire.len())? };
    let plan = same::Plan::new(&mut steer, wire.len())?;
    let mut cuts = Cuts::new(&mut steer)?.suit(wire.len());
    if flags & CALLS == 0 {
        same::run(config, &plan, &wire, flags, &mut cuts);
        Ok(())
    } else {
        calls::run(config, &wire, &mut cuts, &mut steer)
    }
}
