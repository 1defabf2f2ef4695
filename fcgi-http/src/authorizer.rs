//! The requests and answers of an Authorizer (FC-6.3-1, FC-6.3-2).
//!
//! An Authorizer decides whether a request is allowed. Its answer is a CGI response. Status 200
//! allows: the `Variable-NAME` fields become parameters of the request to the Responder. Any other
//! status denies: the client gets the response.
//!
//! ```
//! use bytes::Bytes;
//! use fcgi_http::authorizer::{self, Answer, AnswerParser};
//! use fcgi_proto::Params;
//!
//! // The application allows …
//! let variables = Params::from_iter([("REMOTE_USER", "alice")]);
//! let mut stdout = authorizer::allow(&variables)?.into_bytes();
//! assert_eq!(stdout, "Status: 200 OK\r\nVariable-REMOTE_USER: alice\r\n\r\n");
//!
//! // … and the web server goes on with what it said.
//! let answer = AnswerParser::new(Default::default()).push(&mut stdout)?.ok_or("a whole head")?;
//! let Answer::Allow { variables } = answer else { panic!("it was allowed") };
//! let params = Params::from_iter([("REQUEST_METHOD", "GET"), ("REMOTE_USER", "mallory")]);
//! let params = authorizer::merge(&params, &variables);
//! assert_eq!(params.get_str("REMOTE_USER"), Some("alice"));
//! assert_eq!(params.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use bytes::Bytes;
use fcgi_proto::Params;
use http::{StatusCode, response::Parts};

use crate::response::{
    BlockWriter, Head, HeadBlock, HeadError, HeadLimits, HeadParser, HeadWriteError,
};

/// The parameters that are withheld from an Authorizer (FC-6.3-1).
pub const NOT_SENT: [&str; 4] = ["CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"];

/// The parameters that an Authorizer gets: the request's, without those in [`NOT_SENT`].
#[must_use]
pub fn params(params: &Params) -> Params {
    params.iter().filter(|(name, _)| !NOT_SENT.iter().any(|no| no.as_bytes() == *name)).collect()
}

/// The parameters of a request that was allowed. Each variable replaces all parameters of the same
/// name, so that nothing that the client caused remains.
///
/// A variable CONTENT_LENGTH is left out: that parameter must be the length of STDIN (Q-4).
#[must_use]
pub fn merge(params: &Params, variables: &Params) -> Params {
    let kept =
        params.iter().filter(|(name, _)| variables.get(name).is_none_or(|_| is_length(name)));
    let mut merged: Params = kept.collect();
    merged.extend(variables.iter().filter(|(name, _)| !is_length(name)));
    merged
}

fn is_length(name: &[u8]) -> bool {
    name == b"CONTENT_LENGTH"
}

/// An Authorizer's answer. It has no third answer (FC-6.3-2).
#[derive(Clone, Debug)]
pub enum Answer {
    /// The request is allowed. The answer's other fields and its body are dropped.
    Allow {
        /// NAME=value for each `Variable-NAME: value`, in order; names keep their case.
        variables: Params,
    },
    /// The client gets this response, with the body that follows. `Variable-` fields are for the
    /// web server, so they are left out.
    Deny(Box<Head>),
}

/// Reads an Authorizer's answer, with the rules and limits of [`HeadParser`].
///
/// An answer without Status and Location allows, since its status is 200 by CGI's rules. An answer
/// without any field is bad.
#[derive(Debug)]
pub struct AnswerParser {
    head: HeadParser,
}

impl AnswerParser {
    /// A parser for one answer.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self { head: HeadParser::with_variables(limits) }
    }

    /// Takes the next bytes of STDOUT, like [`HeadParser::push`].
    ///
    /// # Errors
    /// The answer is bad: the request is not allowed, and a gateway answers 502.
    pub fn push(&mut self, input: &mut Bytes) -> Result<Option<Answer>, HeadError> {
        let Some(parsed) = self.head.push_fields(input)? else { return Ok(None) };
        Ok(Some(if parsed.head.parts.status == StatusCode::OK {
            Answer::Allow { variables: parsed.variables }
        } else {
            Answer::Deny(Box::new(parsed.head))
        }))
    }

    /// STDOUT has ended, as in [`HeadParser::finish`].
    ///
    /// # Errors
    /// It ended inside the answer or before it: the request is not allowed.
    pub fn finish(&self) -> Result<(), HeadError> {
        self.head.finish()
    }
}

/// The complete answer that allows a request; no body follows.
///
/// # Errors
/// A variable's name can't be that of a header field, or its value has a control byte, or a space
/// or tab at an end, which the web server would remove.
pub fn allow(variables: &Params) -> Result<HeadBlock, HeadWriteError> {
    let mut writer = BlockWriter::new(StatusCode::OK)?;
    for (name, value) in variables {
        if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            let line = [b"Variable-", name, b": ", value].concat();
            return Err(HeadWriteError::Field(crate::text::excerpt(&line)));
        }
        writer.field("Variable-", name, value)?;
    }
    Ok(writer.finish())
}

/// The head of the answer that denies a request. The client gets it, with the body that follows.
///
/// # Errors
/// Status 200, which would allow the request; errors of [`HeadBlock::new`].
pub fn deny(response: &Parts) -> Result<HeadBlock, HeadWriteError> {
    if response.status == StatusCode::OK {
        return Err(HeadWriteError::DenyWithOk);
    }
    HeadBlock::new(response)
}
