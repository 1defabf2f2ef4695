//! The server loop that the documentation of `tokio-fastcgi` shows, on a unix socket.

use std::path::Path;

use ::tokio_fastcgi::{RequestResult, Requests};
use anyhow::Result;
use tokio::net::UnixListener;

/// Accepts connections and answers every request on them.
pub(super) async fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut requests = Requests::from_split_socket(stream.split(), 10, 10);
            while let Ok(Some(request)) = requests.next().await {
                let processed = request.process(|request| async move {
                    match request.get_stdout().write(super::STDOUT).await {
                        Ok(_) => RequestResult::Complete(0),
                        Err(_) => RequestResult::Complete(1),
                    }
                });
                if processed.await.is_err() {
                    break;
                }
            }
        });
    }
}
