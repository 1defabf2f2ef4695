//! What servers of HTTP have in common, whatever their bodies are.

use std::sync::{Arc, Mutex, PoisonError};

/// A Filter's file, in the extensions of its request: DATA, held against FCGI_DATA_LENGTH.
///
/// A web server sends DATA after STDIN: read the request's body first (FC-6.4-1).
#[derive(Debug)]
pub struct FilterData<B>(Arc<Mutex<Option<B>>>);

impl<B> FilterData<B> {
    pub(super) fn new(body: B) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// The file, once; `None` when it was taken before.
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
    /// Two handlers as one.
    pub const fn new(responder: R, authorizer: A) -> Self {
        Self { responder, authorizer }
    }
}

/// An adapter's `Decision`, for its type `Body`. Each has a type of its own, so that `Decision::deny`
/// says which body is meant.
#[doc(hidden)]
#[macro_export]
macro_rules! http_decision {
    ($body:ty) => {
        /// What an Authorizer says. It has no third answer (FC-6.3-2).
        #[derive(Debug)]
        pub enum Decision<B = $body> {
            /// The request may go on.
            Allow {
                /// Parameters for the web server to add to the request, in place of those of the
                /// same names. A name has to be a header field's, a value one line without spaces
                /// at its ends.
                variables: ::fcgi_proto::Params,
            },
            /// The client gets this response, whose status must not be 200.
            Deny(::http::Response<B>),
        }

        impl Decision {
            /// Allows, with these variables.
            pub fn allow<N: AsRef<[u8]>, V: AsRef<[u8]>>(
                variables: impl IntoIterator<Item = (N, V)>,
            ) -> Self {
                Self::Allow { variables: variables.into_iter().collect() }
            }

            /// Denies, with a response that has no field and no body.
            #[must_use]
            pub fn deny(status: ::http::StatusCode) -> Self {
                let mut response = ::http::Response::new(<$body>::empty());
                *response.status_mut() = status;
                Self::Deny(response)
            }
        }
    };
}
