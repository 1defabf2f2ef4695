//! What HTTP servers share, whatever their bodies are.

use std::sync::{Arc, Mutex, PoisonError};

/// A Filter's file, in the extensions of its request: DATA, checked against FCGI_DATA_LENGTH.
///
/// A web server sends DATA after STDIN, so read the request's body first (FC-6.4-1).
#[derive(Debug)]
pub struct FilterData<B>(Arc<Mutex<Option<B>>>);

impl<B> FilterData<B> {
    pub(super) fn new(body: B) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// The file, once; `None` if it was taken before.
    #[must_use]
    pub fn take(&self) -> Option<B> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<B> Clone for FilterData<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// One handler for Authorizer requests, another for the others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ByRole<R, A> {
    /// For Responder and Filter requests.
    pub responder: R,
    /// For Authorizer requests.
    pub authorizer: A,
}

impl<R, A> ByRole<R, A> {
    /// Combines two handlers.
    pub const fn new(responder: R, authorizer: A) -> Self {
        Self { responder, authorizer }
    }
}

/// Defines an adapter's `Decision` for its type `Body`. Each adapter has its own, so that
/// `Decision::deny` knows which type of body is meant.
#[doc(hidden)]
#[macro_export]
macro_rules! http_decision {
    ($body:ty) => {
        /// The decision of an Authorizer. It has no third answer (FC-6.3-2).
        #[derive(Debug)]
        pub enum Decision<B = $body> {
            /// The request is allowed.
            Allow {
                /// Parameters that the web server adds to the request, replacing those of the same
                /// names. A name must be valid in a header field, and a value must be one line
                /// without spaces at its ends.
                variables: ::fcgi_proto::Params,
            },
            /// The client gets this response. Its status must not be 200.
            Deny(::http::Response<B>),
        }

        impl<B> Decision<B> {
            /// The variables, or else the response.
            pub(super) fn allowed(self) -> Result<::fcgi_proto::Params, ::http::Response<B>> {
                match self {
                    Self::Allow { variables } => Ok(variables),
                    Self::Deny(response) => Err(response),
                }
            }
        }

        impl Decision {
            /// Allows the request, with these variables.
            pub fn allow<N: AsRef<[u8]>, V: AsRef<[u8]>>(
                variables: impl IntoIterator<Item = (N, V)>,
            ) -> Self {
                Self::Allow { variables: variables.into_iter().collect() }
            }

            /// Denies the request, with a response without fields or body.
            #[must_use]
            pub fn deny(status: ::http::StatusCode) -> Self {
                let mut response = ::http::Response::new(<$body>::empty());
                *response.status_mut() = status;
                Self::Deny(response)
            }
        }
    };
}
