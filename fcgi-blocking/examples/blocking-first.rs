//! An application behind any web server, started by systemd, by spawn-fcgi or by hand. It listens
//! on the socket that it was started with or at FCGI_ADDR, otherwise at /run/app.sock.

use fcgi_blocking as fcgi;

fn main() -> Result<(), fcgi::Error> {
    let listener = fcgi::Listener::from_env("/run/app.sock")?;
    fcgi::serve(listener, |request: fcgi::Request| {
        request.stdout().write_all(b"Content-Type: text/plain\r\n\r\nhello\n")
    })
    .with_graceful_shutdown(fcgi::shutdown_signal())
    .run()
}
