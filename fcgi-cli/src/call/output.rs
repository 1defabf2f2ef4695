//! Where the answer of a call goes.

use std::{
    future::Future,
    io::{self, IsTerminal},
    path::PathBuf,
    pin::pin,
    sync::Arc,
};

use anstream::adapter::strip_str;
use bytes::Bytes;
use fcgi_engine::text::Escaper;
use fcgi_http::{Head, HeadError, HeadLimits, HeadParser};

use super::{failure::Failure, options::Call, progress::Progress, watched::LINES};
use crate::{budget::Budget, exit::Exit, writer::Writer};

/// How many bytes of a body go into a JSON object, at most.
const MOST_JSON: usize = 1 << 20;

/// What to do with STDOUT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// Print all of it unchanged.
    Raw,
    /// Print the head, if requested, and then the body.
    Parsed { include: bool },
}

/// Where the application's output goes.
pub(super) struct Output {
    wanted: Wanted,
    /// With a status of 400 or more, the call fails and nothing is written.
    fail: bool,
    /// The bytes go into a JSON object, or are dropped.
    is_held: bool,
    path: Option<PathBuf>,
    writer: Option<Writer>,
    /// The time limit of the whole call, including writing.
    budget: Budget,
    parser: Option<HeadParser>,
    /// The bytes of an incomplete head.
    pending: Vec<u8>,
    pub(super) head: Option<Head>,
    pub(super) head_error: Option<HeadError>,
    pub(super) body: Vec<u8>,
    pub(super) body_bytes: u64,
    pub(super) stderr: Vec<u8>,
    /// Set if the output is a terminal (H-10).
    escaper: Option<Escaper>,
    /// The last bytes on stderr did not end a line.
    mid_line: bool,
    pub(super) progress: Arc<Progress>,
}

impl Output {
    pub(super) fn new(call: &Call, has_path: bool, budget: Budget) -> Self {
        let is_for_programs = call.form.json || call.form.nagios;
        let wanted = match has_path {
            true => Wanted::Parsed { include: call.include },
            false => Wanted::Raw,
        };
        let is_parsed = has_path || call.fail || is_for_programs;
        let path = call.file();
        let stdout_shows = path.is_none() && io::stdout().is_terminal();
        Self {
            wanted,
            fail: call.fail,
            is_held: is_for_programs && path.is_none(),
            writer: path.is_none().then_some(Writer::Stdout),
            path: path.cloned(),
            budget,
            parser: is_parsed.then(|| HeadParser::new(HeadLimits::default())),
            pending: Vec::new(),
            head: None,
            head_error: None,
            body: Vec::new(),
            body_bytes: 0,
            stderr: Vec::new(),
            escaper: io::stderr().is_terminal().then(|| Escaper::new(b"\n\t")),
            mid_line: false,
            progress: Arc::new(Progress::new(
                io::stderr().is_terminal() && !call.verbose,
                stdout_shows,
            )),
        }
    }

    /// Whether the answer is a failure whose output is hidden.
    pub(super) fn is_failed(&self) -> bool {
        self.fail && self.head.as_ref().is_some_and(|head| head.parts.status.as_u16() >= 400)
    }

    /// Whether the output is only for programs.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// More of STDOUT.
    pub(super) async fn stdout(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let mut rest = bytes.clone();
        let Some(parser) = &mut self.parser else { return self.write_body(bytes).await };
        let parsed = parser.push(&mut rest);
        if !matches!(parsed, Ok(None)) {
            self.parser = None;
        }
        self.pending.extend_from_slice(&bytes[..bytes.len() - rest.len()]);
        match parsed {
            Ok(None) => return Ok(()),
            Ok(Some(head)) => {
                self.head = Some(head);
                let pending = std::mem::take(&mut self.pending);
                if self.wanted != (Wanted::Parsed { include: false }) {
                    self.write_head(pending.into()).await?;
                }
            }
            // Output without a head is shown unchanged, and the error after it.
            Err(error) => {
                self.head_error = Some(error);
                let pending = std::mem::take(&mut self.pending);
                self.write_body(pending.into()).await?;
                rest = bytes.slice(bytes.len() - rest.len()..);
            }
        }
        if rest.is_empty() { Ok(()) } else { self.write_body(rest).await }
    }

    async fn write_head(&mut self, bytes: Bytes) -> Result<(), Failure> {
        if self.is_failed() || self.is_held { Ok(()) } else { self.write(bytes).await }
    }

    async fn write_body(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.body_bytes += bytes.len() as u64;
        if self.is_held {
            let room = MOST_JSON.saturating_sub(self.body.len());
            self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return Ok(());
        }
        if self.is_failed() { Ok(()) } else { self.write(bytes).await }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.progress.received(bytes.len());
        let writer = match (&self.writer, &self.path) {
            (Some(writer), _) => writer.clone(),
            (None, None) => Writer::Stdout,
            (None, Some(path)) => {
                let made = Writer::create(path, &self.budget).await;
                let made = made.map_err(|error| Failure::Open(path.clone(), error))?;
                self.writer.insert(made).clone()
            }
        };
        let name = if self.path.is_some() { "the file" } else { "stdout" };
        writer.write(bytes, &self.budget).await.map_err(|error| Failure::Output(name, error))
    }

    /// More of STDERR.
    pub(super) async fn stderr(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let room = MOST_JSON.saturating_sub(self.stderr.len());
        self.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.is_held {
            return Ok(());
        }
        let escaped = self.escaper.as_mut().map(|escaper| escaper.push(&bytes));
        self.write_stderr(escaped.map_or(bytes, Bytes::from)).await
    }

    /// The end of both.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        if let Some(parser) = self.parser.take() {
            self.head_error = parser.finish().err();
            let pending = std::mem::take(&mut self.pending);
            if !pending.is_empty() {
                self.write_body(pending.into()).await?;
            }
        }
        if self.writer.is_none() && !self.is_failed() {
            self.write(Bytes::new()).await?;
        }
        let rest = self.escaper.as_mut().map(Escaper::finish).unwrap_or_default();
        self.write_stderr(rest.into()).await
    }

    /// Writes a line to stderr.
    pub(super) async fn warn(&mut self, line: String) -> Result<(), Failure> {
        self.write_stderr(line.into()).await
    }

    /// What to write to stderr before a message, so that the message starts on a new line.
    pub(super) fn line_end(&mut self) -> String {
        self.progress.clear();
        let mut rest = self.escaper.as_mut().map(Escaper::finish).unwrap_or_default();
        self.mid_line = rest.chars().last().map_or(self.mid_line, |last| last != '\n');
        if self.mid_line {
            rest.push('\n');
        }
        rest
    }

    /// Does work, and meanwhile writes the records that it shows.
    ///
    /// # Errors
    /// There is no time left.
    pub(super) async fn watch<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut work = pin!(work);
        loop {
            let done = tokio::select! {
                biased;
                () = LINES.some() => None,
                done = &mut work => Some(done),
            };
            let lines = self.lines();
            match self.write_stderr(lines.into()).await {
                Err(error) if error.exit() == Exit::Timeout => return Err(error),
                // Nobody reads them any more.
                _ => {}
            }
            if let Some(done) = done {
                return Ok(done);
            }
        }
    }

    async fn write_stderr(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let Some(last) = bytes.last() else { return Ok(()) };
        self.progress.clear();
        self.mid_line = *last != b'\n';
        let written = Writer::Stderr.write(bytes, &self.budget).await;
        written.map_err(|error| Failure::Output("stderr", error))
    }

    /// The records to show, in colours for a terminal.
    fn lines(&self) -> String {
        let lines = LINES.take();
        let choice = anstream::AutoStream::choice(&io::stderr());
        let lines = match choice {
            anstream::ColorChoice::Never => strip_str(&lines).to_string(),
            _ => lines,
        };
        if self.mid_line && !lines.is_empty() { format!("\n{lines}") } else { lines }
    }
}
