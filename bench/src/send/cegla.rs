//! The client of the `cegla-fcgi` crate, which uses the types of `http`.

use std::io;
use std::path::Path;

use anyhow::{Result, ensure};
use bytes::Bytes;
use cegla_fcgi::client::{CgiBuilder, SendRequest, handshake};
use http_body_util::{BodyExt as _, Empty};

type Body = Empty<Bytes>;

pub(super) async fn send(socket: &Path, requests: u64, keep: bool) -> Result<()> {
    let params = super::params();
    let mut kept: Option<SendRequest<Body>> = None;
    for _ in 0..requests {
        let sender = match kept.take() {
            Some(sender) => sender,
            None => {
                let (sender, connection) = handshake(super::connect(socket).await?, keep).await?;
                tokio::task::spawn_local(connection);
                sender
            }
        };
        let var = |builder: CgiBuilder, (name, value): &(String, String)| {
            builder.var(name.clone(), value.clone())
        };
        let builder = params.iter().fold(CgiBuilder::new(), var);
        let request = http::Request::get("/articles?page=2&sort=date").body(Body::new())?;
        let (response, _stderr) = sender.send_request(request, builder).await?;
        let body = response.into_body().collect().await.map_err(io::Error::other)?;
        ensure!(body.to_bytes() == "Hello, world\n", "a wrong answer");
        if keep {
            kept = Some(sender);
        }
    }
    Ok(())
}
