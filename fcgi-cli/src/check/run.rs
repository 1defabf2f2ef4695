//! Runs a case, step by step.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::{Duration, Instant},
};

use fcgi_engine::text::escape;
use fcgi_tokio::{
    self as fcgi, Address, Phase, Rejection,
    proto::{
        pairs::{PairDecoder, PairPiece},
        record::{BODY_LEN, EndRequestBody, RecordType},
    },
};

use super::{
    connection::{Came, Connection, Log, Next},
    steps::{Case, Part, Step},
    wire::Plain,
};
use crate::{
    causes::{self, Cause},
    exit::Exit,
};

/// How long the STDOUT of an answer may be, in bytes.
const MOST: usize = 64 << 20;

/// How a case ended.
pub(super) enum Verdict {
    Pass,
    /// With what was expected and what came, and the bytes.
    Fail {
        why: String,
        sent: Log,
        received: Log,
    },
    Skip(String),
}

/// Why nothing can be checked: a plain request gets no answer.
pub(super) struct Unready {
    pub(super) exit: Exit,
    pub(super) why: String,
    pub(super) cause: Option<Cause>,
}

/// Why a case ended before its last step.
enum Stop {
    Fail(String),
    Skip(String),
}

/// An answer as it came.
#[derive(Default, Debug)]
struct Answer {
    stdout: Vec<u8>,
    stdout_closed: bool,
    stderr: bool,
    stderr_closed: bool,
    end: Vec<u8>,
}

impl Answer {
    fn end(&self) -> Option<EndRequestBody> {
        Some(EndRequestBody::decode(<[u8; BODY_LEN]>::try_from(&*self.end).ok()?))
    }
}

/// The answer to a plain request of some length.
struct Reference {
    status: Option<u16>,
    /// The body, if it is always the same.
    body: Option<Vec<u8>>,
}

/// The application to check.
pub(super) struct Checked {
    address: Address,
    plain: Plain,
    /// The limit of each step.
    limit: Duration,
    references: HashMap<usize, Option<Reference>>,
    keeps: bool,
}

impl Checked {
    pub(super) fn new(address: Address, plain: Plain, limit: Duration) -> Self {
        Self { address, plain, limit, references: HashMap::new(), keeps: false }
    }

    fn until(&self) -> Instant {
        Instant::now() + self.limit
    }

    async fn open(&self) -> Result<Connection, String> {
        let opened = Connection::open(&self.address, self.limit).await;
        opened.map_err(|error| self.not_connected(&error))
    }

    fn not_connected(&self, error: &io::Error) -> String {
        format!("connect to {}: {error}", self.address)
    }

    /// Finds out whether a plain request is answered at all, and whether the connection is kept.
    pub(super) async fn prepare(&mut self) -> Result<(), Unready> {
        let opened = Connection::open(&self.address, self.limit).await;
        let mut connection = opened.map_err(|error| {
            let late = error.kind() == io::ErrorKind::TimedOut;
            let cause = match late {
                true => causes::of(&self.late(Phase::Connect), &self.address),
                false => causes::of_connect(&error, &self.address),
            };
            let exit = if late { Exit::Timeout } else { Exit::Io };
            Unready { exit, why: self.not_connected(&error), cause }
        })?;
        connection.send(&self.plain.encode(&[Part::Request(1, true)]));
        let answered = self.answer(&mut connection, 1).await;
        let ended = answered.and_then(|answer| {
            answer.end().ok_or_else(|| "its END_REQUEST has not 8 bytes".to_owned())
        });
        if let Err(why) = ended {
            let (exit, cause) = match () {
                () if why.ends_with(LATE) => {
                    (Exit::Timeout, causes::of(&self.late(Phase::Response), &self.address))
                }
                () if why.starts_with(CLOSED) => {
                    (Exit::Protocol, Some(causes::closed(&self.address)))
                }
                () if why.starts_with(NO_RECORD) => {
                    (Exit::Protocol, Some(causes::not_fastcgi(&why)))
                }
                () => (Exit::Protocol, None),
            };
            return Err(Unready { exit, why, cause });
        }
        connection.send(&self.plain.encode(&[Part::Request(1, false)]));
        self.keeps = self.answer(&mut connection, 1).await.is_ok();
        Ok(())
    }

    fn late(&self, phase: Phase) -> fcgi::Error {
        fcgi::Error::Timeout { address: self.address.to_string().into(), phase, limit: self.limit }
    }

    pub(super) async fn run(&mut self, case: &Case) -> Verdict {
        if needs_keep(case) && !self.keeps {
            return Verdict::Skip("it does not keep connections (FC-3.5-1)".to_owned());
        }
        let mut connection = match self.open().await {
            Ok(connection) => connection,
            Err(why) => {
                return Verdict::Fail { why, sent: Log::default(), received: Log::default() };
            }
        };
        for step in case.steps {
            match self.step(case, step, &mut connection).await {
                Ok(()) => {}
                Err(Stop::Skip(reason)) => return Verdict::Skip(reason),
                Err(Stop::Fail(why)) => {
                    let Connection { sent, received, .. } = connection;
                    return Verdict::Fail { why, sent, received };
                }
            }
        }
        Verdict::Pass
    }

    async fn step(
        &mut self,
        case: &Case,
        step: &Step,
        connection: &mut Connection,
    ) -> Result<(), Stop> {
        let fail = |why: String| Err(Stop::Fail(why));
        match *step {
            Step::Send(parts) => {
                connection.send(&self.plain.encode(parts));
                // A later step that waits for something sends the rest.
                connection.flush(Instant::now()).await;
                Ok(())
            }
            Step::Trickle(parts) => {
                let until = self.until();
                for byte in self.plain.encode(parts) {
                    connection.send(&[byte]);
                    connection.flush(until).await;
                }
                Ok(())
            }
            Step::HalfClose => {
                connection.flush(self.until()).await;
                connection.half_close();
                Ok(())
            }
            Step::Answer(id) => {
                let answer = self.answer(connection, id).await.map_err(Stop::Fail)?;
                self.compare(case, id, &answer).await.map_err(Stop::Fail)
            }
            Step::Both(first, second) => {
                let (one, other) = self.both(connection, first, second).await?;
                self.compare(case, first, &one).await.map_err(Stop::Fail)?;
                match other.end().map(|end| Rejection::from_u8(end.protocol_status)) {
                    Some(Some(Rejection::CantMpxConn | Rejection::Overloaded)) => Ok(()),
                    _ => self.compare(case, second, &other).await.map_err(Stop::Fail),
                }
            }
            Step::Ends(id) => self.answer(connection, id).await.map(drop).map_err(Stop::Fail),
            Step::InRole(id) => {
                let answer = self.answer(connection, id).await;
                let ended = answer.as_ref().ok().and_then(Answer::end);
                match (answer, ended) {
                    (_, Some(end)) if end.protocol_status == 3 => {
                        Err(Stop::Skip("the application does not offer this role".to_owned()))
                    }
                    (_, Some(end)) if end.protocol_status == 0 => Ok(()),
                    (Ok(_), _) => fail("expected REQUEST_COMPLETE or UNKNOWN_ROLE".to_owned()),
                    (Err(why), _) if why.starts_with(CLOSED) => Err(Stop::Skip(
                        "the application does not offer this role: it closed the connection"
                            .to_owned(),
                    )),
                    (Err(why), _) => fail(why),
                }
            }
            Step::Refused(id, status) => {
                let answer = self.answer(connection, id).await.map_err(Stop::Fail)?;
                match answer.end() {
                    Some(end) if end.protocol_status == status => Ok(()),
                    Some(end) => fail(format!(
                        "expected protocol status {status}, and {} came",
                        end.protocol_status
                    )),
                    None => fail("END_REQUEST has not 8 bytes".to_owned()),
                }
            }
            Step::Closed => {
                let until = self.until();
                loop {
                    match connection.next(until).await {
                        Next::Record(_) => {}
                        Next::Closed { .. } => return Ok(()),
                        Next::Silence => {
                            return fail(
                                "expected the end of the connection: it stays open".into(),
                            );
                        }
                        Next::Broken(what) => return fail(what),
                    }
                }
            }
            Step::EndsOrCloses(id) => match self.answer(connection, id).await {
                Err(why) if !why.starts_with(CLOSED) => fail(why),
                _ => Ok(()),
            },
            Step::Values(names) => {
                let record = self.management(connection, RecordType::GetValuesResult).await?;
                values(&record.content, names).map_err(Stop::Fail)
            }
            Step::UnknownType(kind) => {
                let record = self.management(connection, RecordType::UnknownType).await?;
                if record.content.first() == Some(&kind) && record.content.len() == BODY_LEN {
                    return Ok(());
                }
                fail(format!("expected UNKNOWN_TYPE of type {kind} in 8 bytes"))
            }
            Step::ReservedZero(id) => {
                let answer = self.answer(connection, id).await.map_err(Stop::Fail)?;
                match answer.end.get(5..) {
                    Some([0, 0, 0]) => Ok(()),
                    _ => fail("END_REQUEST's reserved bytes are not zero".to_owned()),
                }
            }
            Step::StreamsClosed(id) => {
                let answer = self.answer(connection, id).await.map_err(Stop::Fail)?;
                match (answer.stdout_closed, answer.stderr == answer.stderr_closed) {
                    (true, true) => Ok(()),
                    (false, _) => fail("STDOUT has no end before END_REQUEST".to_owned()),
                    (_, false) => fail("STDERR has no end before END_REQUEST".to_owned()),
                }
            }
            Step::Serves => {
                // Earlier bytes are still being sent meanwhile.
                let mut other = self.open().await.map_err(Stop::Fail)?;
                other.send(&self.plain.encode(&[Part::Request(1, false)]));
                let flushed = connection.flush(self.until());
                let (_, answer) = tokio::join!(flushed, self.answer(&mut other, 1));
                let answer = answer.map_err(|why| {
                    Stop::Fail(format!("a plain request on another connection: {why}"))
                })?;
                self.compare_with(0, &answer).await.map_err(Stop::Fail)
            }
        }
    }

    /// The answer to one request; nothing else may come.
    async fn answer(&self, connection: &mut Connection, id: u16) -> Result<Answer, String> {
        let mut answers = BTreeMap::from([(id, Answer::default())]);
        self.answers(connection, &mut answers).await?;
        answers.remove(&id).ok_or_else(|| "no answer".to_owned())
    }

    async fn both(
        &self,
        connection: &mut Connection,
        first: u16,
        second: u16,
    ) -> Result<(Answer, Answer), Stop> {
        let mut answers = BTreeMap::from([first, second].map(|id| (id, Answer::default())));
        self.answers(connection, &mut answers).await.map_err(Stop::Fail)?;
        match (answers.remove(&first), answers.remove(&second)) {
            (Some(one), Some(other)) => Ok((one, other)),
            _ => Err(Stop::Fail("no answer".to_owned())),
        }
    }

    async fn answers(
        &self,
        connection: &mut Connection,
        answers: &mut BTreeMap<u16, Answer>,
    ) -> Result<(), String> {
        let until = self.until();
        while answers.values().any(|answer| answer.end.is_empty()) {
            let came = match connection.next(until).await {
                Next::Record(came) => came,
                other => return Err(missing(&other, "END_REQUEST")),
            };
            let Some(answer) = answers.get_mut(&came.id).filter(|answer| answer.end.is_empty())
            else {
                return Err(format!("{} of id {} came, which has no request", came.kind, came.id));
            };
            let is_end = came.content.is_empty();
            match came.kind {
                RecordType::Stdout if answer.stdout_closed => {
                    return Err("STDOUT goes on after its end".to_owned());
                }
                RecordType::Stdout if answer.stdout.len() > MOST => {
                    return Err(format!("STDOUT has more than {} MiB", MOST >> 20));
                }
                RecordType::Stdout => {
                    answer.stdout_closed = is_end;
                    answer.stdout.extend(came.content);
                }
                RecordType::Stderr => {
                    answer.stderr |= !is_end;
                    answer.stderr_closed = is_end && answer.stderr;
                }
                RecordType::EndRequest if is_end => return Err("END_REQUEST is empty".to_owned()),
                RecordType::EndRequest => answer.end = came.content,
                kind => return Err(format!("{kind} came within an answer")),
            }
        }
        Ok(())
    }

    /// The next management record.
    async fn management(
        &self,
        connection: &mut Connection,
        kind: RecordType,
    ) -> Result<Came, Stop> {
        match connection.next(self.until()).await {
            Next::Record(came) if came.kind == kind && came.id == 0 => Ok(came),
            Next::Record(came) => Err(Stop::Fail(format!(
                "expected {kind} with id 0, and {} with id {} came",
                came.kind, came.id
            ))),
            other => Err(Stop::Fail(missing(&other, &kind.to_string()))),
        }
    }

    /// Compares an answer with that to a plain request.
    async fn compare(&mut self, case: &Case, id: u16, answer: &Answer) -> Result<(), String> {
        match length_of(case, id) {
            Some(length) => self.compare_with(length, answer).await,
            None => complete(answer),
        }
    }

    async fn compare_with(&mut self, length: usize, answer: &Answer) -> Result<(), String> {
        complete(answer)?;
        if !self.references.contains_key(&length) {
            let reference = self.reference(length).await;
            self.references.insert(length, reference);
        }
        let Some(Some(reference)) = self.references.get(&length) else { return Ok(()) };
        let (status, body) = parts(&answer.stdout);
        if reference.status != status {
            let shown =
                |status: Option<u16>| status.map_or_else(|| "none".into(), |s| s.to_string());
            return Err(format!(
                "expected status {} as for a plain request, and {} came",
                shown(reference.status),
                shown(status)
            ));
        }
        let Some(expected) = reference.body.clone().filter(|expected| expected != body) else {
            return Ok(());
        };
        // The page may change with time.
        let now = self.reference(length).await;
        let is_still = now.is_some_and(|now| now.body.as_ref() == Some(&expected));
        if !is_still {
            let changes = Some(Reference { status, body: None });
            self.references.insert(length, changes);
            return Ok(());
        }
        Err(format!(
            "the body is not that of a plain request: {} bytes instead of {}, different from byte {}",
            body.len(),
            expected.len(),
            expected.iter().zip(body).take_while(|(a, b)| a == b).count()
        ))
    }

    /// Asks twice, to find out what is always the same.
    async fn reference(&self, length: usize) -> Option<Reference> {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut connection = self.open().await.ok()?;
            let part = match length {
                0 => Part::Request(1, false),
                length => Part::Post(1, false, length),
            };
            connection.send(&self.plain.encode(&[part]));
            seen.push(self.answer(&mut connection, 1).await.ok()?.stdout);
        }
        let (status, first) = parts(seen.first()?);
        let (_, last) = parts(seen.last()?);
        Some(Reference { status, body: (first == last).then(|| first.to_vec()) })
    }
}

const LATE: &str = " did not come in time";
const CLOSED: &str = "the connection was closed";
const NO_RECORD: &str = "no record came";

fn missing(next: &Next, what: &str) -> String {
    match next {
        Next::Closed { reset, whole } => {
            let how = if *reset { "reset" } else { "closed" };
            let within = if *whole { "" } else { " within a record" };
            // Both messages start alike.
            format!("{CLOSED}{within} ({how}) before {what}")
        }
        Next::Silence => format!("{what}{LATE}"),
        Next::Broken(error) => format!("{NO_RECORD}: {error}"),
        Next::Record(came) => format!("{} came instead of {what}", came.kind),
    }
}

/// Whether the request ended well, with something to show.
fn complete(answer: &Answer) -> Result<(), String> {
    let Some(end) = answer.end() else {
        return Err(format!("END_REQUEST has {} bytes instead of 8", answer.end.len()));
    };
    if end.protocol_status != 0 {
        let status = Rejection::from_u8(end.protocol_status)
            .map_or_else(|| end.protocol_status.to_string(), |rejection| rejection.to_string());
        return Err(format!("expected REQUEST_COMPLETE, and {status} came"));
    }
    if answer.stdout.is_empty() {
        return Err("expected an answer, and STDOUT is empty".to_owned());
    }
    Ok(())
}

/// The status and the body. The rest of the head may contain the time.
fn parts(stdout: &[u8]) -> (Option<u16>, &[u8]) {
    let mut head = crate::tap::mask::Head::new();
    head.apply(&mut stdout.to_vec(), false);
    let body = ["\r\n\r\n", "\n\n"].iter().filter_map(|end| {
        let at = stdout.windows(end.len()).position(|window| window == end.as_bytes())?;
        Some(&stdout[at + end.len()..])
    });
    (head.status(), body.max_by_key(|body| body.len()).unwrap_or(stdout))
}

/// Checks the values: only known names that were asked for, each once, with a number.
fn values(mut content: &[u8], names: &[&str]) -> Result<(), String> {
    let mut decoder = PairDecoder::new();
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    while let (used, Some(piece)) = decoder.next(content) {
        content = &content[used..];
        match (piece, pairs.last_mut()) {
            (PairPiece::Lengths { .. }, _) => pairs.push(Default::default()),
            (PairPiece::Name(bytes), Some(pair)) => pair.0.extend_from_slice(bytes),
            (PairPiece::Value(bytes), Some(pair)) => pair.1.extend_from_slice(bytes),
            (_, None) => {}
        }
    }
    if !decoder.is_at_boundary() {
        return Err("the result ends within a pair".to_owned());
    }
    if pairs.is_empty() && !names.is_empty() {
        return Err("the result holds none of the names that were asked for".to_owned());
    }
    for (n, (name, value)) in pairs.iter().enumerate() {
        let shown = format!("{}={}", escape(name, b""), escape(value, b""));
        if !names.iter().any(|known| known.as_bytes() == name) {
            return Err(format!("{shown} was not asked for, or is not known"));
        }
        if pairs[..n].iter().any(|(before, _)| before == name) {
            return Err(format!("{shown} comes twice"));
        }
        let text = std::str::from_utf8(value).unwrap_or_default();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_flag = name != b"FCGI_MPXS_CONNS" || matches!(text, "0" | "1");
        if !is_number || !is_flag {
            return Err(format!("{shown} is no value for it (FC-4.1-2)"));
        }
    }
    Ok(())
}

/// The length of a request's body, if a plain request can have it; `None` if the case sets its own
/// parameters.
fn length_of(case: &Case, id: u16) -> Option<usize> {
    fn of(parts: &[Part], wanted: u16) -> Option<Option<usize>> {
        parts.iter().rev().find_map(|part| match *part {
            Part::Request(id, _) | Part::ParamsCut(id, _) | Part::ParamsLong(id)
                if id == wanted =>
            {
                Some(Some(0))
            }
            Part::Post(id, _, length) | Part::Params(id, length) if id == wanted => {
                Some(Some(length))
            }
            Part::ParamsAnd(id, _) | Part::ParamsNoLength(id) if id == wanted => Some(None),
            Part::Times(_, parts)
            | Part::Padded(_, parts)
            | Part::PaddedEnds(_, parts)
            | Part::Reserved(parts)
            | Part::Version(_, parts) => of(parts, wanted),
            _ => None,
        })
    }
    let sent = case.steps.iter().rev().find_map(|step| match step {
        Step::Send(parts) | Step::Trickle(parts) => of(parts, id),
        _ => None,
    });
    sent.flatten()
}

/// Whether a case sends more after an answer, which requires a kept connection. Another case tests
/// that connections are kept.
fn needs_keep(case: &Case) -> bool {
    let ended = |step: &Step| {
        matches!(step, Step::Answer(_) | Step::Refused(..) | Step::Ends(_) | Step::Both(..))
    };
    let after = case.steps.iter().skip_while(|step| !ended(step));
    case.id != "FC-3.5-1" && after.clone().any(|step| matches!(step, Step::Send(_)))
}
