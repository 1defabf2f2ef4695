//! The participants of a codec comparison, and how they are checked and timed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::sample::{Request, Sample};
use crate::wire::{self, Carried};

/// One implementation's codec. To add one, implement this in a new file and list it in
/// [`subjects`](super::subjects) as `Measured(TheCodec::default())`.
///
/// `self` lives for the whole run: buffers and connections may be kept in it.
pub(super) trait Codec {
    /// The row's name.
    const NAME: &'static str;
    /// Whether it can only write an application's answers: then [`encode`](Codec::encode)
    /// writes the body as a STDOUT stream, and is only asked for requests with a body.
    const SERVER_ONLY: bool = false;

    /// Decodes one whole request, and shows `seen` every parameter and every byte of the body in
    /// the form in which an application gets them.
    ///
    /// `wire` stands for the socket: an implementation copies from it what it would read into its
    /// own buffer.
    fn decode<S: Seen>(&mut self, wire: &[u8], seen: &mut S) -> Result<()>;

    /// Encodes one whole request with id 1, and hands `sent` the bytes in the pieces in which
    /// they would be given to a socket.
    fn encode<S: Sent>(&mut self, request: &Request, sent: &mut S) -> Result<()>;
}

/// Takes what a decoder found.
pub(super) trait Seen {
    /// One parameter.
    fn param(&mut self, name: &[u8], value: &[u8]);
    /// The next bytes of the body.
    fn body(&mut self, bytes: &[u8]);
}

/// Takes what an encoder produced.
pub(super) trait Sent {
    /// The next bytes for the socket; a vectored write hands over each of its slices.
    fn bytes(&mut self, bytes: &[u8]);
}

/// Keeps everything, for comparison.
#[derive(Default)]
struct Keep {
    carried: Carried,
    bytes: Vec<u8>,
}

impl Seen for Keep {
    fn param(&mut self, name: &[u8], value: &[u8]) {
        self.carried.params.push((name.to_vec(), value.to_vec()));
    }

    fn body(&mut self, bytes: &[u8]) {
        self.carried.body.extend_from_slice(bytes);
    }
}

impl Sent for Keep {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Counts lengths, and makes the compiler believe that the bytes are used.
#[derive(Default)]
struct Count(usize);

impl Seen for Count {
    #[inline]
    fn param(&mut self, name: &[u8], value: &[u8]) {
        self.0 += black_box(name).len() + black_box(value).len();
    }

    #[inline]
    fn body(&mut self, bytes: &[u8]) {
        self.0 += black_box(bytes).len();
    }
}

impl Sent for Count {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += black_box(bytes).len();
    }
}

/// A row of the table, of any kind.
pub(super) trait Subject {
    /// The row's name.
    fn name(&self) -> &'static str;
    /// Fails unless it decodes the sample to the right parameters and body.
    fn check_decode(&mut self, sample: &Sample) -> Result<()>;
    /// Fails unless it encodes the sample correctly; false if it has no such encoder.
    fn check_encode(&mut self, sample: &Sample) -> Result<bool>;
    /// Times some repetitions of decoding.
    fn time_decode(&mut self, sample: &Sample, times: u64) -> Result<Duration>;
    /// Times some repetitions of encoding.
    fn time_encode(&mut self, sample: &Sample, times: u64) -> Result<Duration>;
}

/// A codec as a row of the table.
pub(super) struct Measured<C>(pub(super) C);

impl<C: Codec> Subject for Measured<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn check_decode(&mut self, sample: &Sample) -> Result<()> {
        // Runs twice: what one request leaves behind must not reach the next.
        for _ in 0..2 {
            let mut keep = Keep::default();
            self.0.decode(&sample.wire, &mut keep)?;
            compare(keep.carried, &sample.request)?;
        }
        Ok(())
    }

    fn check_encode(&mut self, sample: &Sample) -> Result<bool> {
        if C::SERVER_ONLY && sample.request.body.is_empty() {
            return Ok(false);
        }
        for _ in 0..2 {
            let mut keep = Keep::default();
            self.0.encode(&sample.request, &mut keep)?;
            if C::SERVER_ONLY {
                let carried = wire::read_back(&keep.bytes, wire::STDOUT)?;
                ensure!(carried.body == sample.request.body, "the body differs");
            } else {
                compare(wire::read_back(&keep.bytes, wire::STDIN)?, &sample.request)?;
            }
        }
        Ok(true)
    }

    fn time_decode(&mut self, sample: &Sample, times: u64) -> Result<Duration> {
        let mut count = Count::default();
        let start = Instant::now();
        for _ in 0..times {
            self.0.decode(black_box(&sample.wire), &mut count)?;
        }
        let spent = start.elapsed();
        let request = &sample.request;
        let params: usize =
            request.params.iter().map(|(name, value)| name.len() + value.len()).sum();
        let expected = (params + request.body.len()) * times as usize;
        ensure!(black_box(count.0) == expected, "saw {} bytes, not {expected}", count.0);
        Ok(spent)
    }

    fn time_encode(&mut self, sample: &Sample, times: u64) -> Result<Duration> {
        let mut count = Count::default();
        let start = Instant::now();
        for _ in 0..times {
            self.0.encode(black_box(&sample.request), &mut count)?;
        }
        let spent = start.elapsed();
        ensure!(black_box(count.0) > 0, "nothing was encoded");
        Ok(spent)
    }
}

/// Compares the output with the request. Neither the order of parameters nor the case of their
/// names counts, since not every implementation keeps them.
fn compare(carried: Carried, request: &Request) -> Result<()> {
    let sorted = |pairs: Vec<(Vec<u8>, Vec<u8>)>| {
        let mut pairs: Vec<_> =
            pairs.into_iter().map(|(name, value)| (name.to_ascii_uppercase(), value)).collect();
        pairs.sort();
        pairs
    };
    let asked = request.params.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
    ensure!(sorted(carried.params) == sorted(asked.collect()), "the parameters differ");
    ensure!(carried.body == request.body, "the body differs");
    Ok(())
}
