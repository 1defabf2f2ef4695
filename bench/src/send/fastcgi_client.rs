//! The `fastcgi-client` crate, used as in its documentation, over a buffered stream. It writes each
//! part of a record by itself, and ends an empty STDIN twice: without a buffer, a server that closes
//! after its answer breaks the last of these writes.

use std::path::Path;

use ::fastcgi_client::{Client, Params, Request, Response, io};
use anyhow::{Result, ensure};
use tokio::io::BufStream;
use tokio::net::UnixStream;

use crate::serve::STDOUT;

pub(super) async fn send(socket: &Path, requests: u64, keep: bool) -> Result<()> {
    let params = super::params();
    let request = || {
        let pairs = params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let params =
            pairs.fold(Params::default(), |params, (name, value)| params.custom(name, value));
        Request::new(params, io::empty())
    };
    if keep {
        let mut client = Client::new_keep_alive_tokio(connect(socket).await?);
        for _ in 0..requests {
            check(&client.execute(request()).await?)?;
        }
    } else {
        for _ in 0..requests {
            let client = Client::new_tokio(connect(socket).await?);
            check(&client.execute_once(request()).await?)?;
        }
    }
    Ok(())
}

async fn connect(socket: &Path) -> Result<BufStream<UnixStream>> {
    Ok(BufStream::new(super::connect(socket).await?))
}

fn check(answer: &Response) -> Result<()> {
    ensure!(answer.stdout.as_deref() == Some(STDOUT), "a wrong answer");
    Ok(())
}
