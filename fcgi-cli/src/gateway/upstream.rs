//! A request's way to the application, and the answer's way back.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use fcgi_engine::Error;
use fcgi_tokio::{
    self as fcgi,
    http::{HttpClient, HttpError, ParamsBuilder, ResponseBody, ScriptError, UnknownLength},
};
use http::{Method, Request, Response, StatusCode, request::Parts, response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{
    balance::{Balance, Failed},
    body::{Body, BoxError, empty},
    buffer::Buffering,
    failure::Failure,
    handover::{self, Named},
    intake::RequestBody,
    log::{self, Title},
    metrics,
    not_found::NotFound,
    origin::Origin,
    ready::Ready,
    root::Wait,
    site::{Found, Site},
    throttle::{OnBehalf, Throttle},
};
use crate::{args::Param, sock_diag};

/// How much of a body of unknown length is held in memory, in bytes.
const MEMORY: usize = 256 * 1024;
/// How much of an unwanted body, as after HEAD, is read before it is aborted, in bytes.
const DRAIN_BYTES: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The application.
#[derive(Debug)]
pub(super) struct Upstream {
    balance: Balance,
    ready: Ready,
    params: ParamsBuilder,
    /// The operator's own parameters.
    own: Vec<Param>,
    /// `None` means that bodies are streamed.
    buffering: Option<Buffering>,
    /// Whether the application may name files to send.
    hands_over: bool,
}

/// Where a local redirect led that no script serves, with the request that it made.
#[derive(Clone, Debug, Default)]
struct Landing(Arc<Mutex<Option<Landed>>>);

type Landed = (Result<Found, NotFound>, Box<Parts>);

/// The result of a request to the application.
pub(super) enum Answer {
    Response(Response<Body>),
    /// A local redirect led to something that the gateway itself serves, with this request.
    Elsewhere(Found, Box<Parts>),
    /// It named a file to send.
    Named(Box<response::Parts>, Named),
}

impl Upstream {
    pub(super) fn new(
        pools: impl IntoIterator<Item = fcgi::Pool>,
        site: Arc<Site>,
        own: &[Param],
        max_body: u64,
        buffering: Option<Buffering>,
        hands_over: bool,
    ) -> Result<Self, HttpError> {
        let scripts = |site: Arc<Site>| {
            move |request: &Parts| match find(&site, request) {
                Ok(Found::Script(script)) => Ok(script),
                Err(NotFound::Script(error)) => Err(error),
                found => {
                    if let Some(Landing(landing)) = request.extensions.get() {
                        let asked = Box::new(request.clone());
                        *landing.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some((found, asked));
                    }
                    Err(ScriptError::NotFound)
                }
            }
        };
        let unknown = UnknownLength::Spool { memory: MEMORY, limit: max_body };
        let clients = pools.into_iter().map(|pool| {
            let scripts = scripts(Arc::clone(&site));
            HttpClient::with_pool(pool).scripts(scripts).unknown_length(unknown).build()
        });
        let balance = Balance::new(clients.collect::<Result<Vec<_>, _>>()?);
        let addresses = balance.backends().iter().map(|backend| backend.pool().address().clone());
        let ready = Ready::new(addresses.collect());
        let software = concat!("fcgi/", env!("CARGO_PKG_VERSION"));
        let params = ParamsBuilder::new().server_software(software);
        Ok(Self { balance, ready, params, own: own.to_vec(), buffering, hands_over })
    }

    /// The parameters for the application about the origin of a request.
    pub(super) fn told(&self, origin: &Origin) -> ParamsBuilder {
        origin.tell(self.params.clone(), &self.own)
    }

    /// Sends a request and waits for the head of its answer. `title` is for the log.
    ///
    /// # Cancellation safety
    /// Dropping the future, or the answer, aborts the request.
    pub(super) async fn ask(
        &self,
        mut head: Parts,
        body: RequestBody,
        told: Arc<ParamsBuilder>,
        title: &Title,
    ) -> Result<Answer, Failure> {
        let body = match &self.buffering {
            Some(buffering) => buffering.receive(body).await?,
            None => Body::new(body),
        };
        let method = head.method.clone();
        let landing = Landing::default();
        head.extensions.insert(told);
        head.extensions.insert(landing.clone());
        let request = Request::from_parts(head, body);
        let mut throttle = Throttle::new(title.clone());
        match throttle.run(self.balance.send(request, title)).await {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                if let Some(named) = handover::take(&mut parts.headers) {
                    if self.hands_over {
                        tokio::spawn(drain(body, throttle));
                        return Ok(Answer::Named(Box::new(parts), named));
                    }
                    let field = named.field();
                    log::error(title, &format!("{field} removed: there is no --sendfile-root"));
                }
                let body =
                    match (answer_body(&parts, body, &method, throttle, title), &self.buffering) {
                        (None, _) => empty(),
                        (Some(body), Some(buffering)) if !body.is_end_stream() => {
                            buffering.take(body, title).await
                        }
                        (Some(body), _) => Body::new(body),
                    };
                Ok(Answer::Response(Response::from_parts(parts, body)))
            }
            Err(Failed { error: HttpError::Script(error), .. }) => {
                let landed = landing.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (found, asked) = landed.ok_or(NotFound::Script(error))?;
                Ok(Answer::Elsewhere(found?, asked))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Upstream {
    /// Whether the application can be reached.
    pub(super) async fn is_ready(&self) -> bool {
        self.ready.ask().await
    }

    /// The state of the application at each address.
    pub(super) async fn state(&self) -> Vec<metrics::Application> {
        let mut all = Vec::new();
        for (at, backend) in self.balance.backends().iter().enumerate() {
            let (pool, stats) = (backend.pool(), backend.pool().stats());
            all.push(metrics::Application {
                number: at + 1,
                up: backend.is_up(),
                open: stats.connections,
                busy: stats.active,
                waiting: stats.waiting,
                queue: sock_diag::accept_queue(pool.address())
                    .await
                    .ok()
                    .map(|queue| (queue.waiting, queue.limit)),
            });
        }
        all
    }
}

/// Where a request, or a local redirect, leads.
fn find(site: &Site, request: &Parts) -> Result<Found, NotFound> {
    site.find(request.uri.path(), site.codings(&request.headers), Wait::Disk)
}

/// The body of an answer; `None` if it has none.
fn answer_body(
    head: &response::Parts,
    body: ResponseBody,
    method: &Method,
    throttle: Throttle,
    title: &Title,
) -> Option<AnswerBody> {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
    if method == Method::HEAD || bodiless.contains(&head.status) {
        // An abort would also stop other work of the application.
        tokio::spawn(drain(body, throttle));
        return None;
    }
    let refused = head.status == StatusCode::SERVICE_UNAVAILABLE;
    let body = OnBehalf::new(title.clone(), body);
    Some(AnswerBody { body, throttle, title: title.clone(), refused, over: false })
}

/// Lets a request reach its end, within bounds.
async fn drain(mut body: ResponseBody, mut throttle: Throttle) {
    let to_its_end = async move {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DRAIN_BYTES {
                break;
            }
        }
    };
    // A request that takes longer is aborted.
    let _ = timeout(DRAIN_TIME, throttle.run(pin!(to_its_end))).await;
}

/// The body of an answer, as it comes. Errors are logged, since its head is already sent.
struct AnswerBody {
    body: OnBehalf<ResponseBody>,
    throttle: Throttle,
    title: Title,
    /// The answer reported that the application is full.
    refused: bool,
    over: bool,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(this.throttle.poll(cx, |cx| Pin::new(body).poll_frame(cx)));
        self.over = !matches!(frame, Some(Ok(_)));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            // The page that came before it says this already (W-2).
            Some(Err(HttpError::Call(Error::Rejected { .. }))) if self.refused => None,
            Some(Err(error)) => {
                log::error(&self.title, &error.report().to_string());
                Some(Err(error.into()))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}
