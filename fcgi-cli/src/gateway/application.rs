//! The application behind the gateway: one that runs already, or one of its own.

use std::io;

use fcgi_tokio as fcgi;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

#[cfg(feature = "sample")]
use super::{folder::private_folder, sample};
use super::{options::Gateway, php_fpm::PhpFpm, site::Site, stopped::Stopped};

pub(super) enum Application {
    /// It runs already.
    Other(fcgi::Address),
    Sample(Sample),
    PhpFpm(Box<PhpFpm>),
}

/// The sample application, on a socket in a private folder.
#[cfg_attr(not(feature = "sample"), allow(dead_code, reason = "this build has none"))]
pub(super) struct Sample {
    address: fcgi::Address,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), fcgi::Error>>,
    folder: TempDir,
}

impl Application {
    pub(super) async fn start(options: &Gateway, site: &Site) -> Result<Self, Stopped> {
        match (&options.address, site.root()) {
            (Some(address), _) if !address.is_callable() => {
                let only = "only unix:PATH and tcp:HOST:PORT can be called";
                Err(Stopped::usage(format!("{address}: {only}")))
            }
            (Some(address), _) => Ok(Self::Other(address.clone())),
            (None, Some(root)) if options.php => {
                let php_fpm =
                    PhpFpm::start(&root, options.connections, &options.split, &options.env).await;
                php_fpm
                    .map(|php_fpm| Self::PhpFpm(Box::new(php_fpm)))
                    .map_err(|error| Stopped::io(format!("{error:#}")))
            }
            (None, _) => {
                let sample = Sample::start();
                let failed = |error| Stopped::io(format!("start the sample application: {error}"));
                sample.map(Self::Sample).map_err(failed)
            }
        }
    }

    pub(super) fn address(&self) -> &fcgi::Address {
        match self {
            Self::Other(address) => address,
            Self::Sample(sample) => &sample.address,
            Self::PhpFpm(php_fpm) => php_fpm.address(),
        }
    }

    /// What it is, for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Other(address) => format!("the application at {address}"),
            Self::Sample(_) => "a sample application, over FastCGI".to_owned(),
            Self::PhpFpm(php_fpm) => php_fpm.name(),
        }
    }

    /// Ends what it has started, once no request is under way any more.
    pub(super) async fn stop(self) {
        match self {
            Self::Other(_) => {}
            Self::Sample(sample) => {
                let _ = sample.stop.send(());
                let _ = sample.server.await;
                drop(sample.folder);
            }
            Self::PhpFpm(php_fpm) => php_fpm.stop().await,
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
        let folder = private_folder("fcgi-gateway-")?;
        let address = fcgi::Address::unix(folder.path().join("sample"));
        let listener = fcgi::Listener::bind(&address)?;
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or_default() };
        // Whatever the environment says to an application, this one has one web server: us.
        let server = fcgi::Server::new().web_server_addrs(None);
        let server = tokio::spawn(
            server
                .serve_http(listener, sample::router())
                .with_graceful_shutdown(stopped)
                .into_future(),
        );
        Ok(Self { address, stop, server, folder })
    }
}
