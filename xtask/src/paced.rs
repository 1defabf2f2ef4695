//! Relays a connection to or from a program, and hands that program its next bytes only when all of
//! its threads sleep. Otherwise a quick peer's bytes would sometimes be there before the program
//! waits for them, and sometimes after: two ways that take different numbers of instructions.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result};

/// The time between two looks at a program that is busy.
const PAUSE: Duration = Duration::from_micros(50);
/// More than a small message.
const MOST: usize = 1 << 16;

/// One end of the relay.
pub(crate) struct End {
    pub(crate) stream: UnixStream,
    /// The process behind it, if it is the one that has to sleep first.
    pub(crate) paced: Option<u32>,
}

/// Relays messages in turns, the client's first, until the client closes. Each message has to come
/// in one piece.
pub(crate) fn relay(mut client: End, mut server: End) -> Result<()> {
    let mut bytes = vec![0; MOST];
    while pass(&mut client, &mut server, &mut bytes)? {
        pass(&mut server, &mut client, &mut bytes)?;
    }
    Ok(())
}

/// Passes a message on. Returns false if there is none any more.
fn pass(from: &mut End, to: &mut End, bytes: &mut [u8]) -> Result<bool> {
    let n = match from.stream.read(bytes) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        read => read.context("reading what is to be relayed")?,
    };
    if let Some(process) = to.paced {
        while !sleeps(process)? {
            sleep(PAUSE);
        }
    }
    to.stream.write_all(&bytes[..n]).context("relaying")?;
    Ok(n > 0)
}

/// Whether all threads of a process wait for something.
fn sleeps(process: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{process}/task")).context("listing threads")? {
        // A thread that has ended meanwhile has no file.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        // The state stands behind the name, which is in parentheses and may contain some.
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('S')) {
            return Ok(false);
        }
    }
    Ok(true)
}
