//! HAProxy calls our server as the documentation says.

use std::{fs, path::Path, sync::Arc, thread};

use anyhow::Context;
use fcgi_testkit::{
    harness::Case,
    http::HttpConnection,
    peers::{Peer, WebServer},
};
use fcgi_tokio as fcgi;
use tokio::sync::Barrier;

use crate::{
    app::{App, HEAD},
    relay::Relay,
    support::{Kind, LIMIT, Outcome},
};

const AT_ONCE: usize = 16;
const SERVERS: [&str; 2] = ["10.0.0.7:9000", "10.0.0.8:9000"];

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("haproxy_as_documented_multiplexes_w9_w14", multiplexes).needs(&[Peer::Haproxy])]
}

/// The configuration in docs/scaling.md.
fn documented() -> anyhow::Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scaling.md");
    let page = fs::read_to_string(page)?;
    let (_, rest) = page.split_once("```haproxy\n").context("no example for HAProxy")?;
    let (example, _) = rest.split_once("```").context("an example without an end")?;
    Ok(example.to_owned())
}

fn multiplexes() -> Outcome {
    let all = Arc::new(Barrier::new(AT_ONCE));
    let app = App::start(Kind::Unix, move |request: fcgi::Request| {
        let all = Arc::clone(&all);
        async move {
            if request.param_str("REQUEST_URI").is_some_and(|uri| uri.ends_with("/meet")) {
                // All of them are under way at once.
                tokio::time::timeout(LIMIT, all.wait()).await.map_err(anyhow::Error::from)?;
            }
            anyhow::Ok(request.stdout().write_all(HEAD).await?)
        }
    })?;
    let mut relays = Vec::new();
    app.block_on(async {
        for _ in SERVERS {
            relays.push(Relay::start(app.address().clone(), |_| {})?);
        }
        Ok(())
    })?;
    let mut config = documented()?;
    for (server, relay) in SERVERS.iter().zip(&relays) {
        assert!(config.contains(server), "{config}");
        config = config.replace(server, &relay.address().replace("unix:", "unix@"));
    }
    let haproxy = WebServer::haproxy(&config, "apps")?;
    let get = |path: &str| -> anyhow::Result<()> {
        let reply = HttpConnection::connect(("127.0.0.1", haproxy.port()))?.get(path)?;
        anyhow::ensure!(reply.head.status == 200, "status {}", reply.head.status);
        Ok(())
    };
    // Each server says what it takes.
    for _ in SERVERS {
        get("/first")?;
    }
    thread::scope(|scope| {
        let callers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| get("/meet"))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().expect("no panic"))
    })?;
    let connections: usize = relays.iter().map(Relay::connections).sum();
    assert!(connections < AT_ONCE, "{connections} connections for {AT_ONCE} requests at once");
    drop(haproxy);
    app.stop()
}
