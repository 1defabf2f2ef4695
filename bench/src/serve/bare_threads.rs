//! The floor's work with a thread for each connection, which blocks in read and write.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use anyhow::Result;

use super::bare::Bare;

/// Accepts connections and answers every request on them.
pub(super) fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::Builder::new().spawn(move || connection(stream))?;
    }
    Ok(())
}

fn connection(mut stream: UnixStream) {
    let (mut bare, mut out) = (Bare::new(), Vec::new());
    let (mut buffer, mut filled) = (vec![0; 1 << 14], 0);
    loop {
        let Ok(n @ 1..) = stream.read(&mut buffer[filled..]) else { return };
        filled += n;
        out.clear();
        let (rest, kept) = bare.answer(&buffer[..filled], &mut out);
        let done = filled - rest.len();
        buffer.copy_within(done..filled, 0);
        filled -= done;
        if !out.is_empty() && (stream.write_all(&out).is_err() || !kept) {
            return;
        }
    }
}
