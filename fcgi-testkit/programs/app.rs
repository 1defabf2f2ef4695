//! An application that uses the sockets it was started with: by systemd, spawn-fcgi, a web server,
//! or a shell.
//!
//! `app ADDR [ADMIN]` answers every request with `Hello, world`, and with a line that names the
//! listener that the request came on. It serves the sockets of
//! [`from_env`](fcgi::Listener::from_env): systemd's sockets, descriptor 0, FCGI_ADDR, or else
//! ADDR. With ADMIN it has a second listener, which systemd calls `admin`. On SIGTERM or SIGINT it
//! finishes its requests and ends.
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

use crate::{fcgi, runtime};

pub(crate) fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(address) = args.next() else { anyhow::bail!("usage: app ADDR [ADMIN]") };
    runtime::block_on(async move {
        let (stop, stop_admin) = (fcgi::shutdown_signal(), fcgi::shutdown_signal());
        let admin = args.next().map(|admin| fcgi::Listener::from_env_named("admin", admin));
        let admin = admin.transpose()?.map(|listener| {
            let serve = fcgi::serve(listener, async |request| answer(request, "admin").await);
            runtime::spawn(serve.with_graceful_shutdown(stop_admin))
        });
        let listener = fcgi::Listener::from_env(address)?;
        fcgi::serve(listener, async |request| answer(request, "site").await)
            .with_graceful_shutdown(stop)
            .await?;
        if let Some(admin) = admin {
            admin.await?;
        }
        Ok(())
    })?
}

async fn answer(request: fcgi::Request, on: &str) -> Result<(), fcgi::Error> {
    let page = format!("Content-Type: text/plain\r\n\r\nHello, world\n{on}\n");
    request.stdout().write_all(page).await
}
