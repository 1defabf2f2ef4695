//! The application behind the gateway: one that runs already, or one that the gateway starts.

use std::{future::Future, io, slice};

use fcgi_tokio as fcgi;
use tokio::{sync::oneshot, task::JoinHandle};

#[cfg(feature = "sample")]
use super::{
    folder::{self, private_folder},
    sample,
};
use super::{
    options::Options,
    php_fpm::PhpFpm,
    site::Site,
    spawned::Spawned,
    stopped::Stopped,
    supervised::{Program, Running},
};

pub(super) enum Application {
    /// It runs already.
    Other(Vec<fcgi::Address>),
    Sample(Box<Sample>),
    PhpFpm(Box<PhpFpm>),
    Spawned(Spawned),
}

/// The sample application, on a socket in a private folder.
#[cfg_attr(not(feature = "sample"), allow(dead_code, reason = "this build has none"))]
pub(super) struct Sample {
    address: fcgi::Address,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), fcgi::Error>>,
    /// Removes the folder, even if the gateway is killed.
    guard: Option<Running>,
    program: Program,
}

impl Application {
    /// Starts what must be started; `None` if `stop` came before that was done.
    pub(super) async fn start(
        options: &Options,
        site: &Site,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Self>, Stopped> {
        if let Some(address) = options.address.iter().find(|address| !address.is_callable()) {
            let only = "only unix:PATH and tcp:HOST:PORT can be called";
            return Err(Stopped::usage(format!("{address}: {only}")));
        }
        let started = match (&options.address[..], site.root()) {
            ([_, ..], _) => Ok(Self::Other(options.address.clone())),
            ([], Some(root)) if options.php => {
                let php_fpm = PhpFpm::start(&root, options, stop).await;
                let php_fpm = php_fpm.map_err(|error| Stopped::io(format!("{error:#}")))?;
                return Ok(php_fpm.map(|php_fpm| Self::PhpFpm(Box::new(php_fpm))));
            }
            ([], _) if options.spawn.is_some() => {
                let spawned = Spawned::start(options.spawn.as_deref().unwrap_or_default());
                spawned.map(Self::Spawned).map_err(|error| Stopped::io(format!("{error:#}")))
            }
            ([], _) => {
                let sample = Sample::start();
                let failed = |error| Stopped::io(format!("start the sample application: {error}"));
                sample.map(|sample| Self::Sample(Box::new(sample))).map_err(failed)
            }
        };
        started.map(Some)
    }

    pub(super) fn addresses(&self) -> &[fcgi::Address] {
        match self {
            Self::Other(addresses) => addresses,
            Self::Sample(sample) => slice::from_ref(&sample.address),
            Self::PhpFpm(php_fpm) => slice::from_ref(php_fpm.address()),
            Self::Spawned(spawned) => slice::from_ref(spawned.address()),
        }
    }

    /// Its description for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Other(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("the application at {}", addresses.join(" and "))
            }
            Self::Sample(_) => "a sample application, over FastCGI".to_owned(),
            Self::PhpFpm(php_fpm) => php_fpm.name(),
            Self::Spawned(spawned) => spawned.name(),
        }
    }

    /// Ends what it has started, once no request is active.
    pub(super) async fn stop(self) {
        match self {
            Self::Other(_) => {}
            Self::Sample(sample) => {
                let _ = sample.stop.send(());
                let _ = sample.server.await;
                drop((sample.program, sample.guard));
            }
            Self::PhpFpm(php_fpm) => php_fpm.stop().await,
            Self::Spawned(spawned) => spawned.stop().await,
        }
    }
}

impl Sample {
    #[cfg(not(feature = "sample"))]
    fn start() -> io::Result<Self> {
        Err(io::Error::other("this build has none: name an application, or use --php"))
    }

    #[cfg(feature = "sample")]
    fn start() -> io::Result<Self> {
        let folder = private_folder(folder::SAMPLE)?;
        let address = fcgi::Address::unix(folder.path().join("sample"));
        let listener = fcgi::Listener::bind(&address)?;
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or_default() };
        // The environment may limit applications' web servers; this one's is the gateway.
        let server = fcgi::Server::new().web_server_addrs(None);
        let server = tokio::spawn(
            server.serve_http(listener, sample::router()).with_graceful_shutdown(stopped),
        );
        let program = Program {
            name: "sample application",
            command: Vec::new(),
            stdin: None,
            folder,
            stale: None,
        };
        // Without a guard, the folder stays if the gateway is killed. That must not prevent the start.
        let guard = program.run().ok();
        Ok(Self { address, stop, server, guard, program })
    }
}
