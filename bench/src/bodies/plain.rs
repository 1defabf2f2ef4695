//! The comparison: plain reads and writes of 64 KiB.

use std::io::{Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use anyhow::Result;

use super::{BYTES, Direction, PIECE};

/// Serves one transfer after the other. The first byte of each names the direction.
pub(super) fn serve(socket: &Path) -> Result<()> {
    for stream in UnixListener::bind(socket)?.incoming() {
        let mut stream = stream?;
        let mut direction = [0];
        // A client that only checks whether somebody listens sends nothing.
        if stream.read_exact(&mut direction).is_err() {
            continue;
        }
        if direction[0] == Direction::Down as u8 {
            write(&stream, BYTES)?;
        } else {
            let echo = direction[0] == Direction::Echo as u8;
            read(&stream, |piece| if echo { (&stream).write_all(piece) } else { Ok(()) })?;
        }
    }
    Ok(())
}

/// Does one transfer. Returns how many bytes came back.
pub(super) fn send(socket: &Path, direction: Direction, bytes: u64) -> Result<u64> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(&[direction as u8])?;
    let out = stream.try_clone()?;
    let writer = thread::spawn(move || {
        write(&out, direction.out(bytes))?;
        out.shutdown(Shutdown::Write)
    });
    let came = read(&stream, |_| Ok(()))?;
    match writer.join() {
        Ok(written) => written?,
        Err(panicked) => std::panic::resume_unwind(panicked),
    }
    Ok(came)
}

fn write(mut stream: &UnixStream, bytes: u64) -> std::io::Result<()> {
    let piece = vec![b'x'; PIECE];
    (0..bytes / PIECE as u64).try_for_each(|_| stream.write_all(&piece))
}

fn read(
    mut stream: &UnixStream,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<u64> {
    let (mut buffer, mut all) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(all),
            n => {
                each(&buffer[..n])?;
                all += n as u64;
            }
        }
    }
}
