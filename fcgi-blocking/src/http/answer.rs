//! What a handler of HTTP requests may return.

use http::Response;

use super::{Body, BoxError};

fcgi_engine::http_decision!(Body);

/// An `http::Response` or a [`Decision`]; or a `Result` of either, whose error says why there is
/// none. The error is logged, and the web server gets a page with status 500.
pub trait IntoAnswer {
    /// The response, or the decision.
    type Answer;

    /// The answer.
    ///
    /// # Errors
    /// What is to be logged, when there is none.
    fn into_answer(self) -> Result<Self::Answer, BoxError>;
}

impl<B> IntoAnswer for Response<B> {
    type Answer = Self;

    fn into_answer(self) -> Result<Self, BoxError> {
        Ok(self)
    }
}

impl<B> IntoAnswer for Decision<B> {
    type Answer = Self;

    fn into_answer(self) -> Result<Self, BoxError> {
        Ok(self)
    }
}

impl<T, E: Into<BoxError>> IntoAnswer for Result<T, E> {
    type Answer = T;

    fn into_answer(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}
