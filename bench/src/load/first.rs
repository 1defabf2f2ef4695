//! The first answer of a server. It is checked, and all others must equal it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Answers, PATIENCE};
use crate::wire::{self, Record};

/// Sends a request over FastCGI, and checks that STDOUT is the greeting.
pub(crate) fn first_fastcgi(socket: &Path, request: &[u8]) -> Result<Answers> {
    let mut stdout = Vec::new();
    ask(socket, request, |bytes| {
        let mut rest = bytes;
        stdout.clear();
        while let Some(record) = Record::split(rest) {
            rest = record.rest;
            match record.kind {
                wire::STDOUT => stdout.extend_from_slice(record.content),
                wire::END_REQUEST => return true,
                _ => {}
            }
        }
        false
    })?;
    check_greeting(&stdout)?;
    Ok(Answers::Fastcgi(stdout))
}

/// Sends a request over HTTP/1.1, and checks that the answer is the greeting.
pub(crate) fn first_http(socket: &Path, request: &[u8]) -> Result<Answers> {
    let bytes = ask(socket, request, |bytes| bytes.ends_with(GREETING))?;
    ensure!(bytes.starts_with(b"HTTP/1.1 200 "), "the status is not 200");
    check_greeting(&bytes)?;
    Ok(Answers::Http { length: bytes.len(), body: GREETING.to_vec() })
}

const GREETING: &[u8] = b"Hello, world\n";

/// Sends a request and reads until `ended` says that the answer is complete.
fn ask(socket: &Path, request: &[u8], mut ended: impl FnMut(&[u8]) -> bool) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !ended(&bytes) {
        match stream.read(&mut buffer).context("no answer to the first request")? {
            0 => bail!("the server closed the connection before it answered"),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(bytes)
}

/// Every server sends the same text; some add a Status line, and line ends differ.
fn check_greeting(answer: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(answer).replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").context("the answer has no head")?;
    let typed =
        head.lines().any(|line| line.to_ascii_lowercase().starts_with("content-type: text/plain"));
    ensure!(typed && body == "Hello, world\n", "the answer is {text:?}");
    Ok(())
}
