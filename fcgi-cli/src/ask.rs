//! One request whose whole answer is needed, as probes send it.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use fcgi_http::{Head, HeadError, HeadLimits, HeadParser, ReasonPhrase};
use fcgi_tokio::{
    self as fcgi, Address, Phase, Target, Values,
    client::{Chunk, Client, Connector, Request},
    proto::record::{RecordHeader, RecordType},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::{
    budget::Budget,
    causes::{self, Cause},
    exit::Exit,
};

/// An application's answer, in CGI's terms.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    /// Its start, if it is longer than the limit.
    pub(crate) body: Bytes,
    pub(crate) stderr: Bytes,
    /// The application's status; 0 if the body was longer than the limit.
    pub(crate) app_status: u32,
}

impl Answer {
    /// `404 Not Found`.
    pub(crate) fn status_line(&self) -> String {
        let status = self.head.parts.status;
        let given = self.head.parts.extensions.get::<ReasonPhrase>();
        let given = given.map(|reason| String::from_utf8_lossy(reason.as_bytes()));
        let reason = given.unwrap_or_else(|| ReasonPhrase::standard(status).into());
        format!("{} {reason}", status.as_u16())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Call(#[from] fcgi::Error),
    #[error("{address}: {source}")]
    Head {
        address: String,
        source: HeadError,
        /// The bytes that came instead, which may say more.
        stdout: Bytes,
        stderr: Bytes,
    },
}

impl Failed {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Call(error) => Exit::of(error),
            Self::Head { .. } => Exit::Protocol,
        }
    }

    /// Its likely cause.
    pub(crate) fn cause(&self, address: &Address) -> Option<Cause> {
        match self {
            Self::Call(error) => causes::of(error, address),
            Self::Head { stdout, stderr, .. } => Some(causes::no_head(stdout.is_empty(), stderr)),
        }
    }
}

/// Connects within the remaining time.
pub(crate) async fn connect(address: &Address, budget: &Budget) -> Result<Client, fcgi::Error> {
    let connector = Connector::new()
        .connect_timeout(None)
        .first_byte_timeout(None)
        .next_byte_timeout(None)
        .total_timeout(None);
    budget.hold(address, Phase::Connect, connector.connect(address)).await
}

/// The parameters of a GET for a path that is also the script, as for php-fpm's own pages.
pub(crate) fn get(path: &str) -> Request {
    let (name, query) = path.split_once('?').unwrap_or((path, ""));
    get_script(name, name, query)
}

/// The parameters of a GET for a script.
pub(crate) fn get_script(file: &str, name: &str, query: &str) -> Request {
    let uri = if query.is_empty() { name.to_owned() } else { format!("{name}?{query}") };
    Request::responder().keep_conn(false).params([
        ("SCRIPT_FILENAME", file),
        ("SCRIPT_NAME", name),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", &uri),
        ("QUERY_STRING", query),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", concat!("fcgi/", env!("CARGO_PKG_VERSION"))),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
    ])
}

/// Sends a request on a new connection, and reads the answer with up to `most` bytes of body.
pub(crate) async fn ask(
    address: &Address,
    request: Request,
    budget: &Budget,
    most: usize,
) -> Result<Answer, Failed> {
    let mut client = connect(address, budget).await?;
    send(&mut client, address, request, budget, most).await
}

/// The same on an open connection.
pub(crate) async fn send(
    client: &mut Client,
    address: &Address,
    request: Request,
    budget: &Budget,
    most: usize,
) -> Result<Answer, Failed> {
    let mut response =
        budget.hold(address, Phase::FirstByte, client.send(request)).await.map_err(Failed::Call)?;
    let (mut out, mut stderr) = (BytesMut::new(), BytesMut::new());
    // Enough for any head, and then the body.
    let most_of_all = most.saturating_add(HeadLimits::default().bytes);
    let mut app_status = 0;
    loop {
        match budget.hold(address, Phase::Response, response.chunk()).await? {
            Some(Chunk::Stdout(bytes)) => out.extend_from_slice(&bytes),
            Some(Chunk::Stderr(bytes)) if stderr.len() < most => stderr.extend_from_slice(&bytes),
            Some(Chunk::Stderr(_)) => {}
            None => {
                app_status = response.app_status().unwrap_or_default();
                break;
            }
        }
        if out.len() > most_of_all {
            break;
        }
    }
    let (stdout, stderr) = (out.freeze(), stderr.freeze());
    let mut body = stdout.clone();
    let mut parser = HeadParser::new(HeadLimits::default());
    let parsed = parser
        .push(&mut body)
        .and_then(|head| head.ok_or_else(|| parser.finish().err().unwrap_or(HeadError::Empty)));
    match parsed {
        Ok(head) => Ok(Answer { head, body, stderr, app_status }),
        Err(source) => Err(Failed::Head { address: address.to_string(), source, stdout, stderr }),
    }
}

/// Why an application does not tell its capacity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoValues {
    #[error(transparent)]
    Call(#[from] fcgi::Error),
    #[error("{0}: connection closed without an answer to GET_VALUES")]
    Closed(Address),
}

impl NoValues {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Call(error) => Exit::of(error),
            Self::Closed(_) => Exit::Protocol,
        }
    }

    /// What happened, with its causes.
    pub(crate) fn report(&self) -> String {
        match self {
            Self::Call(error) => error.report().to_string(),
            Self::Closed(_) => self.to_string(),
        }
    }

    pub(crate) fn cause(&self, address: &Address) -> Option<Cause> {
        match self {
            Self::Call(error) => causes::of(error, address),
            Self::Closed(_) => Some(causes::closed(address)),
        }
    }
}

/// Asks for the application's capacity, on a separate connection.
///
/// # Errors
/// There is no answer. For callers with other work, the library takes a close for an answer without
/// values; for a probe it is none.
pub(crate) async fn values(address: &Address, budget: &Budget) -> Result<Values, NoValues> {
    // The budget is the limit.
    let connector = Connector::new().connect_timeout(None).values_timeout(Duration::MAX);
    let values = budget.hold(address, Phase::Values, connector.query_values(address)).await?;
    if values != Values::default() {
        return Ok(values);
    }
    let closes = budget.hold(address, Phase::Values, async { Ok(closes(address).await) }).await?;
    if closes.unwrap_or(true) { Err(NoValues::Closed(address.clone())) } else { Ok(values) }
}

/// Whether the application closes a connection on which it gets GET_VALUES, without any answer.
async fn closes(address: &Address) -> io::Result<bool> {
    const NAME: &[u8] = b"FCGI_MPXS_CONNS";
    let pair = [&[NAME.len() as u8, 0], NAME].concat();
    let header = RecordHeader::new(RecordType::GetValues, 0, pair.len() as u16);
    let record = [&header.encode()[..], &pair, &vec![0; header.padding_length.into()]].concat();
    match address.target() {
        Target::Unix(path) => is_last(UnixStream::connect(path).await?, &record).await,
        Target::Tcp(host_port) => is_last(TcpStream::connect(host_port).await?, &record).await,
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Whether nothing comes after these bytes but the end.
async fn is_last(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    record: &[u8],
) -> io::Result<bool> {
    stream.write_all(record).await?;
    Ok(stream.read(&mut [0; 1]).await? == 0)
}
