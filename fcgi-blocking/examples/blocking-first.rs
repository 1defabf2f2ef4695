//! An application behind any web server, under systemd, spawn-fcgi or by hand: it listens where it was
//! started to, at FCGI_ADDR for one, else at /run/app.sock.

use fcgi_blocking as fcgi;

fn main() -> Result<(), fcgi::Error> {
    let listener = fcgi::Listener::from_env("/run/app.sock")?;
    fcgi::serve(listener, |request: fcgi::Request| {
        request.stdout().write_all(b"Content-Type: text/plain\r\n\r\nhello\n")
    })
    .with_graceful_shutdown(fcgi::shutdown_signal())
    .run()
}
