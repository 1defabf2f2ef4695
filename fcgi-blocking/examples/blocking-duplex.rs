//! A server and a client over a stream that is not a FastCGI socket. Here it is a socket pair; it
//! could also be vsock. It prints the response.

#![allow(clippy::print_stdout, reason = "a program's output")]

use std::os::unix::net::UnixStream;

use fcgi_blocking as fcgi;

fn main() -> anyhow::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    std::thread::spawn(|| fcgi::serve_connection(ours, hello).run());
    let mut client = fcgi::Client::over(theirs);
    let request = fcgi::client::Request::responder().param("REQUEST_METHOD", "GET");
    let answer = client.send(request)?.collect(1 << 20)?;
    print!("{}", String::from_utf8_lossy(&answer.stdout));
    Ok(())
}

fn hello(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_all(b"Content-Type: text/plain\r\n\r\nhello\n")
}
