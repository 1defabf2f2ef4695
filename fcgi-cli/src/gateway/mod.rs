//! `fcgi gateway`: a web server for one FastCGI application.

mod application;
mod body;
mod buffer;
mod client;
mod conditions;
mod cut;
mod descriptors;
mod failure;
mod files;
mod folder;
mod handover;
mod intake;
mod log;
mod options;
mod php_fpm;
mod php_guard;
mod raw_head;
mod refusal;
mod root;
#[cfg(feature = "sample")]
mod sample;
mod server;
mod service;
mod sink;
mod site;
mod socket;
mod stopped;
mod store;
mod upstream;
mod watch;

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use fcgi_tokio::{self as fcgi, client::Connector};
use tokio::net::TcpListener;

use application::Application;
use buffer::Buffering;
use descriptors::Descriptors;
use files::Files;
use handover::Handover;
pub(crate) use options::Gateway;
use options::Switch;
pub(crate) use php_guard::PhpGuard;
use service::Service;
use sink::{ACCESS, complain};
use site::Site;
use stopped::Stopped;
use store::Stores;
use upstream::Upstream;

impl Gateway {
    pub(crate) async fn run(self) -> ExitCode {
        let code = match self.serve().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(Stopped(code, message)) => {
                complain(&message);
                ExitCode::from(code)
            }
        };
        sink::flush();
        code
    }

    async fn serve(&self) -> Result<(), Stopped> {
        sink::start().map_err(|error| Stopped::io(format!("start a thread: {error}")))?;
        log::install();
        let descriptors = Descriptors::share(self.max_clients, self.connections);
        let mut signals = server::Signals::new()
            .map_err(|error| Stopped::io(format!("watch for signals: {error}")))?;
        let site = Arc::new(Site::new(self).map_err(|error| Stopped::usage(format!("{error:#}")))?);
        let handover = self.sendfile_root.as_deref().map(|path| {
            let failed = |error| Stopped::usage(format!("root {}: {error}", path.display()));
            Handover::new(path).map_err(failed)
        });
        let handover = handover.transpose()?;
        let mut listeners = Vec::new();
        let mut urls = Vec::new();
        for address in &self.listen {
            let (listener, local) = listen(address).await?;
            urls.push(format!("http://{local}/"));
            listeners.push(listener);
        }
        let application = Application::start(self, &site).await?;
        let what = site.describe(&application.name());
        let service = Service {
            files: Files::new(descriptors.files),
            upstream: Upstream::new(
                self.pool(application.address().clone()),
                Arc::clone(&site),
                &self.params,
                self.max_body,
                self.buffering(&descriptors),
                handover.is_some(),
            ),
            handover,
            site,
            client_timeout: self.client_timeout,
            max_fields: self.max_fields,
            quiet: self.quiet,
        };
        let verb = if urls.len() == 1 { "serves" } else { "serve" };
        ACCESS.line(format!("{} {verb} {what}", urls.join(" and ")));

        if descriptors.clients < self.max_clients {
            let Descriptors { limit, clients, .. } = descriptors;
            complain(&format!(
                "at most {clients} clients at once: a process may have {limit} files open"
            ));
        }
        let limits = server::Limits {
            clients: descriptors.clients,
            max_head: self.max_head as usize,
            max_fields: self.max_fields,
            client_timeout: self.client_timeout,
            shutdown_timeout: self.shutdown_timeout,
        };
        server::serve(listeners, Arc::new(service), &limits, &mut signals).await;
        application.stop().await;
        Ok(())
    }

    fn buffering(&self, descriptors: &Descriptors) -> Option<Buffering> {
        (self.buffering == Switch::On).then(|| Buffering {
            stores: Stores::new(self.store, descriptors.stored),
            max_body: self.max_body,
            answer: self.store_each,
        })
    }

    fn pool(&self, address: fcgi::Address) -> fcgi::Pool {
        let connector = Connector::new()
            .connect_timeout(Some(self.connect_timeout))
            .first_byte_timeout(Some(self.first_byte_timeout))
            .next_byte_timeout(Some(self.next_byte_timeout))
            .total_timeout(self.timeout);
        fcgi::Pool::builder(address)
            .connector(connector)
            .max_connections(self.connections)
            .max_idle(self.connections)
            .max_waiting(self.max_waiting)
            .wait_timeout(Some(self.wait_timeout))
            .multiplex(self.multiplex)
            .keep_conn(self.keep_conn)
            .build()
    }
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), Stopped> {
    let listener = TcpListener::bind(address).await.and_then(|listener| {
        let local = listener.local_addr()?;
        Ok((listener, local))
    });
    listener.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; --listen HOST:PORT takes another",
            _ => "",
        };
        Stopped::io(format!("listen at {address}: {error}{hint}"))
    })
}
