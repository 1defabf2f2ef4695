//! `fcgi decode`: prints a recording, or the bytes of a connection, like a tap.

mod capture;
mod connections;

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{self, BufReader, BufWriter, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use clap::Args;
use fcgi_tokio::proto::record::{Framer, HEADER_LEN, Piece, RecordHeader};

use crate::{
    complain,
    exit::Exit,
    report::{Form, Report},
    tap::{
        Show,
        exchange::{Outcome, Time},
        filters,
        watch::{Clock, Outputs, Watch},
    },
    trace::Direction,
};
use capture::{Capture, Kind};
use connections::Connections;

/// Print a recording, or the bytes of a connection
///
/// Reads recordings of `fcgi tap --write`, and captures of tcpdump and Wireshark (pcapng or pcap),
/// and prints them like the tap does. Any other file is taken as the bytes of a connection, in one
/// direction or both, and each record is shown.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Decode {
    /// The recording, or - for stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    show: Show,
}

const AFTER_HELP: &str = concat!(
    filters!(),
    "

Exit status:
  0  done
  2  usage, or a file that can't be opened
  4  the file has no FastCGI, or ends within a record

Examples:
  The requests of a recording that failed:
    fcgi decode day.pcapng --filter 'status>=500'
  Every record of a capture from the network:
    tcpdump -i lo -w - port 9000 | fcgi decode -v -
  Bytes that were saved from a socket:
    fcgi decode request.bin"
);

/// How much is read at once.
const BLOCK: usize = 64 * 1024;

/// Why it failed.
struct Failed(Exit, String);

impl Decode {
    pub(crate) fn run(self) -> ExitCode {
        let file = self.file.display();
        let (exit, message) = match self.decode() {
            Ok(()) => (Exit::Done, format!("{file}: read to its end")),
            Err(Failed(exit, message)) => (exit, format!("{file}: {message}")),
        };
        // If stdout takes nothing, only stderr is left.
        if self.show.json && exit != Exit::Io {
            let form = Form { json: true, ..Form::default() };
            return Report::new("decode", exit, message).field("event", "end").finish(form, false);
        }
        if exit != Exit::Done {
            complain(&format!("fcgi decode: {message}"));
        }
        exit.into()
    }

    fn decode(&self) -> Result<(), Failed> {
        let unreadable = |error: io::Error| Failed(Exit::Usage, error.to_string());
        let mut from: Box<dyn Read> = if self.file == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(&self.file).map_err(unreadable)?)
        };
        // Enough to find out what it is.
        let mut start = Vec::new();
        from.by_ref().take(HEADER_LEN as u64).read_to_end(&mut start).map_err(unreadable)?;
        let kind = Kind::of(&start);
        let from = BufReader::with_capacity(BLOCK, io::Cursor::new(start).chain(from));
        let out = Rc::new(Out::new());
        let decoded = match kind {
            Kind::Raw => self.raw(from, &out),
            kind => self.capture(from, kind, &out),
        };
        match out.finish() {
            // The reader of stdout has closed it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failed(Exit::Io, format!("write to stdout: {error}"))),
            Ok(()) => decoded,
        }
    }

    /// The outputs of requests and records; `start` is the time 0 of the printed times.
    fn outputs(&self, start: Time, records: bool, out: &Rc<Out>) -> Rc<Outputs> {
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let (out, name) = (Rc::clone(out), self.file.display().to_string());
        let mut report = self.show.report(start, colour, Box::new(move |line| out.line(&line)));
        report.records |= records;
        Rc::new(Outputs {
            report,
            show_secrets: self.show.show_secrets,
            record: None,
            page: None,
            complain: Box::new(move |line| complain(&format!("fcgi decode: {name}: {line}"))),
            requests: Cell::new(0),
            copy: Cell::default(),
        })
    }

    fn capture(&self, from: impl Read, kind: Kind, out: &Rc<Out>) -> Result<(), Failed> {
        let broken = |error: io::Error| Failed(Exit::Protocol, error.to_string());
        let mut capture = Capture::new(from, kind).map_err(broken)?;
        let mut connections: Option<Connections> = None;
        let mut last = Time::ZERO;
        let mut packets = 0_u64;
        let ended = loop {
            let packet = match capture.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            packets += 1;
            last = packet.time;
            let connections =
                connections.get_or_insert_with(|| Connections::new(self.outputs(last, false, out)));
            if let Some(segment) = packet.segment() {
                connections.segment(&segment, last);
            }
            if out.failed() {
                return Ok(());
            }
        };
        let ended = ended.map_err(broken).and_then(|()| match capture.is_cut() {
            true => Err(Failed(Exit::Protocol, "it ends within a packet".to_owned())),
            false => Ok(()),
        });
        let Some(mut connections) = connections else {
            ended?;
            // A tap that saw nothing leaves an empty recording.
            return Ok(());
        };
        connections.finish(last);
        let told = |count: u64, what: &str| {
            if count > 0 {
                complain(&format!("fcgi decode: {}: {count} {what}", self.file.display()));
            }
        };
        told(connections.gaps, "times bytes are missing between packets");
        told(connections.foreign, "connections hold no FastCGI");
        ended?;
        if connections.count() == 0 && connections.foreign == 0 {
            let what = format!("there is no FastCGI in its {packets} packets");
            return Err(Failed(Exit::Protocol, what));
        }
        Ok(())
    }

    /// Bytes of one direction, or of both in turn: each record's type shows its direction.
    fn raw(&self, mut from: impl Read, out: &Rc<Out>) -> Result<(), Failed> {
        let outputs = self.outputs(Duration::ZERO, true, out);
        let mut watch = Watch::new(1, Clock::start(), outputs, None);
        let mut framer = Framer::new();
        let mut block = vec![0; BLOCK];
        // The record so far: it is passed on when it is complete.
        let mut record = Vec::new();
        let mut header: Option<RecordHeader> = None;
        // How much was read, where the last record started, and where the next one does.
        let (mut total, mut start, mut next) = (0_u64, 0_u64, 0_u64);
        loop {
            let n = match from.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failed(Exit::Usage, error.to_string())),
            };
            let mut rest = &block[..n];
            loop {
                let (used, piece) = framer.next(rest, usize::MAX).map_err(|error| {
                    Failed(Exit::Protocol, format!("no record at byte {next}: {error}"))
                })?;
                total += used as u64;
                record.extend_from_slice(&rest[..used]);
                rest = &rest[used..];
                match piece {
                    Some(Piece::Header(found)) => {
                        header = Some(found);
                        let length =
                            u64::from(found.content_length) + u64::from(found.padding_length);
                        start = next;
                        next = start + HEADER_LEN as u64 + length;
                    }
                    Some(Piece::Content(_)) => {}
                    Some(Piece::End) => {
                        if let Some(header) = header.take() {
                            // Padding that comes later is skipped before the next record.
                            let direction = Direction::of(header.record_type);
                            let padding = vec![0; usize::from(header.padding_length)];
                            let from =
                                record.len() - usize::from(header.content_length) - HEADER_LEN;
                            let whole = [&record[from..], &padding].concat();
                            watch.bytes_at(direction, &whole, Duration::ZERO);
                            record.clear();
                        }
                    }
                    None => break,
                }
            }
            if out.failed() {
                return Ok(());
            }
        }
        watch.cut(Outcome::Open, Duration::ZERO);
        if total == 0 {
            return Err(Failed(Exit::Protocol, "there is no FastCGI in an empty file".to_owned()));
        }
        if framer.is_at_boundary() {
            return Ok(());
        }
        let at = if total > next { next } else { start };
        Err(Failed(Exit::Protocol, format!("it breaks off in the record at byte {at}")))
    }
}

/// stdout, and the result of writing to it.
struct Out {
    to: RefCell<BufWriter<io::Stdout>>,
    error: RefCell<Option<io::Error>>,
    at_once: bool,
}

impl Out {
    fn new() -> Self {
        let at_once = io::stdout().is_terminal();
        let to = RefCell::new(BufWriter::new(io::stdout()));
        Self { to, error: RefCell::default(), at_once }
    }

    fn failed(&self) -> bool {
        self.error.borrow().is_some()
    }

    fn line(&self, line: &str) {
        if self.failed() {
            return;
        }
        let mut to = self.to.borrow_mut();
        let written = writeln!(to, "{line}");
        let written = written.and_then(|()| if self.at_once { to.flush() } else { Ok(()) });
        self.error.replace(written.err());
    }

    fn finish(&self) -> io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.to.borrow_mut().flush(),
        }
    }
}
