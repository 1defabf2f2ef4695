//! `fcgi gateway`: a web server for one FastCGI application.

mod access;
mod application;
mod balance;
mod body;
mod buffer;
mod client;
mod coding;
mod conditions;
mod cut;
mod deny;
mod descendants;
mod descriptors;
mod failure;
mod files;
mod folder;
mod guard;
mod handover;
mod head_timer;
mod inside;
mod intake;
mod listener;
mod log;
mod media;
mod metrics;
mod not_found;
mod options;
mod origin;
mod php_fpm;
mod ranges;
mod raw_head;
mod ready;
mod refusal;
mod replay;
mod root;
#[cfg(feature = "sample")]
mod sample;
mod sendfile;
mod server;
mod service;
mod sink;
mod site;
mod socket;
mod spawned;
mod stopped;
mod store;
mod stream;
mod supervised;
mod throttle;
mod turn;
mod upstream;
mod watch;

use std::{process::ExitCode, sync::Arc};

use fcgi_tokio::{self as fcgi, client::Connector};

use application::Application;
use buffer::Buffering;
use descriptors::Descriptors;
use files::Files;
pub(crate) use guard::Guard;
use handover::Handover;
use inside::Inside;
use listener::listen;
use log::{announce, complain};
pub(crate) use options::Options as Gateway;
use options::{Options, Switch};
use origin::Proxies;
use service::Service;
use site::Site;
use stopped::Stopped;
use store::Stores;
use upstream::Upstream;

impl Options {
    pub(crate) async fn run(mut self) -> ExitCode {
        if let Err(error) = log::start() {
            crate::complain(&format!("fcgi gateway: start a thread: {error}"));
            return ExitCode::from(5);
        }
        let served = match self.check() {
            Ok(()) => self.serve().await,
            wrong => wrong,
        };
        let code = match served {
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
        log::install(self.log);
        let descriptors = Descriptors::share(
            self.max_clients,
            self.connections.saturating_mul(self.address.len().max(1)),
        );
        let mut signals = server::Signals::new()
            .map_err(|error| Stopped::io(format!("watch for signals: {error}")))?;
        let site = Arc::new(Site::new(self).map_err(|error| Stopped::usage(format!("{error:#}")))?);
        let handover = self.sendfile_root.as_deref().map(|path| {
            let failed =
                |error| Stopped::usage(format!("--sendfile-root {}: {error}", path.display()));
            Handover::new(path).map_err(failed)
        });
        let handover = handover.transpose()?;
        let listeners = listen(self)?;
        let started = Application::start(self, &site, signals.next()).await?;
        let Some(application) = started else { return Ok(()) };
        let what = site.describe(&application.name());
        let pools: Result<Vec<_>, _> =
            application.addresses().iter().map(|address| self.pool(address)).collect();
        let pools = pools?;
        let service = Service {
            files: Files::new(descriptors.files, self.charset.clone()),
            upstream: Upstream::new(
                pools,
                Arc::clone(&site),
                &self.params,
                self.max_body,
                self.buffering(&descriptors),
                handover.is_some(),
            )
            .map_err(|error| Stopped::usage(error.report()))?,
            proxies: Proxies { trusted: self.trusted_proxy.clone(), fields: self.forwarded },
            inside: Inside { ready: self.ready.0.clone(), metrics: self.metrics.0.clone() },
            handover,
            site,
            max_body: self.max_body,
            client_timeout: self.client_timeout,
            max_fields: self.max_fields,
            quiet: self.quiet,
        };
        let urls = listeners.names();
        let verb = if urls.len() == 1 { "serves" } else { "serve" };
        announce(&format!("{} {verb} {what}", urls.join(" and ")));

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
        let served = server::serve(listeners, Arc::new(service), &limits, &mut signals).await;
        // A second signal ends the gateway at once; the guard then ends what was started.
        tokio::select! {
            () = application.stop() => {}
            () = signals.next() => {}
        }
        served.map_err(|error| Stopped::io(error.report()))
    }

    fn buffering(&self, descriptors: &Descriptors) -> Option<Buffering> {
        (self.buffering == Switch::On).then(|| Buffering {
            stores: Stores::new(self.store, descriptors.stored),
            max_body: self.max_body,
            answer: self.store_each,
        })
    }

    fn pool(&self, address: &fcgi::Address) -> Result<fcgi::Pool, Stopped> {
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
            .map_err(|error| Stopped::usage(error.report()))
    }
}
