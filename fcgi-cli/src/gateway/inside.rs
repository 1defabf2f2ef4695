//! The gateway's own pages, for monitoring: whether it is ready, and what it has done.

use http::{
    HeaderValue, Method, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};

use super::{
    body::{Body, empty, full},
    failure::{Failure, UNREACHABLE},
    metrics::METER,
    upstream::Upstream,
};

/// The paths of these pages; `None` if a page is off.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) ready: Option<String>,
    pub(super) metrics: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    Ready,
    Metrics,
}

impl Inside {
    pub(super) fn find(&self, uri: &Uri) -> Option<Page> {
        let is_at = |page: &Option<String>| page.as_deref() == Some(uri.path());
        match () {
            () if is_at(&self.ready) => Some(Page::Ready),
            () if is_at(&self.metrics) => Some(Page::Metrics),
            () => None,
        }
    }
}

impl Page {
    pub(super) async fn answer(
        self,
        request: &Parts,
        upstream: &Upstream,
    ) -> Result<Response<Body>, Failure> {
        let is_head = request.method == Method::HEAD;
        if !is_head && request.method != Method::GET {
            let reason = format!("{} is not for this page", request.method);
            return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
        }
        let (status, text) = match self {
            Self::Ready if upstream.is_ready().await => (StatusCode::OK, "ready\n".to_owned()),
            Self::Ready => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {UNREACHABLE}\n")),
            Self::Metrics => (StatusCode::OK, METER.to_text(&upstream.state().await)),
        };
        let mut response = Response::new(if is_head { empty() } else { full(text) });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let kind = match self {
            Self::Ready => "text/plain; charset=utf-8",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}
