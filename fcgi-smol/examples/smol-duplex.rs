//! A server and a client over a stream that is not a FastCGI socket. Here it is a socket pair; it
//! could also be TLS or vsock. It prints the response.

#![allow(clippy::print_stdout, reason = "a program's output")]

use fcgi_smol as fcgi;
use smol::net::unix::UnixStream;

fn main() -> anyhow::Result<()> {
    smol::block_on(async {
        let (ours, theirs) = UnixStream::pair()?;
        smol::spawn(fcgi::serve_connection(ours, hello)).detach();
        let mut client = fcgi::Client::over(theirs);
        let request = fcgi::client::Request::responder().param("REQUEST_METHOD", "GET");
        let answer = client.send(request).await?.collect(1 << 20).await?;
        print!("{}", String::from_utf8_lossy(&answer.stdout));
        Ok(())
    })
}

async fn hello(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_all(b"Content-Type: text/plain\r\n\r\nhello\n").await
}
