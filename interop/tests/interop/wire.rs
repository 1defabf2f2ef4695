//! Sits between a web server and our server and reads along, to see what was really on the wire. It
//! knows only the eight bytes of a record's header, and does not use this project's parser.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

const BEGIN_REQUEST: u8 = 1;
const ABORT_REQUEST: u8 = 2;
const END_REQUEST: u8 = 3;
const STDOUT: u8 = 6;
const GET_VALUES: u8 = 9;

/// What was seen since [`Wire::reset`].
#[derive(Debug, Default, Clone)]
pub(crate) struct Traffic {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) aborts: usize,
    /// Since the start.
    pub(crate) get_values: usize,
    /// The most requests that were in progress on one connection.
    pub(crate) most_at_once: usize,
    /// Responses whose head was not whole in their first STDOUT record.
    pub(crate) split_heads: usize,
}

/// The ones that read along.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Traffic>>);

impl Wire {
    /// Takes connections at `socket`, which is open to all, and at a free loopback port, and
    /// passes them on to the server at `to`. Returns the port too.
    pub(crate) async fn start(socket: &Path, to: &Path) -> io::Result<(Self, u16)> {
        let wire = Self(Arc::default());
        let unix = UnixListener::bind(socket)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = tcp.local_addr()?.port();
        let (here, to) = (wire.clone(), to.to_owned());
        tokio::spawn(async move {
            loop {
                let (here, to) = (here.clone(), to.clone());
                // How a connection ends is its two ends' business.
                tokio::select! {
                    Ok((stream, _)) = unix.accept() => {
                        tokio::spawn(async move { here.unix(stream, to).await });
                    }
                    Ok((stream, _)) = tcp.accept() => {
                        tokio::spawn(async move { here.tcp(stream, to).await });
                    }
                    else => return,
                }
            }
        });
        Ok((wire, port))
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().clone()
    }

    pub(crate) fn reset(&self) {
        let mut traffic = self.lock();
        *traffic = Traffic { get_values: traffic.get_values, ..Traffic::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn unix(&self, front: UnixStream, to: PathBuf) -> io::Result<()> {
        let back = UnixStream::connect(to).await?;
        let hung_up = |stream: &UnixStream| {
            let mut fds = [PollFd::new(stream, PollFlags::empty())];
            poll(&mut fds, Some(&Timespec::default())).is_ok()
                && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
        };
        let (mut reader, writer) = front.into_split();
        let (reads, mut writes) = back.into_split();
        let open = self.open();
        let answers = tokio::spawn(self.clone().answers(reads, writer, open.clone()));
        self.requests(&mut reader, &mut writes, open).await;
        // A web server that closed is gone in both directions; one that only shut its end down
        // still reads. Our server tells the two apart (W-8), so they must not become one here.
        if hung_up(reader.as_ref()) {
            writes.forget();
            answers.abort();
        } else {
            let _ = writes.shutdown().await;
        }
        let _ = answers.await;
        Ok(())
    }

    async fn tcp(&self, front: TcpStream, to: PathBuf) -> io::Result<()> {
        let back = UnixStream::connect(to).await?;
        let (mut reader, writer) = front.into_split();
        let (reads, mut writes) = back.into_split();
        let open = self.open();
        let answers = tokio::spawn(self.clone().answers(reads, writer, open.clone()));
        self.requests(&mut reader, &mut writes, open).await;
        let _ = writes.shutdown().await;
        let _ = answers.await;
        Ok(())
    }

    fn open(&self) -> Arc<Mutex<HashMap<u16, bool>>> {
        self.lock().connections += 1;
        Arc::default()
    }

    async fn requests(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        open: Arc<Mutex<HashMap<u16, bool>>>,
    ) {
        let mut records = Records::default();
        copy(reader, writer, |bytes| {
            records.read(bytes, |kind, id, _| {
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                let mut traffic = self.lock();
                match kind {
                    BEGIN_REQUEST => {
                        open.insert(id, false);
                        traffic.requests += 1;
                        traffic.most_at_once = traffic.most_at_once.max(open.len());
                    }
                    ABORT_REQUEST => traffic.aborts += 1,
                    GET_VALUES => traffic.get_values += 1,
                    _ => {}
                }
            });
        })
        .await;
    }

    async fn answers(
        self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        open: Arc<Mutex<HashMap<u16, bool>>>,
    ) {
        let mut records = Records::default();
        copy(&mut reader, &mut writer, |bytes| {
            records.read(bytes, |kind, id, content| {
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                match kind {
                    END_REQUEST => drop(open.remove(&id)),
                    STDOUT => {
                        let answered = open.insert(id, true) == Some(true);
                        let whole = || content.windows(4).any(|window| window == b"\r\n\r\n");
                        if !answered && !whole() {
                            self.lock().split_heads += 1;
                        }
                    }
                    _ => {}
                }
            });
        })
        .await;
        let _ = writer.shutdown().await;
    }
}

/// Passes bytes on to the end.
async fn copy(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    mut look: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        look(&buffer[..n]);
        if writer.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// Cuts a stream of bytes into records.
#[derive(Default)]
struct Records {
    rest: Vec<u8>,
}

impl Records {
    /// Shows each whole record: its type, its id, and its content.
    fn read(&mut self, bytes: &[u8], mut record: impl FnMut(u8, u16, &[u8])) {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some([_, kind, id1, id0, length1, length0, padding, _]) =
            self.rest.get(at..at + 8)
        {
            let length = usize::from(u16::from_be_bytes([*length1, *length0]));
            let end = at + 8 + length + usize::from(*padding);
            if self.rest.len() < end {
                break;
            }
            let id = u16::from_be_bytes([*id1, *id0]);
            record(*kind, id, &self.rest[at + 8..at + 8 + length]);
            at = end;
        }
        self.rest.drain(..at);
    }
}
