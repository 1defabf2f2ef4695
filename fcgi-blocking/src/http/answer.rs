//! The types that a handler of HTTP requests can return.

use http::Response;

use super::{Body, BoxError};

fcgi_engine::http_decision!(Body);

/// An `http::Response` or a [`Decision`]; or a `Result` of either. An error of the `Result` is
/// logged, and the web server gets a page with status 500. It may be any error that is `Send +
/// Sync`, a text, or anything that converts into such a boxed error, as `anyhow::Error` does.
#[diagnostic::on_unimplemented(
    message = "a handler of HTTP requests can't return `{Self}`",
    label = "this handler's result is no answer",
    note = "a handler returns an `http::Response`, or a `Result` of one whose error is `Send + Sync`: \
            an error type, a text, `anyhow::Error`",
    note = "write `Box<dyn Error + Send + Sync>` in place of `Box<dyn Error>`"
)]
pub trait IntoAnswer {
    /// The response, or the decision.
    type Answer;

    /// The answer.
    ///
    /// # Errors
    /// The error to log, if there is no answer.
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

#[diagnostic::do_not_recommend]
impl<T, E: Into<BoxError>> IntoAnswer for Result<T, E> {
    type Answer = T;

    fn into_answer(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}
