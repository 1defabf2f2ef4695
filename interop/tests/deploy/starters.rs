//! Each way to start the application.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use fcgi_testkit::{listening::listens, peers::Peer};

use crate::{
    application::{LIMIT, Place, Process, first, get, program, serves, terminate},
    page::{adapted, file},
};

/// systemd accepts the units, once they name a program that is there.
pub(crate) fn units() -> Result<()> {
    let place = Place::new()?;
    let real = program().display().to_string();
    let service = adapted("app.service", &[("/usr/local/bin/app", &real)])?;
    fs::write(place.path("app.service"), service).context("writing the service")?;
    fs::write(place.path("app.socket"), file("app.socket")?).context("writing the socket")?;
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").arg(place.path("app.service")).arg(place.path("app.socket"));
    let output = verify.output().context("starting systemd-analyze")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It also says what it thinks of the machine's own units.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("app.s")).collect();
    ensure!(output.status.success() && ours.is_empty(), "systemd-analyze: {said}");
    Ok(())
}

/// The socket is there before the application, which systemd starts with it.
pub(crate) fn socket_activation() -> Result<()> {
    let place = Place::new()?;
    let socket = place.path("app.sock");
    let mut command = Command::new(Peer::Systemd.find()?);
    command.arg("--listen").arg(&socket).arg(program());
    let systemd = Process::start(&mut command)?;
    wait_for(|| listens(&socket))?;
    let server = place.nginx(None)?;
    serves(&server)?;
    // It became the application.
    ensure!(get(server.port(), "/pid")?.body == systemd.id().to_string().into_bytes());
    systemd.terminate()?;
    systemd.ends_well()
}

/// Several processes on one socket.
pub(crate) fn spawn_fcgi() -> Result<()> {
    let place = Place::new()?;
    let script = adapted(
        "spawn-fcgi.sh",
        &[
            ("/run/app/app.sock", &place.text("app.sock")),
            ("/usr/local/bin/app", &program().display().to_string()),
            // Only root may change users.
            (" -u app -g app", ""),
            (" -U www-data -G www-data", ""),
        ],
    )?;
    let output = Command::new("sh").arg("-c").arg(&script).output().context("starting sh")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let started: BTreeSet<u32> =
        said.lines().filter_map(|line| line.split_once("PID: ")?.1.trim().parse().ok()).collect();
    let outcome = four_processes(&place, &said, &started);
    for id in started {
        // It may be gone if the test failed.
        let _ = terminate(id);
    }
    outcome
}

fn four_processes(place: &Place, said: &str, started: &BTreeSet<u32>) -> Result<()> {
    ensure!(started.len() == 4, "spawn-fcgi said: {said}");
    let server = place.nginx(None)?;
    serves(&server)?;
    let answered = first(server.port(), "/pid")?.body;
    let answered: u32 = String::from_utf8_lossy(&answered).parse().context("a process id")?;
    ensure!(started.contains(&answered), "{answered} is none of {started:?}");
    // One fewer is enough.
    terminate(answered)?;
    wait_for(|| {
        get(server.port(), "/pid").is_ok_and(|reply| {
            let id = String::from_utf8_lossy(&reply.body).parse();
            id.is_ok_and(|id: u32| id != answered && started.contains(&id))
        })
    })
}

/// The new process starts on the socket of the old one, which then ends: no request fails.
pub(crate) fn rolling_restart() -> Result<()> {
    let place = Place::new()?;
    let socket = place.socket()?;
    let mut app = Process::on_socket(&socket)?;
    let server = place.nginx(None)?;
    let port = server.port();
    first(port, "/")?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = ["/pid", "/slow", "/pid"]
            .map(|path| scope.spawn(|| without_a_failure(port, path, &stop)))
            .into_iter()
            .collect();
        let outcome = (0..3).try_for_each(|_| {
            let new = Process::on_socket(&socket)?;
            let old = std::mem::replace(&mut app, new);
            let id = app.id().to_string();
            // Once the new one has answered, the old one may go.
            wait_for(|| get(port, "/pid").is_ok_and(|reply| reply.body == id.as_bytes()))?;
            old.terminate()?;
            old.ends_well()
        });
        stop.store(true, Ordering::Relaxed);
        let mut answers = 0;
        for client in clients {
            answers += client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        ensure!(answers > 0, "nothing was asked meanwhile");
        outcome
    })
    .with_context(|| server.log())
}

fn without_a_failure(port: u16, path: &str, stop: &AtomicBool) -> Result<usize> {
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        let status = get(port, path)?.head.status;
        ensure!(status == 200, "GET {path}: {status} after {answers} answers");
        answers += 1;
    }
    Ok(answers)
}

/// The application in a container, and its port. A port that was free a moment ago may be taken now,
/// but not ten times.
fn contained() -> Result<(Process, u16)> {
    for _ in 0..10 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(program());
        command.env("FCGI_ADDR", format!(":{port}")).stdin(std::process::Stdio::null());
        let mut container = Process::start(&mut command)?;
        let mut has_ended = false;
        wait_for(|| {
            has_ended = container.has_ended();
            has_ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })?;
        if !has_ended {
            return Ok((container, port));
        }
    }
    bail!("the application does not listen in a container")
}

/// As process 1 of a container, which no signal ends that it does not handle.
pub(crate) fn container() -> Result<()> {
    let place = Place::new()?;
    let image = file("Containerfile")?;
    ensure!(image.contains("ENV FCGI_ADDR=:9000\n"), "the address of the image");
    let (container, port) = contained()?;
    let server = place.nginx(Some(&format!("127.0.0.1:{port}")))?;
    serves(&server)?;
    ensure!(get(server.port(), "/pid")?.body == b"1", "it is not process 1");
    let children = format!("/proc/{id}/task/{id}/children", id = container.id());
    let children = fs::read_to_string(&children).context(children)?;
    terminate(children.trim().parse().context("the process in the container")?)?;
    container.ends_well()
}

pub(crate) fn wait_for(mut what: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !what() {
        ensure!(started.elapsed() < LIMIT, "it does not come");
        thread::yield_now();
    }
    Ok(())
}
