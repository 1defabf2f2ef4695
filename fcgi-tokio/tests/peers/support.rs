//! What the cases share.

use std::{fmt, future::Future, sync::LazyLock, time::Duration};

use bytes::Bytes;
use fcgi_testkit::{harness::Failed, http::pattern};
use fcgi_tokio as fcgi;

pub(crate) type Outcome = Result<(), Failed>;

/// No case depends on it: it turns a hang into a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// The most that a collected response may have.
pub(crate) const MOST: usize = 64 << 20;
/// Of [`pattern`].
const PERIOD: usize = 251;

/// Some bytes of the pattern: a whole number of periods.
pub(crate) static BLOCK: LazyLock<Bytes> = LazyLock::new(|| pattern_bytes(256 * PERIOD));

/// The two kinds of socket.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Unix,
    Tcp,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Unix, Self::Tcp];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        })
    }
}

/// Runs a case on a runtime of its own.
pub(crate) fn block_on(case: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(LIMIT, case).await? })
}

/// One request on a connection of its own.
pub(crate) async fn call(
    address: &fcgi::Address,
    request: fcgi::client::Request,
) -> Result<fcgi::client::Collected, fcgi::Error> {
    let mut client = fcgi::Client::connect(address).await?;
    client.send(request).await?.collect(MOST).await
}

/// What follows the head of a CGI response.
pub(crate) fn body(stdout: &[u8]) -> &[u8] {
    after(stdout, b"\r\n\r\n")
}

/// What follows the first `mark`; nothing when there is none.
pub(crate) fn after<'a>(bytes: &'a [u8], mark: &[u8]) -> &'a [u8] {
    let at = bytes.windows(mark.len()).position(|window| window == mark);
    at.map_or(&[], |at| &bytes[at + mark.len()..])
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first `n` bytes of the pattern.
pub(crate) fn pattern_bytes(n: usize) -> Bytes {
    (0..n as u64).map(pattern).collect()
}

/// Whether `bytes` are those of the pattern from `at` on.
pub(crate) fn is_pattern(at: u64, bytes: &[u8]) -> bool {
    let start = (at % PERIOD as u64) as usize;
    let expected = &BLOCK[start..BLOCK.len() - PERIOD + start];
    bytes.chunks(expected.len()).all(|chunk| chunk == &expected[..chunk.len()])
}
