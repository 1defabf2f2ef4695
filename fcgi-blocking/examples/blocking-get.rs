//! `blocking-get ADDR ROOT PATH` requests a path, such as `/articles?page=2`, from the PHP
//! application below ROOT, whose front controller is `index.php`, and prints status and page.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]

use std::{env, io};

use anyhow::Context;
use fcgi::http::HttpClient;
use fcgi_blocking as fcgi;

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [address, root, path] = &args[..] else { anyhow::bail!("usage: get ADDR ROOT PATH") };
    let http = HttpClient::builder(address).root(root).front("index.php").build()?;
    let response = http.get(path).with_context(|| format!("GET {path}"))?;
    println!("{}", response.status());
    print!("{}", io::read_to_string(response.into_body())?);
    Ok(())
}
