//! Finds the ends of answers, and checks them.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::wire::{self, Record};

/// A place for one request on a connection.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(super) waiting: bool,
    /// How many bytes of the answer have arrived.
    pub(super) seen: usize,
    pub(super) since: Instant,
}

impl Slot {
    pub(super) fn idle() -> Slot {
        Slot { waiting: false, seen: 0, since: Instant::now() }
    }
}

/// What every answer must be.
#[derive(Clone)]
pub(crate) enum Answers {
    /// FastCGI with this STDOUT stream; the request ids are the places, from 1 on.
    Fastcgi(Vec<u8>),
    /// HTTP/1.1 with this total length, and this body at the end.
    Http { length: usize, body: Vec<u8> },
}

impl Answers {
    /// Walks over the received bytes and adds the places whose answers have ended to `ended`.
    /// Returns the bytes that are left.
    pub(super) fn walk<'b>(
        &self,
        bytes: &'b [u8],
        slots: &mut [Slot],
        ended: &mut Vec<usize>,
    ) -> Result<&'b [u8]> {
        match self {
            Answers::Fastcgi(stdout) => records(bytes, slots, stdout, ended),
            Answers::Http { length, body } => {
                ensure!(slots[0].waiting, "{} bytes came that nobody asked for", bytes.len());
                if bytes.len() < *length {
                    return Ok(bytes);
                }
                let right = bytes.starts_with(b"HTTP/1.1 200 ") && bytes.ends_with(body);
                ensure!(right && bytes.len() == *length, "an answer differs from the first");
                slots[0].waiting = false;
                ended.push(0);
                Ok(&[])
            }
        }
    }
}

/// Walks over whole records.
fn records<'b>(
    mut bytes: &'b [u8],
    slots: &mut [Slot],
    expected: &[u8],
    ended: &mut Vec<usize>,
) -> Result<&'b [u8]> {
    while let Some(record) = Record::split(bytes) {
        bytes = record.rest;
        let place = usize::from(record.id).wrapping_sub(1);
        let Some(slot) = slots.get_mut(place).filter(|slot| slot.waiting) else {
            bail!("a record for request {}, which is not active", record.id);
        };
        match record.kind {
            wire::STDOUT => {
                let left = &expected[slot.seen..];
                ensure!(left.starts_with(record.content), "STDOUT differs from the first answer");
                slot.seen += record.content.len();
            }
            wire::STDERR => ensure!(record.content.is_empty(), "something on STDERR"),
            wire::END_REQUEST => {
                ensure!(
                    record.content.starts_with(&[0; 5]),
                    "END_REQUEST says {:?}",
                    record.content
                );
                let (seen, all) = (slot.seen, expected.len());
                ensure!(seen == all, "STDOUT ended after {seen} of {all} bytes");
                slot.waiting = false;
                ended.push(place);
            }
            kind => bail!("a record of type {kind}"),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_record;

    fn waiting(n: usize) -> Vec<Slot> {
        vec![Slot { waiting: true, ..Slot::idle() }; n]
    }

    #[test]
    fn answers_of_several_requests_are_told_apart() {
        let mut bytes = Vec::new();
        put_record(&mut bytes, wire::STDOUT, 2, b"hello");
        put_record(&mut bytes, wire::STDOUT, 1, b"hel");
        put_record(&mut bytes, wire::END_REQUEST, 2, &[0; 8]);
        put_record(&mut bytes, wire::STDOUT, 1, b"lo");
        put_record(&mut bytes, wire::END_REQUEST, 1, &[0; 8]);
        let (mut slots, mut ended) = (waiting(2), Vec::new());
        let answers = Answers::Fastcgi(b"hello".to_vec());
        let cut = bytes.len() - 3;
        let left = answers.walk(&bytes[..cut], &mut slots, &mut ended).unwrap().len();
        assert_eq!((left, &ended[..]), (13, &[1][..]));
        let left = answers.walk(&bytes[cut - left..], &mut slots, &mut ended).unwrap();
        assert_eq!((left.len(), &ended[..]), (0, &[1, 0][..]));
    }

    #[test]
    fn a_wrong_answer_is_found() {
        let answers = Answers::Fastcgi(b"hello".to_vec());
        let mut bytes = Vec::new();
        put_record(&mut bytes, wire::STDOUT, 1, b"help");
        assert!(answers.walk(&bytes, &mut waiting(1), &mut Vec::new()).is_err());
        let answers = Answers::Http { length: 18, body: b"ab".to_vec() };
        let mut ended = Vec::new();
        let left = answers.walk(b"HTTP/1.1 200 OK\r\n", &mut waiting(1), &mut ended).unwrap();
        assert_eq!((left.len(), ended.len()), (17, 0));
        assert!(answers.walk(b"HTTP/1.1 500 OK\nab", &mut waiting(1), &mut ended).is_err());
    }
}
