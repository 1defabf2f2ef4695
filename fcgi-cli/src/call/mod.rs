//! `fcgi call`: one request to an application.

mod body;
mod failure;
mod options;
mod output;
mod progress;
mod request;
mod watched;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_driver::{
    client::{Chunk, Connector, Request},
    runtime::Runtime,
};
use fcgi_tokio::{self as fcgi, Address, Phase, proto};
use serde_json::{Map, Value};

use failure::Failure;
pub(crate) use options::Call;
use output::Output;
use request::Destination;
use watched::Watched;

use crate::{
    ask::Answer,
    budget::Budget,
    causes::{self, Cause},
    exit::Exit,
    report::Report,
    signals::signalled,
    writer,
};

/// What was seen during the call.
#[derive(Default)]
struct Seen {
    connected: Option<Duration>,
    first_byte: Option<Duration>,
    /// SCRIPT_FILENAME, as it was sent.
    script: String,
}

impl Call {
    pub(crate) async fn run(self) -> ExitCode {
        let to = match self.destination() {
            Ok(to) => to,
            Err(failure) => {
                let report = Report::new("call", failure.exit(), failure.message(&""));
                return report.finish(self.form, false);
            }
        };
        let budget = Budget::new(self.limit());
        let mut output = Output::new(&self, to.path.is_some(), budget);
        let mut seen = Seen::default();
        let called = tokio::select! {
            called = self.call(&to, &budget, &mut output, &mut seen) => called,
            // Dropping the call aborts the request.
            (name, number) = signalled() => {
                let end = output.line_end();
                let line = format!("{end}fcgi call: {}: request aborted by {name}", to.address);
                writer::last_line(line).await;
                return ExitCode::from(128 + number);
            }
        };
        let mut end = output.line_end();
        if called.is_ok() && !output.is_held() && causes::is_body_too_large(&output.stderr) {
            let (address, cause) = (&to.address, causes::body_too_large());
            end.push_str(&format!("fcgi call: {address}: warning: {cause}\n"));
        }
        let form = self.form;
        let report = self.report(&to, called, &output, &seen, &budget);
        let exit = report.as_ref().map_or(Exit::Done, Report::exit);
        let print = move || {
            // A failure of stderr can't be reported anywhere.
            let _ = io::stderr().write_all(end.as_bytes());
            report.map_or(ExitCode::SUCCESS, |report| report.finish_unless_done(form))
        };
        tokio::select! {
            code = writer::end(&budget, form, exit, print) => code,
            (_, number) = signalled() => ExitCode::from(128 + number),
        }
    }

    async fn call(
        &self,
        to: &Destination,
        budget: &Budget,
        output: &mut Output,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        // The request comes before the connection, so that no worker waits for a pipe.
        let request =
            budget.hold(&to.address, Phase::Stdin, async { Ok(self.request(to, output).await) });
        let request = request.await??;
        if let Some((name, length)) = request::too_long(&request.begin().params) {
            let warning = format!(
                "fcgi call: {}: warning: the parameter {name} has {length} bytes; php-fpm takes \
                 none that is longer than a record, and closes the connection\n",
                to.address
            );
            output.warn(warning).await?;
        }
        seen.script =
            request.begin().params.get_str("SCRIPT_FILENAME").unwrap_or_default().to_owned();
        if self.verbose {
            self.exchange::<Watched>(to, request, budget, output, seen).await
        } else {
            self.exchange::<fcgi::Tokio>(to, request, budget, output, seen).await
        }
    }

    async fn exchange<R: Runtime>(
        &self,
        to: &Destination,
        request: Request,
        budget: &Budget,
        output: &mut Output,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        let address = &to.address;
        let started = Instant::now();
        let connecting = self.connecting(budget);
        let connector = Connector::<R>::new()
            .connect_timeout(None)
            .first_byte_timeout(None)
            .next_byte_timeout(None)
            .total_timeout(None);
        let mut client =
            connecting.hold(address, Phase::Connect, connector.connect(address)).await?;
        seen.connected = Some(started.elapsed());
        let sent = budget.hold(address, Phase::FirstByte, client.send(request));
        let mut response = output.watch(sent).await??;
        seen.first_byte = Some(started.elapsed());
        loop {
            let chunk = budget.hold(address, Phase::Response, response.chunk());
            match output.watch(chunk).await?? {
                Some(Chunk::Stdout(bytes)) => output.stdout(bytes).await?,
                Some(Chunk::Stderr(bytes)) => output.stderr(bytes).await?,
                None => break,
            }
        }
        output.finish().await?;
        if output.is_failed() {
            let answer = output.answer();
            return Err(Failure::Unwanted(
                answer.map(|answer| answer.status_line()).unwrap_or_default(),
            ));
        }
        match (response.app_status(), &output.head_error) {
            (None | Some(0), None) => Ok(()),
            (None | Some(0), Some(error)) => Err(Failure::Head(error.clone())),
            (Some(status), _) => Err(Failure::Status(status)),
        }
    }

    async fn request(&self, to: &Destination, output: &Output) -> Result<Request, Failure> {
        let role = fcgi::Role::from(self.role);
        let mut request = Request::new(role).keep_conn(self.keep_conn);
        let given = self.params.iter().any(|(name, _)| name == b"CONTENT_LENGTH");
        let mut body = self.body().await?;
        // An Authorizer has no body, and with a given length the body is sent as it comes.
        let is_sent = role.has_input(proto::Input::Stdin);
        let needs_length = is_sent && !given;
        if let (Some(body), true) = (&mut body, needs_length) {
            let name = self.stdin.clone().unwrap_or_else(|| PathBuf::from("-F"));
            let input =
                std::mem::replace(&mut body.input, crate::input::Input::bytes(Bytes::new()));
            let measured = input.measured(self.max_stdin).await;
            body.input = measured.map_err(|error| Failure::File(name, error))?;
        }
        let length = body.as_ref().filter(|_| needs_length).and_then(|body| body.input.length);
        let content_type = body.as_ref().and_then(|body| body.content_type.as_deref());
        let params = self.parameters(to.path.as_deref(), body.is_some(), length, content_type)?;
        request = request.params(&params);
        if let Some(body) = body {
            if let (Some(length), None) = (length, &to.path) {
                request = request.param("CONTENT_LENGTH", length.to_string());
            }
            let progress = Arc::clone(&output.progress);
            request = request.stdin(body.input.into_body(move |bytes| progress.sent(bytes)));
        }
        if let Some(path) = &self.data {
            request = request.data(body::open(path)?.into_body(|_| {}));
        }
        Ok(request)
    }

    fn report(
        &self,
        to: &Destination,
        called: Result<(), Failure>,
        output: &Output,
        seen: &Seen,
        budget: &Budget,
    ) -> Option<Report> {
        let address = &to.address;
        let answer = output.answer();
        let report = match called {
            Ok(()) => {
                let status = answer.as_ref().map(Answer::status_line).unwrap_or_default();
                Report::new("call", Exit::Done, format!("{status} from {address}"))
            }
            Err(Failure::Output(_, error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return None;
            }
            Err(failure) => {
                let cause = self.cause(&failure, address, output, seen);
                Report::new("call", failure.exit(), failure.message(address)).cause(cause)
            }
        };
        let mut report = report.address(address).duration("time", budget.elapsed(), self.limit());
        for (name, time) in [("connect", seen.connected), ("first_byte", seen.first_byte)] {
            if let Some(time) = time {
                report = report.field_ms(name, time);
            }
        }
        if let Some(answer) = &answer {
            report = report.field("status", answer.head.parts.status.as_u16());
            report = report.field("headers", headers(&answer.head.parts.headers));
        }
        report = report
            .field("body_bytes", output.body_bytes)
            .field("body", String::from_utf8_lossy(&output.body).into_owned())
            .field("stderr", String::from_utf8_lossy(&output.stderr).into_owned());
        Some(report)
    }

    fn cause(
        &self,
        failure: &Failure,
        address: &Address,
        output: &Output,
        seen: &Seen,
    ) -> Option<Cause> {
        match (failure, output.answer()) {
            (Failure::Fcgi(error), _) => causes::of(error, address),
            (Failure::Unwanted(_), Some(answer)) => causes::of_answer(&answer, &seen.script),
            (Failure::Head(_), _) => Some(causes::no_head(output.body_bytes == 0, &output.stderr)),
            _ => None,
        }
    }
}

impl Output {
    /// The part of the answer that was kept.
    fn answer(&self) -> Option<Answer> {
        let head = self.head.clone()?;
        Some(Answer {
            head,
            body: self.body.clone().into(),
            stderr: self.stderr.clone().into(),
            app_status: 0,
        })
    }
}

/// Each name with its value, or with its values if there are several.
fn headers(headers: &http::HeaderMap) -> Value {
    let text = |value: &http::HeaderValue| {
        Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let names = headers.keys().map(|name| {
        let mut values: Vec<Value> = headers.get_all(name).iter().map(text).collect();
        let value = if values.len() == 1 { values.remove(0) } else { values.into() };
        (name.as_str().to_owned(), value)
    });
    names.collect::<Map<_, _>>().into()
}
