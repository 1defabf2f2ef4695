//! Random calls between the bytes of a conversation, for both ends.

use arbitrary::{Result, Unstructured};
use fcgi_proto::{Connection, RequestKey};

use crate::{checked::Checked, input::Cuts};

/// The code that calls a connection.
pub trait Caller {
    /// The end that it calls.
    type Conn: Connection;

    /// All keys so far, including those of ended requests.
    fn keys(&self) -> &[RequestKey];

    /// Handles an event. Returns whether there was one.
    fn poll(&mut self, conn: &mut Checked<Self::Conn>) -> bool;

    /// Reads once from a request's first or second incoming stream; returns whether bytes arrived.
    fn read(
        &mut self,
        conn: &mut Checked<Self::Conn>,
        key: RequestKey,
        stream: usize,
        max: usize,
    ) -> bool;

    /// Writes once to its first or second outgoing stream.
    fn write(&mut self, conn: &mut Checked<Self::Conn>, key: RequestKey, stream: usize, len: usize);

    /// One of the calls that only this end has.
    fn call(
        &mut self,
        conn: &mut Checked<Self::Conn>,
        op: u8,
        key: Option<RequestKey>,
        u: &mut Unstructured<'_>,
    ) -> Result<()>;

    /// Reads, ends and sends all there is, until nothing happens.
    fn settle(&mut self, conn: &mut Checked<Self::Conn>);
}

/// Makes random calls, then gives the connection the rest of the conversation.
pub fn run<C: Caller>(
    caller: &mut C,
    conn: &mut Checked<C::Conn>,
    wire: &[u8],
    cuts: &mut Cuts,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    let mut at = 0;
    while !u.is_empty() {
        let op: u8 = u.arbitrary()?;
        let keys = caller.keys();
        let key =
            (!keys.is_empty()).then(|| keys[keys.len() - 1 - usize::from(op >> 4) % keys.len()]);
        match (op % 16, key) {
            (0..=2, _) => {
                let end = (at + cuts.size()).min(wire.len());
                at += conn.feed(&wire[at..end]);
            }
            (3 | 4, _) => {
                for _ in 0..=op >> 4 {
                    caller.poll(conn);
                }
            }
            (5, _) => drop(conn.transmit(usize::from(op >> 4) * 13)),
            (6, _) => drop(conn.transmit(usize::MAX)),
            (8 | 9, Some(key)) => {
                let max = *u.choose(&[0, 1, 10, 5000, usize::MAX])?;
                caller.read(conn, key, usize::from(op % 2), max);
            }
            (10 | 11, Some(key)) => {
                let len = *u.choose(&[0, 1, 100, 4096, 4097, 70_000])?;
                caller.write(conn, key, usize::from(op % 2), len);
            }
            (15, _) => conn.misuse(),
            _ => caller.call(conn, op, key, u)?,
        }
    }
    loop {
        caller.settle(conn);
        let n = conn.feed(&wire[at..(at + 3000).min(wire.len())]);
        at += n;
        if n == 0 {
            break;
        }
    }
    assert!(at == wire.len() || conn.is_over() || !conn.get().wants_read());
    Ok(())
}

/// Handles all events and sends all there is, until nothing happens.
pub fn quiet<C: Caller>(caller: &mut C, conn: &mut Checked<C::Conn>) {
    loop {
        let mut progress = false;
        while caller.poll(conn) {
            progress = true;
        }
        if conn.transmit(usize::MAX).is_empty() && !progress {
            return;
        }
    }
}
