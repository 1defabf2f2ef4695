//! `server_bytes`: a `ServerConnection` whose peer sends anything.

mod calls;
mod same;

use arbitrary::Result;
use fcgi_proto::{Input, Limits, Role, Roles, ServerConfig, Values};

use crate::{
    heap,
    input::{self, CALLS, Cuts},
    wire::Side,
};

const INPUTS: [Input; 2] = [Input::Stdin, Input::Data];

/// Runs one input: its conversation cut two ways, or with random calls in between.
pub fn run(data: &[u8]) {
    heap::reset();
    if let Some(input) = input::Input::new(data, Side::Client) {
        // No choices are left: nothing more to try.
        let _ = all(input);
    }
}

fn all(input: input::Input<'_>) -> Result<()> {
    let input::Input { flags, mut steer, wire } = input;
    let limits = input::limits_for(&mut steer, Limits::server(), wire.len())?;
    let config = ServerConfig {
        limits,
        roles: *steer.choose(&[
            Roles::ALL,
            Roles::ALL,
            Roles::RESPONDER,
            Roles::of(Role::Authorizer).and(Role::Filter),
        ])?,
        values: Values { max_conns: steer.arbitrary()?, ..Values::default() },
        rejection_body: steer.arbitrary()?,
        failure_body: steer.arbitrary()?,
    };
    let plan = same::Plan::new(&mut steer, wire.len())?;
    let mut cuts = Cuts::new(&mut steer)?.suit(wire.len());
    if flags & CALLS == 0 {
        same::run(config, &plan, &wire, flags, &mut cuts);
        Ok(())
    } else {
        calls::run(config, &wire, &mut cuts, &mut steer)
    }
}
