//! Turns a fuzzer's bytes into limits, cuts, calls and a conversation.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{FullRequest, Limits};

use crate::wire::{self, Side};

/// `[flags] [n] [n control bytes] [the conversation]`. So a capture of a real connection after a
/// short head is an input, and a dictionary of records works. Flags: [`DRAWN`], [`DISCONNECT`],
/// [`CALLS`], [`LONG`].
pub struct Input<'a> {
    /// See there.
    pub flags: u8,
    /// Draws limits, plans, cuts and calls.
    pub steer: Unstructured<'a>,
    /// The peer's bytes.
    pub wire: Vec<u8>,
}

/// [`wire::conversation`] draws the conversation from the rest, instead of using the rest itself.
pub const DRAWN: u8 = 1;
/// The conversation ends with a disconnect instead of an end of file.
pub const DISCONNECT: u8 = 2;
/// Random calls happen in between, instead of cutting the conversation in two ways.
pub const CALLS: u8 = 4;
/// A drawn conversation has records of all sizes. That is slow, and so separate.
pub const LONG: u8 = 8;

/// The longest conversations.
const MAX_WIRE: usize = 4096;
const MAX_LONG: usize = 140_000;
/// The approximate limit of reads in a conversation, and of bytes that fill little room. A fault
/// that shows in many steps also shows in fewer, which can be run more often.
pub const MOST_STEPS: usize = 250;

impl<'a> Input<'a> {
    /// `None` for less than a head.
    pub fn new(data: &'a [u8], side: Side) -> Option<Self> {
        let [flags, n, rest @ ..] = data else { return None };
        let (steer, rest) = rest.split_at_checked(usize::from(*n))?;
        let max = if flags & LONG == 0 { MAX_WIRE } else { MAX_LONG };
        let wire = if flags & DRAWN == 0 {
            rest.to_vec()
        } else {
            wire::conversation(&mut Unstructured::new(rest), side, max).ok()?
        };
        Some(Self { flags: *flags, steer: Unstructured::new(steer), wire })
    }
}

/// The defaults, or small limits, so that few bytes reach each of them.
pub fn limits(u: &mut Unstructured<'_>, limits: Limits) -> Result<Limits> {
    limits_for(u, limits, 0)
}

/// The same, for a conversation of `len` bytes: a long one is not read byte by byte.
pub fn limits_for(u: &mut Unstructured<'_>, mut limits: Limits, len: usize) -> Result<Limits> {
    let which: u16 = u.arbitrary()?;
    let mut pick = |bit: u8, field: &mut usize, from: &[usize]| -> Result<()> {
        if which & (1 << bit) != 0 {
            *field = *u.choose(from)?;
        }
        Ok(())
    };
    pick(0, &mut limits.recv_buffer, &[8, 9, 16, 64, 1000, 8192])?;
    pick(1, &mut limits.params_bytes, &[0, 16, 64, 1000])?;
    pick(2, &mut limits.params_bytes_connection, &[0, 16, 100, 5000])?;
    pick(3, &mut limits.params_pairs, &[0, 1, 4])?;
    pick(4, &mut limits.requests, &[0, 1, 2, 3, 8])?;
    pick(5, &mut limits.unread_request, &[1, 7, 100, 5000])?;
    pick(6, &mut limits.unread_connection, &[1, 10, 1000])?;
    pick(7, &mut limits.send_high_water, &[1, 20, 1000, 10_000])?;
    pick(8, &mut limits.reply_bytes, &[1, 40, 500])?;
    pick(9, &mut limits.tombstones, &[0, 1, 3])?;
    let least = len / MOST_STEPS + 1;
    limits.recv_buffer = limits.recv_buffer.max(least);
    limits.unread_request = limits.unread_request.max(least);
    limits.unread_connection = limits.unread_connection.max(least);
    limits.send_high_water = limits.send_high_water.max(least);
    if which & 1 << 10 != 0 {
        limits.idle_records = *u.choose(&[0, 3, 50])?;
    }
    if which & 1 << 11 != 0 {
        limits.tiny_records = *u.choose(&[0, 3, 50])?;
    }
    if which & 1 << 12 != 0 {
        limits.full_request = FullRequest::Abort;
    }
    Ok(limits)
}

/// Sizes of reads, used in turn.
#[derive(Clone, Debug)]
pub struct Cuts {
    sizes: Vec<usize>,
    next: usize,
    least: usize,
}

impl Cuts {
    /// Draws some.
    pub fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let n = u.int_in_range(1..=6usize)?;
        let sizes = (0..n)
            .map(|_| {
                Ok(match u.arbitrary::<u8>()? {
                    n @ 0..=99 => usize::from(n) % 20 + 1,
                    n @ 100..=199 => usize::from(n) * 8,
                    _ => 200_000,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { sizes, next: 0, least: 1 })
    }

    /// Enlarges the cuts of a long conversation, so that it takes no more than [`MOST_STEPS`].
    pub fn suit(mut self, len: usize) -> Self {
        self.least = len / MOST_STEPS + 1;
        self
    }

    /// The next size.
    pub fn size(&mut self) -> usize {
        self.next += 1;
        self.sizes[(self.next - 1) % self.sizes.len()].max(self.least)
    }
}

/// Bytes of a stream whose contents do not matter, at most [`BEGIN_MOST`](crate::checked::BEGIN_MOST).
pub fn filler(len: usize) -> Bytes {
    static FILLER: [u8; crate::checked::BEGIN_MOST] = [b'x'; crate::checked::BEGIN_MOST];
    Bytes::from_static(&FILLER[..len])
}
