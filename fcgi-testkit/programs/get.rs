//! `get ADDR ROOT PATH` requests a path, such as `/articles?page=2`, from the PHP application below
//! ROOT, whose front controller is `index.php`, and prints status and page.
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]

use std::env;

use anyhow::Context;
use fcgi::http::HttpClient;
use http_body_util::BodyExt;

use crate::{fcgi, runtime};

pub(crate) fn main() -> anyhow::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [address, root, path] = &args[..] else { anyhow::bail!("usage: get ADDR ROOT PATH") };
    runtime::block_on(async {
        let http = HttpClient::builder(address).root(root).front("index.php").build()?;
        let response = http.get(path).await.with_context(|| format!("GET {path}"))?;
        println!("{}", response.status());
        let page = response.into_body().collect().await?.to_bytes();
        print!("{}", String::from_utf8_lossy(&page));
        Ok(())
    })?
}
