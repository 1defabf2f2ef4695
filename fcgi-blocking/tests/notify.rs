//! What systemd hears of servers.
#![cfg(feature = "sd-notify")]

use std::{
    env,
    io::{Read, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    process::Command,
    thread,
    time::Duration,
};

use fcgi_blocking::{Listener, Request, Server, Shutdown};

/// The service is ready with its first server and stops with its last one; a connection that
/// somebody else accepted is no service. The environment is a process's: the test starts itself.
#[test]
fn several_servers_are_one_service() {
    if env::var_os("NOTIFY_SOCKET").is_some() {
        return serve();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "several_servers_are_one_service"])
        .env("NOTIFY_SOCKET", &path)
        .status();
    assert!(status.unwrap().success());
    systemd.set_nonblocking(true).unwrap();
    let mut buffer = [0; 100];
    let told = std::iter::from_fn(|| {
        let length = systemd.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    });
    assert_eq!(told.collect::<Vec<_>>(), ["READY=1", "STOPPING=1"]);
}

fn serve() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one");
    let (one, server) = start(Listener::bind(&path).unwrap());
    // An answer to a record that is not known: it serves.
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(&[1, 99, 0, 0, 0, 0, 0, 0]).unwrap();
    client.read_exact(&mut [0; 16]).unwrap();

    let (io, peer) = UnixStream::pair().unwrap();
    let leave = Shutdown::new();
    leave.trigger();
    let connection = quick().serve_connection(io, answer);
    connection.with_graceful_shutdown(leave).run().unwrap();
    drop(peer);

    let (two, second) = start(Listener::bind(folder.path().join("two")).unwrap());
    two.trigger();
    second.join().unwrap();
    one.trigger();
    server.join().unwrap();
}

fn quick() -> Server {
    Server::new().threads(1).shutdown_grace(Duration::ZERO)
}

fn start(listener: Listener) -> (Shutdown, thread::JoinHandle<()>) {
    let shutdown = Shutdown::new();
    let serve = quick().serve(listener, answer).with_graceful_shutdown(shutdown.clone());
    (shutdown, thread::spawn(move || serve.run().unwrap()))
}

fn answer(_: Request) {}
