//! The demo's application: it sends back what it got.

use std::time::Duration;

use bytes::Bytes;
use fcgi_tokio as fcgi;

const HEAD: &str = "Content-Type: text/plain\r\n\r\n";

/// Answers a Responder request like fcgi-tokio's `examples/tokio-echo.rs`: each parameter as
/// `NAME=VALUE`, an empty line, then STDIN as it comes. These parameters control it: ECHO_SLEEP_MS,
/// ECHO_REPEAT_BYTES, ECHO_STDERR, ECHO_EXIT, ECHO_PANIC and ECHO_FAIL_AFTER_BYTES.
pub(crate) async fn echo(request: fcgi::Request) -> anyhow::Result<u32> {
    // An empty value counts as absent.
    let given = |name| request.param(name).filter(|value| !value.is_empty());
    let number = |name| request.param_str(name).and_then(|value| value.parse::<u64>().ok());
    if let Some(ms) = number("ECHO_SLEEP_MS") {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    assert!(given("ECHO_PANIC").is_none(), "ECHO_PANIC");
    if let Some(text) = given("ECHO_STDERR") {
        request.stderr().write_all(text.to_vec()).await?;
    }
    if let Some(n) = number("ECHO_FAIL_AFTER_BYTES") {
        repeat(&request, n).await?;
        anyhow::bail!("ECHO_FAIL_AFTER_BYTES");
    }
    match number("ECHO_REPEAT_BYTES") {
        Some(n) => repeat(&request, n).await?,
        None => send_back(&request).await?,
    }
    Ok(number("ECHO_EXIT").and_then(|status| status.try_into().ok()).unwrap_or(0))
}

async fn send_back(request: &fcgi::Request) -> Result<(), fcgi::Error> {
    let mut out = request.stdout();
    let mut params = HEAD.as_bytes().to_vec();
    for (name, value) in request.params() {
        params.extend([name, b"=", value, b"\n"].concat());
    }
    params.push(b'\n');
    out.write_all(params).await?;
    let mut stdin = request.stdin();
    while let Some(chunk) = stdin.chunk().await? {
        out.write_all(chunk).await?;
    }
    Ok(())
}

async fn repeat(request: &fcgi::Request, mut n: u64) -> Result<(), fcgi::Error> {
    let block = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut out = request.stdout();
    out.write_all(HEAD).await?;
    while n > 0 {
        let take = n.min(block.len() as u64);
        out.write_all(block.slice(..take as usize)).await?;
        n -= take;
    }
    Ok(())
}
