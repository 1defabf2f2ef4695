//! Extractors for axum's handlers.

use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::CONTENT_TYPE, request::Parts};

use crate::{
    MetaVariables, RemoteAddr,
    request::{MissingMeta, RemoteAddrError},
};

fn meta(parts: &Parts) -> Result<&MetaVariables, MissingMeta> {
    parts.extensions.get().ok_or(MissingMeta)
}

fn text(error: &dyn std::error::Error) -> Response {
    let head = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::INTERNAL_SERVER_ERROR, head, format!("{error}\n")).into_response()
}

impl<S: Sync> FromRequestParts<S> for MetaVariables {
    type Rejection = MissingMeta;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingMeta> {
        meta(parts).cloned()
    }
}

impl<S: Sync> FromRequestParts<S> for RemoteAddr {
    type Rejection = RemoteAddrError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RemoteAddrError> {
        Self::of(meta(parts)?)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for RemoteAddr {
    type Rejection = MissingMeta;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, MissingMeta> {
        Ok(Self::of(meta(parts)?).ok())
    }
}

impl IntoResponse for MissingMeta {
    fn into_response(self) -> Response {
        text(&self)
    }
}

impl IntoResponse for RemoteAddrError {
    fn into_response(self) -> Response {
        text(&self)
    }
}
