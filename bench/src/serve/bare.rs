//! The minimum work of an answer, for servers that do nothing else: a walk over record headers to
//! the end of each request, and a canned answer. No parameter is read.

use crate::wire::{self, Record, put_record};

/// Answers requests as their bytes come.
#[derive(Clone)]
pub(super) struct Bare {
    /// STDOUT, its end, END_REQUEST.
    answer: Vec<u8>,
    /// The positions of the request ids.
    ids: Vec<usize>,
}

impl Bare {
    pub(super) fn new() -> Bare {
        let mut answer = Vec::new();
        let mut ids = Vec::new();
        let records: [(u8, &[u8]); 3] =
            [(wire::STDOUT, super::STDOUT), (wire::STDOUT, &[]), (wire::END_REQUEST, &[0; 8])];
        for (kind, content) in records {
            ids.push(answer.len() + 2);
            put_record(&mut answer, kind, 0, content);
        }
        Bare { answer, ids }
    }

    /// Appends the answers of all whole requests in `input` to `out`. Returns the bytes that are
    /// left, and whether the connection is kept. Records of no request are skipped (FC-3.3-6):
    /// `fastcgi-client` ends an empty STDIN twice.
    pub(super) fn answer<'a>(
        &mut self,
        mut input: &'a [u8],
        out: &mut Vec<u8>,
    ) -> (&'a [u8], bool) {
        let (mut at, mut kept, mut begun) = (input, true, false);
        while let Some(record) = Record::split(at) {
            at = record.rest;
            match record.kind {
                wire::BEGIN_REQUEST => {
                    begun = true;
                    kept &= record.content.get(2).is_some_and(|flags| flags & 1 == 1);
                }
                _ if !begun => input = at,
                wire::STDIN if record.content.is_empty() => {
                    for id in &self.ids {
                        self.answer[*id..*id + 2].copy_from_slice(&record.id.to_be_bytes());
                    }
                    out.extend_from_slice(&self.answer);
                    (input, begun) = (at, false);
                }
                _ => {}
            }
        }
        (input, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn each_request_is_answered_once() {
        let sample = Sample::small();
        let mut bytes = sample.wire(3, true);
        let first = bytes.len();
        bytes.extend(sample.wire(4, false));
        let (mut bare, mut out) = (Bare::new(), Vec::new());
        assert_eq!(bare.answer(&bytes[..first - 1], &mut out), (&bytes[..first - 1], true));
        assert!(out.is_empty());
        assert_eq!(bare.answer(&bytes, &mut out), (&[][..], false));
        let ends: Vec<u16> = std::iter::successors(Record::split(&out), |r| Record::split(r.rest))
            .filter(|record| record.kind == wire::END_REQUEST)
            .map(|record| record.id)
            .collect();
        assert_eq!(ends, [3, 4]);
        let mut end = Vec::new();
        put_record(&mut end, wire::STDIN, 4, &[]);
        out.clear();
        assert_eq!(bare.answer(&end, &mut out), (&[][..], true));
        assert!(out.is_empty(), "a second end of STDIN is answered");
    }
}
