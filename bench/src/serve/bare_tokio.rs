//! The floor's work on tokio. It shows what the runtime costs, without FastCGI.

use std::path::Path;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::bare::Bare;

/// Accepts connections and answers every request on them, in a task for each connection.
pub(super) async fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream));
    }
}

async fn connection(mut stream: UnixStream) {
    let (mut bare, mut out) = (Bare::new(), Vec::new());
    let (mut buffer, mut filled) = (vec![0; 1 << 14], 0);
    loop {
        let Ok(n @ 1..) = stream.read(&mut buffer[filled..]).await else { return };
        filled += n;
        out.clear();
        let (rest, kept) = bare.answer(&buffer[..filled], &mut out);
        let done = filled - rest.len();
        buffer.copy_within(done..filled, 0);
        filled -= done;
        if !out.is_empty() && (stream.write_all(&out).await.is_err() || !kept) {
            return;
        }
    }
}
