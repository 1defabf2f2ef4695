//! One request of a client, from its head to its answer.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fcgi_http::request::is_host;
use fcgi_tokio::http::{BodyLengthError, HttpError, ParamsError, ReasonPhrase};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, LOCATION, TRANSFER_ENCODING},
    request::Parts,
    response,
};
use http_body::Body as _;
use hyper::{body::Incoming, ext};

use super::{
    access::{self, Entry},
    body::{Body, empty},
    client::Client,
    coding::Codings,
    cut,
    failure::Failure,
    files::{Files, Sent},
    handover::{self, Handover, Named},
    inside::Inside,
    intake::RequestBody,
    log::{self, Id, Title},
    metrics::METER,
    not_found::NotFound,
    origin::{Origin, Proxies},
    root::Wait,
    site::{Found, Site},
    turn::{self, Peer},
    upstream::{Answer, Upstream},
    watch::watched,
};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) site: Arc<Site>,
    pub(super) files: Files,
    pub(super) upstream: Upstream,
    pub(super) proxies: Proxies,
    pub(super) inside: Inside,
    pub(super) handover: Option<Handover>,
    /// The largest body of a request, in bytes.
    pub(super) max_body: u64,
    pub(super) client_timeout: Duration,
    /// The most fields of a request.
    pub(super) max_fields: usize,
    pub(super) quiet: bool,
}

impl Service {
    /// Answers a request, and logs it once the answer has been sent.
    ///
    /// # Cancellation safety
    /// Dropping the future aborts the request, as when the client has left.
    pub(super) async fn call(
        &self,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Response<Body> {
        let fields = request.headers();
        // hyper drops a Content-Length next to it.
        let has_length = fields
            .contains_key(TRANSFER_ENCODING)
            .then(|| client.has_field(b"content-length", request.method(), fields.len()));
        let id = Id::next();
        let (origin, unclear) = match self.proxies.origin(request.headers(), client.ends) {
            Ok(origin) => (origin, None),
            Err(failure) => (Origin::of(client.ends), Some(failure)),
        };
        let entry = Entry::new(&request, &client, id, &origin, self.quiet);
        let title = Title::new(&request, id);
        let (head, body) = request.into_parts();
        let (version, is_head) = (head.version, head.method == Method::HEAD);
        let body = RequestBody::new(body, &head.headers, self.client_timeout);
        let unread = body.unread();
        let checked = check(&head, has_length, self.max_fields);
        let answer = match checked.and(unclear.map_or(Ok(()), Err)) {
            Ok(()) => self.answer(head, body, &client, &origin, &title).await,
            Err(failure) => Err(failure),
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(failure) => {
                if let Some(line) = failure.logged() {
                    log::error(&title, &line);
                }
                failure.into_response(id)
            }
        };
        reason(&mut response);
        if is_head {
            response = bodiless(response);
        }
        // hyper does this for HTTP/2. A message has one Date (RFC 9110, 6.6.1).
        if version != Version::HTTP_2 && !response.headers().contains_key(DATE) {
            if let Some(now) = date() {
                response.headers_mut().insert(DATE, now);
            }
        }
        // The rest of the body would be taken for the next request.
        let is_unread = unread.is_unread();
        match version {
            // In HTTP/1.0 only its connection's end ends an answer of unknown length, which hyper
            // knows too late. It closes after an HTTP/1.0 answer by default.
            Version::HTTP_10 if is_unread || response.body().size_hint().exact().is_none() => {
                *response.version_mut() = version;
            }
            Version::HTTP_11 if is_unread => {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        let response = response.map(|body| cut::visibly(body, version, &client));
        let response = entry.follow(response);
        match version {
            Version::HTTP_2 if !response.body().is_end_stream() => {
                response.map(|body| watched(body, self.client_timeout, title))
            }
            _ => response,
        }
    }

    /// Answers something that was not a valid request, with a page and in the logs.
    pub(super) async fn refuse(&self, client: &Client, status: StatusCode, reason: String) {
        let id = Id::next();
        let known = client.refused_in_particular(self.max_body);
        let (status, reason) = known.unwrap_or((status, reason));
        log::event(&format!("client {}", client.ends), Some(id), &format!("{status}: {reason}"));
        let page = Failure::new(status, reason).to_text(id);
        METER.begin();
        METER.end(status.as_u16(), page.len() as u64, Duration::ZERO);
        if !self.quiet {
            access::refused(client, id, status, page.len());
        }
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             x-content-type-options: nosniff\r\nconnection: close\r\n\
             content-length: {}\r\ndate: {}\r\n\r\n",
            page.len(),
            httpdate::fmt_http_date(SystemTime::now()),
        );
        client.send(format!("{head}{page}").as_bytes(), self.client_timeout).await;
    }

    async fn answer(
        &self,
        mut head: Parts,
        body: RequestBody,
        client: &Arc<Client>,
        origin: &Origin,
        title: &Title,
    ) -> Result<Response<Body>, Failure> {
        check_length(&head.headers, self.max_body)?;
        if head.method == Method::TRACE {
            body.discard();
            return Err(self.no_trace(&head.uri).await);
        }
        if let Some(page) = self.inside.find(&head.uri) {
            body.discard();
            self.site.check_denied(head.uri.path())?;
            return page.answer(&head, &self.upstream).await;
        }
        let found = self.find(head.uri.path(), self.site.codings(&head.headers)).await;
        let mut found = match found {
            Ok(found) => found,
            Err(failure) => {
                body.discard();
                return Err(failure);
            }
        };
        if let Found::Script(script) = found {
            title.set_script(&script);
            client.on_ask();
            let told = match self.proxies.trusted.is_empty() {
                true => client.told(|| self.upstream.told(origin)),
                // A proxy's connection carries requests of many clients.
                false => Arc::new(self.upstream.told(origin)),
            };
            let kept = self.handover.as_ref().map(|_| head.clone());
            head.extensions.insert(script);
            turn::wait(Peer::Application).await;
            (found, head) = match self.upstream.ask(head, body, told, title).await? {
                Answer::Response(response) => return Ok(response),
                Answer::Elsewhere(found, head) => (found, *head),
                Answer::Named(said, named) => {
                    return self.hand_over(kept, *said, named, client, title).await;
                }
            };
            // The client gets something other than what it asked for.
            head.uri = Uri::default();
        } else {
            body.discard();
        }
        match found {
            Found::File(file) => self.files.send(&head, file, client, title),
            Found::Redirect(location) => moved(location, &head.uri),
            Found::Script(_) => {
                let reason = "the application redirected in a way that can't be followed";
                Err(Failure::new(StatusCode::BAD_GATEWAY, reason))
            }
        }
    }

    /// TRACE is refused for everything, as in nginx: the application would send credentials and
    /// cookies back to a script in a page.
    async fn no_trace(&self, asked: &Uri) -> Failure {
        let reason = "TRACE is not for this server";
        let is_page = self.inside.find(asked).is_some();
        match self.find(asked.path(), Codings::default()).await {
            Ok(Found::Script(_)) if !is_page => Failure::not_for_script(reason),
            _ => Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason),
        }
    }

    /// Sends a file that the application has named, as `asked`.
    async fn hand_over(
        &self,
        asked: Option<Parts>,
        said: response::Parts,
        named: Named,
        client: &Arc<Client>,
        title: &Title,
    ) -> Result<Response<Body>, Failure> {
        let (Some(handover), Some(mut head)) = (self.handover.clone(), asked) else {
            return Err(Failure::new(StatusCode::BAD_GATEWAY, "there is no --sendfile-root"));
        };
        let field = named.field().clone();
        let opened = tokio::task::spawn_blocking(move || handover.open(&named)).await;
        let opened = opened.unwrap_or_else(|error| Err(error.into()));
        let Some((path, opened)) = opened.map_err(NotFound::Failed)? else {
            log::error(title, &format!("{field} names no file below --sendfile-root"));
            return Err(Failure::new(StatusCode::NOT_FOUND, "there is no such file"));
        };
        let is_head = head.method == Method::HEAD;
        if !is_head && head.method != Method::GET || said.status != StatusCode::OK {
            // The application has done what was asked, or says that this is not it (RFC 9110,
            // 13.2.1): conditions and ranges are not for this file.
            head.method = if is_head { Method::HEAD } else { Method::GET };
            head.headers.clear();
        }
        let mut response = self.files.send(&head, Sent::plain(path, opened), client, title)?;
        handover::merge(said, &mut response);
        Ok(response)
    }

    async fn find(&self, path: &str, codings: Codings) -> Result<Found, Failure> {
        // Usually everything is in memory. A slow disk must not hold up other requests.
        let found = match self.site.find(path, codings, Wait::Never) {
            Err(NotFound::Wait) => {
                let (site, path) = (Arc::clone(&self.site), path.to_owned());
                let find = move || site.find(&path, codings, Wait::Disk);
                let found = tokio::task::spawn_blocking(find).await;
                found.unwrap_or_else(|error| Err(NotFound::Failed(error.into())))
            }
            found => found,
        };
        Ok(found?)
    }
}

/// The current time as an HTTP date. It is formatted once a second.
fn date() -> Option<HeaderValue> {
    thread_local! {
        static LAST: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(of, date)| {
        if date.is_none() || *of != second {
            (*of, *date) = (second, httpdate::fmt_http_date(now).try_into().ok());
        }
        date.clone()
    })
}

/// Refuses requests that hyper lets pass.
///
/// `has_length` is only for a message with a Transfer-Encoding: whether it also had a
/// Content-Length, if that is known.
fn check(head: &Parts, has_length: Option<Option<bool>>, max_fields: usize) -> Result<(), Failure> {
    // Over HTTP/1 hyper checks this.
    if head.headers.len() > max_fields {
        let reason = format!("the request has more than {max_fields} fields");
        return Err(Failure::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason));
    }
    // hyper decodes only chunked (RFC 9112, 6.1).
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_none_or(is_chunked) || codings.next().is_some() {
        let reason = "the request's body has a transfer coding other than chunked";
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, reason));
    }
    // A message with both may be an attempt at request smuggling (RFC 9112, 6.3).
    match has_length {
        Some(Some(true)) => return Err(ParamsError::TwoLengths.into()),
        Some(None) => {
            let reason = "it is not clear where the request began";
            return Err(Failure::new(StatusCode::BAD_REQUEST, reason));
        }
        Some(Some(false)) | None => {}
    }
    if head.method == Method::CONNECT {
        let reason = "CONNECT asks for a tunnel, which this server is not";
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    check_host(head)
}

/// Refuses a body because of its head, before any of it is read.
fn check_length(headers: &HeaderMap, max: u64) -> Result<(), Failure> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    match length.to_str().ok().and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length <= max => Ok(()),
        Some(_) => Err(HttpError::RequestTooLarge { limit: max }.into()),
        None => {
            let shown = String::from_utf8_lossy(length.as_bytes()).into_owned();
            Err(ParamsError::ContentLength(BodyLengthError::Invalid(shown)).into())
        }
    }
}

/// Requires at most one Host, which must be valid (RFC 9112, 3.2), even if no script is called.
/// The host of the target, which takes its place, must be valid too, and be without a user's name
/// (RFC 9110, 4.2.4).
fn check_host(head: &Parts) -> Result<(), Failure> {
    let invalid =
        |host: &[u8]| ParamsError::Host(String::from_utf8_lossy(host).into_owned()).into();
    if let Some(host) = head.uri.authority().filter(|host| !is_host(host.as_str().as_bytes())) {
        return Err(invalid(host.as_str().as_bytes()));
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(ParamsError::Repeated(HOST).into()),
        (Some(host), None) if !is_host(host.as_bytes()) => Err(invalid(host.as_bytes())),
        // HTTP/2 has :authority instead.
        (None, _) if head.version == Version::HTTP_11 => {
            Err(Failure::new(StatusCode::BAD_REQUEST, "the request has no Host"))
        }
        _ => Ok(()),
    }
}

/// The head of an answer to HEAD, with the length that its body would have. hyper drops the body
/// itself only in HTTP/1.
fn bodiless(mut response: Response<Body>) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    if let (Some(length), false) =
        (response.body().size_hint().exact(), response.headers().contains_key(CONTENT_LENGTH))
    {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response.map(|_| empty())
}

/// Sets the text after HTTP/1's status: the application's own, or the standard one.
fn reason(response: &mut Response<Body>) {
    let status = response.status();
    let own = response.extensions().get::<ReasonPhrase>();
    let reason = match own {
        Some(own) => ext::ReasonPhrase::try_from(own.as_bytes().clone()).ok(),
        // hyper sets this one itself.
        None if status.canonical_reason().is_some() => None,
        None => Some(ext::ReasonPhrase::from_static(ReasonPhrase::standard(status).as_bytes())),
    };
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
}

fn moved(mut location: String, asked: &Uri) -> Result<Response<Body>, Failure> {
    if let Some(query) = asked.query() {
        location.push('?');
        location.push_str(query);
    }
    let location = HeaderValue::try_from(location)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))?;
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
