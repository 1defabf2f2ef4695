//! The `fastcgi-client` crate, used as in its documentation.

use std::path::Path;

use ::fastcgi_client::{Client, Params, Request, Response, io};
use anyhow::{Result, ensure};

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
        let mut client = Client::new_keep_alive_tokio(super::connect(socket).await?);
        for _ in 0..requests {
            check(&client.execute(request()).await?)?;
        }
    } else {
        for _ in 0..requests {
            let client = Client::new_tokio(super::connect(socket).await?);
            check(&client.execute_once(request()).await?)?;
        }
    }
    Ok(())
}

fn check(answer: &Response) -> Result<()> {
    ensure!(answer.stdout.as_deref() == Some(STDOUT), "a wrong answer");
    Ok(())
}
