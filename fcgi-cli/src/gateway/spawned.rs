//! Any program as the application, with the listening socket as its descriptor 0 (FC-2.2-1).

use std::{
    ffi::{OsStr, OsString},
    os::unix::net::UnixListener,
};

use anyhow::{Context, Result};
use fcgi_tokio as fcgi;

use super::{
    folder::{self, private_folder},
    supervised::{Program, Supervised},
};

/// How many connections may wait for the program, also while it restarts.
const BACKLOG: i32 = 1024;

pub(super) struct Spawned {
    command: OsString,
    address: fcgi::Address,
    supervised: Supervised,
}

impl Spawned {
    /// Starts a command for `sh`. The socket listens already, so this waits for nothing.
    pub(super) fn start(command: &OsStr) -> Result<Self> {
        let folder = private_folder(folder::SPAWN).context("make a temporary folder")?;
        let socket = folder.path().join("app");
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("listen at {}", socket.display()))?;
        rustix::net::listen(&listener, BACKLOG).context("listen")?;
        let program = Program {
            name: "spawned program",
            command: vec!["/bin/sh".into(), "-c".into(), command.to_owned()],
            stdin: Some(listener.into()),
            folder,
            stale: None,
        };
        let running = program.run()?;
        Ok(Self {
            command: command.to_owned(),
            address: fcgi::Address::unix(socket),
            supervised: Supervised::new(program, running),
        })
    }

    pub(super) fn address(&self) -> &fcgi::Address {
        &self.address
    }

    /// Its description for people.
    pub(super) fn name(&self) -> String {
        format!("the program {}", self.command.to_string_lossy())
    }

    /// Ends it and all that it has started.
    pub(super) async fn stop(self) {
        self.supervised.stop().await;
    }
}
