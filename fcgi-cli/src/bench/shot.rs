//! One request of a benchmark, and its result.

use bytes::Bytes;
use fcgi_http::{HeadLimits, HeadParser};
use fcgi_tokio::{
    self as fcgi,
    client::{Chunk, Request},
    proto::Params,
};

use crate::exit::Exit;

/// The request that is sent again and again.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) params: Params,
    pub(super) body: Bytes,
    pub(super) keep: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// The status in its head; `None` if it has none.
    pub(super) status: Option<u16>,
    /// The length of its body.
    pub(super) bytes: u64,
}

/// Why a request failed, for counting.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// Without the parts that differ between requests.
    pub(super) text: String,
}

/// A request that failed.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// The library's error, if it is one.
    pub(super) error: Option<fcgi::Error>,
}

impl Template {
    /// Sends it and reads the answer.
    pub(super) async fn send(&self, pool: &fcgi::Pool) -> Result<Ended, Failed> {
        let request =
            Request::responder().keep_conn(self.keep).stdin(self.body.clone()).params(&self.params);
        let mut response = pool.send(request).await.map_err(failed)?;
        let mut parser = HeadParser::new(HeadLimits::default());
        let mut ended = Ended { status: None, bytes: 0 };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let Chunk::Stdout(mut bytes) = chunk else { continue };
            if ended.status.is_none() {
                match parser.push(&mut bytes) {
                    Ok(Some(head)) => ended.status = Some(head.parts.status.as_u16()),
                    Ok(None) => continue,
                    Err(error) => return Err(failure(Exit::Protocol, error.to_string())),
                }
            }
            ended.bytes += bytes.len() as u64;
        }
        match (ended.status, response.app_status()) {
            (None, _) => Err(failure(Exit::Protocol, "the answer has no head".to_owned())),
            (_, Some(status @ 1..)) => {
                Err(failure(Exit::AppStatus, format!("the application ended with status {status}")))
            }
            (Some(status @ 400..), _) => Err(failure(Exit::Unwanted, format!("status {status}"))),
            _ => Ok(ended),
        }
    }
}

fn failed(error: fcgi::Error) -> Failed {
    let failure = Failure { exit: Exit::of(&error), text: error.report().to_string() };
    Failed { failure, error: Some(error) }
}

fn failure(exit: Exit, text: String) -> Failed {
    Failed { failure: Failure { exit, text }, error: None }
}
