//! The Authorizer's requests and answers (FC-6.3-1, FC-6.3-2).
//!
//! An Authorizer says whether a request may go on. Its answer is a CGI response: status 200 allows,
//! and the `Variable-NAME` fields become parameters of the request to the Responder; any other
//! status denies, and the response is the client's.
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

/// The parameters that are not sent to an Authorizer (FC-6.3-1).
pub const NOT_SENT: [&str; 4] = ["CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"];

/// A request's parameters without those of [`NOT_SENT`]: what an Authorizer gets.
#[must_use]
pub fn params(params: &Params) -> Params {
    params.iter().filter(|(name, _)| !NOT_SENT.iter().any(|no| no.as_bytes() == *name)).collect()
}

/// The parameters of a request that was allowed: each variable takes the place of all parameters of
/// its name, so that nothing which the client caused stands beside it.
///
/// A variable CONTENT_LENGTH is left out: that parameter has to be the length of STDIN (Q-4).
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

/// What an Authorizer answered. It has no third answer (FC-6.3-2).
#[derive(Clone, Debug)]
pub enum Answer {
    /// The request may go on. The answer's other fields and its body are dropped.
    Allow {
        /// NAME=value of each `Variable-NAME: value`, in order, names in their own case.
        variables: Params,
    },
    /// The client gets this response, with the body that follows. `Variable-` fields, which are the
    /// web server's, are not in it.
    Deny(Box<Head>),
}

/// Reads an Authorizer's answer, with the rules and limits of [`HeadParser`].
///
/// An answer without Status allows when it has no Location, since its status is 200 by CGI's rules;
/// one without any field is bad.
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

    /// Takes the next bytes of STDOUT, as [`HeadParser::push`] does.
    ///
    /// # Errors
    /// The answer is bad: the request must not go on; a gateway answers 502.
    pub fn push(&mut self, input: &mut Bytes) -> Result<Option<Answer>, HeadError> {
        let Some(parsed) = self.head.push_fields(input)? else { return Ok(None) };
        Ok(Some(if parsed.head.parts.status == StatusCode::OK {
            Answer::Allow { variables: parsed.variables }
        } else {
            Answer::Deny(Box::new(parsed.head))
        }))
    }

    /// STDOUT has ended, as [`HeadParser::finish`] has it.
    ///
    /// # Errors
    /// It ended inside the answer or before it: the request must not go on.
    pub fn finish(&self) -> Result<(), HeadError> {
        self.head.finish()
    }
}

/// The answer that allows a request, whole: no body follows.
///
/// # Errors
/// A variable's name is no header field's, or its value has a control byte, or a space or tab at an
/// end, which the web server would take off.
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

/// The head of the answer that denies a request; the client gets it, and the body that follows.
///
/// # Errors
/// Status 200, which would allow; and those of [`HeadBlock::new`].
pub fn deny(response: &Parts) -> Result<HeadBlock, HeadWriteError> {
    if response.status == StatusCode::OK {
        return Err(HeadWriteError::DenyWithOk);
    }
    HeadBlock::new(response)
}
