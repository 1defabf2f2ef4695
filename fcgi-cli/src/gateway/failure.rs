//! The gateway's own answers, each with its reason.

use std::{error, io, iter};

use fcgi_engine::{
    Error,
    text::{chain, escape},
};
use fcgi_tokio::http::{HttpError, ParamsError, ScriptError};
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use rustix::io::Errno;

use super::{
    balance::Failed,
    body::{Body, Left, full},
    log::Id,
    not_found::NotFound,
};

/// What clients read if the application can't be reached.
pub(super) const UNREACHABLE: &str = "the application can't be reached";

/// Why a request gets no answer from the application.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) reason: String,
    /// Replaces the reason for clients, who must not see the application's address or the system's
    /// error.
    page: Option<String>,
    /// Only for the error log.
    pub(super) hint: Option<String>,
    /// The methods in Allow, if it is not `GET, HEAD`.
    allowed: Option<&'static str>,
    /// The client has left while it was sending its request.
    has_left: bool,
}

impl Failure {
    pub(super) fn new(status: StatusCode, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        Self { status, reason, page: None, hint: None, allowed: None, has_left: false }
    }

    /// Refuses a method for a script, which may take any other one.
    pub(super) fn not_for_script(reason: impl ToString) -> Self {
        let allowed = Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        Self { allowed, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, reason) }
    }

    /// Sets a reason for clients that differs from the one in the error log.
    pub(super) fn shown_as(self, page: impl ToString) -> Self {
        Self { page: Some(page.to_string()), ..self }
    }

    /// Adds a hint for the error log.
    pub(super) fn hinted(self, hint: impl ToString) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    /// What the error log says, if the failure concerns the operator.
    pub(super) fn logged(&self) -> Option<String> {
        match &self.hint {
            Some(hint) => Some(format!("{}: {hint}", self.reason)),
            None => self.status.is_server_error().then(|| self.reason.clone()),
        }
    }

    /// The status, the reason and the request's name in the logs, as text for clients.
    pub(super) fn to_text(&self, id: Id) -> String {
        let reason = self.page.as_ref().unwrap_or(&self.reason);
        format!("{}\n{}\nrequest {id}\n", self.status, escape(reason.as_bytes(), b""))
    }

    /// A page of plain text.
    pub(super) fn into_response(self, id: Id) -> Response<Body> {
        let mut response = Response::new(full(self.to_text(id)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = self.allowed.unwrap_or("GET, HEAD");
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if self.has_left {
            response.extensions_mut().insert(Left);
        }
        response
    }
}

impl From<Failed> for Failure {
    fn from(Failed { error, cause }: Failed) -> Self {
        Self { hint: cause, ..error.into() }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let cause: Option<&(dyn error::Error + 'static)> = match &error {
            HttpError::RequestBody(source) => Some(&**source),
            HttpError::Call(Error::Body { source, .. }) => Some(source),
            _ => None,
        };
        let is_late = cause.is_some_and(is_timeout);
        let status = match error.status() {
            _ if is_late => StatusCode::REQUEST_TIMEOUT,
            _ if is_of_shortage(&error) => StatusCode::SERVICE_UNAVAILABLE,
            status => status,
        };
        let has_left = cause.is_some_and(has_left);
        let page = status.is_server_error().then(|| for_clients(&error));
        Self { has_left, page, ..Self::new(status, error.report()) }
    }
}

/// What clients read about an error that is not their own.
fn for_clients(error: &HttpError) -> String {
    let text = match error {
        _ if is_of_shortage(error) => "the gateway has no files or no memory left",
        _ if error.is_connect() => UNREACHABLE,
        HttpError::Head { .. } | HttpError::Body { .. } => "the application's answer can't be read",
        HttpError::AppStatus { .. } => "the application failed",
        HttpError::Redirects { .. } => "the application redirects again and again",
        HttpError::AfterRedirect(error) => return for_clients(error),
        HttpError::Call(Error::Timeout { phase, limit, .. }) => {
            return format!("no {phase} within {limit:?}");
        }
        HttpError::Call(Error::PoolFull { waiting, .. }) => {
            return format!("{waiting} requests wait for a connection already");
        }
        HttpError::Call(Error::Rejected { rejection, .. }) => {
            return format!("the application refused the request with {rejection}");
        }
        HttpError::Call(Error::Truncated { .. }) => {
            "the application's connection closed before the request ended"
        }
        HttpError::Call(Error::Io { .. }) => "the application's connection broke",
        HttpError::Call(Error::Protocol { .. }) => "the application does not keep to FastCGI",
        _ => "the request could not be passed on",
    };
    text.to_owned()
}

/// Whether the client's connection, or its stream, ended within the body.
fn has_left(error: &(dyn error::Error + 'static)) -> bool {
    iter::successors(Some(error), |error| error.source()).any(|error| {
        let broken = |error: &io::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
        };
        let http = error.downcast_ref::<hyper::Error>();
        http.is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
            || error.downcast_ref().is_some_and(broken)
    })
}

/// Whether this is or wraps an IO error of this kind: the client was too slow with its body.
fn is_timeout(error: &(dyn error::Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<io::Error>() else { return false };
    let inner = error.get_ref().map(|inner| inner as &(dyn error::Error + 'static));
    error.kind() == io::ErrorKind::TimedOut || inner.is_some_and(is_timeout)
}

impl From<ParamsError> for Failure {
    fn from(error: ParamsError) -> Self {
        Self::new(error.status(), chain(&error))
    }
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Self {
        Self::new(error.status(), error)
    }
}

impl From<NotFound> for Failure {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Script(error) => error.into(),
            NotFound::Failed(error) => {
                let status = if is_shortage(&error) {
                    StatusCode::SERVICE_UNAVAILABLE
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                Self::new(status, format!("look for the file: {error}"))
                    .shown_as("it can't be looked for now")
            }
            NotFound::Folder(names) => {
                let reason = match &names[..] {
                    [] => "the folder has no index".to_owned(),
                    names => format!("the folder has no index: no {}", names.join(", no ")),
                };
                Self::new(StatusCode::NOT_FOUND, reason)
            }
            NotFound::NoFront(index) => Self::from(ScriptError::NotFound).hinted(format!(
                "with --front {index}, {index} would answer all paths that are not files"
            )),
            NotFound::NoMount(why) => Self::from(*why)
                .hinted("an application that is not a script needs --mount /; scripts need --root"),
            NotFound::Outside(link) => Self {
                hint: Some(format!(
                    "{} is a link out of the root, which --follow-links allows",
                    link.display()
                )),
                ..ScriptError::NotFound.into()
            },
            NotFound::Denied => Self::new(StatusCode::FORBIDDEN, "the path is denied"),
            NotFound::FilesOnly => {
                Self::new(StatusCode::NOT_FOUND, "there are only files here, and this is none")
            }
            NotFound::Wait => Self::new(StatusCode::SERVICE_UNAVAILABLE, "the disk is slow"),
        }
    }
}

/// Whether the gateway has run out of descriptors or memory, which may pass.
fn is_shortage(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Whether an error was caused by that.
fn is_of_shortage(error: &(dyn error::Error + 'static)) -> bool {
    iter::successors(Some(error), |error| error.source())
        .any(|error| error.downcast_ref().is_some_and(is_shortage))
}
