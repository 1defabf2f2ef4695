//! Reads the lines of a head, one by one.

use bytes::Bytes;
use fcgi_proto::Params;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
    response::Parts,
    uri::PathAndQuery,
};

use super::{Head, HeadError, Kind, ReasonPhrase};
use crate::{body::parse_length, hop, text::excerpt};

/// A head, and the variables of an Authorizer's response.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) head: Head,
    pub(crate) variables: fcgi_proto::Params,
}

/// The contents of the lines so far.
#[derive(Debug)]
pub(super) struct Fields {
    limit: usize,
    count: usize,
    headers: HeaderMap,
    status: Option<(StatusCode, Bytes)>,
    /// Collects the `Variable-NAME` fields of an Authorizer's response.
    variables: Option<Params>,
}

impl Fields {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, count: 0, headers: HeaderMap::new(), status: None, variables: None }
    }

    pub(super) fn with_variables(limit: usize) -> Self {
        Self { variables: Some(Params::new()), ..Self::new(limit) }
    }

    /// Takes a line without its LF; true if it is the empty line at the end.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<bool, HeadError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line {
            [] if self.count == 0 => return Err(HeadError::Empty),
            [] => return Ok(true),
            [b' ' | b'\t', ..] => return Err(HeadError::Continuation(excerpt(line))),
            _ => {}
        }
        if self.count == 0 && line.get(..5).is_some_and(|s| s.eq_ignore_ascii_case(b"HTTP/")) {
            return Err(HeadError::StatusLine(excerpt(line)));
        }
        if self.count >= self.limit {
            return Err(HeadError::TooManyFields { limit: self.limit });
        }
        self.count += 1;
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or_else(|| HeadError::NoColon(excerpt(line)))?);
        let field =
            HeaderName::from_bytes(name).map_err(|_| HeadError::FieldName(excerpt(line)))?;
        let value = HeaderValue::from_bytes(trim(&value[1..]))
            .map_err(|_| HeadError::FieldValue(excerpt(line)))?;
        self.field(name, field, value)?;
        Ok(false)
    }

    fn field(
        &mut self,
        name: &[u8],
        field: HeaderName,
        value: HeaderValue,
    ) -> Result<(), HeadError> {
        if field == "status" {
            if self.status.is_some() {
                return Err(HeadError::Repeated("Status"));
            }
            self.status = Some(parse_status(value.as_bytes())?);
            return Ok(());
        }
        if let Some(variables) = &mut self.variables {
            // Keeps the case of the name: it matters in parameters.
            if field.as_str().starts_with(VARIABLE) {
                return match &name[VARIABLE.len()..] {
                    b"" => Err(HeadError::FieldName(excerpt(name))),
                    variable => {
                        variables.push(variable, value);
                        Ok(())
                    }
                };
            }
        }
        for (once, shown) in [
            (LOCATION, "Location"),
            (CONTENT_TYPE, "Content-Type"),
            (CONTENT_LENGTH, "Content-Length"),
        ] {
            if field == once && self.headers.contains_key(&field) {
                return Err(HeadError::Repeated(shown));
            }
        }
        if field == CONTENT_LENGTH && parse_length(value.as_bytes()).is_none() {
            return Err(HeadError::ContentLength(excerpt(value.as_bytes())));
        }
        match self.headers.try_append(field, value) {
            Ok(_) => Ok(()),
            Err(_) => Err(HeadError::TooManyFields { limit: self.limit }),
        }
    }

    /// The head that the lines form. This clears the lines.
    pub(super) fn take_head(&mut self) -> Result<Parsed, HeadError> {
        let variables = self.variables.take().unwrap_or_default();
        let status = self.status.take();
        let mut headers = std::mem::take(&mut self.headers);
        let location = headers.get(LOCATION).cloned();

        if let (Some(location), None, 1) = (&location, &status, self.count) {
            if is_local(location.as_bytes()) {
                let path = PathAndQuery::try_from(location.as_bytes())
                    .map_err(|_| HeadError::Location(excerpt(location.as_bytes())))?;
                let parts = parts(StatusCode::FOUND, headers);
                let head = Head { kind: Kind::LocalRedirect(path), parts };
                return Ok(Parsed { head, variables });
            }
        }
        for name in hop::names(&headers) {
            headers.remove(name);
        }
        let default = if location.is_some() { StatusCode::FOUND } else { StatusCode::OK };
        let (status, reason) = status.unwrap_or((default, Bytes::new()));
        let kind = if status.is_redirection() && headers.contains_key(LOCATION) {
            Kind::ClientRedirect
        } else {
            Kind::Document
        };
        let mut parts = parts(status, headers);
        if !reason.is_empty() {
            parts.extensions.insert(ReasonPhrase(reason));
        }
        Ok(Parsed { head: Head { kind, parts }, variables })
    }
}

/// The prefix of an Authorizer's variables, in the lower case of the `http` crate.
const VARIABLE: &str = "variable-";

/// Whether this is a path of this server. `//host/path` belongs to another, and a fragment is for
/// the client to keep (RFC 3875, 6.2.2).
fn is_local(location: &[u8]) -> bool {
    location.starts_with(b"/") && !location.starts_with(b"//") && !location.contains(&b'#')
}

/// `NNN` or `NNN reason`. An informational status can't end a response.
fn parse_status(value: &[u8]) -> Result<(StatusCode, Bytes), HeadError> {
    let error = || HeadError::Status(excerpt(value));
    let (code, reason) = value.split_at_checked(3).ok_or_else(error)?;
    let status = StatusCode::from_bytes(code).map_err(|_| error())?;
    let separated = reason.is_empty() || reason.starts_with(b" ");
    if status.is_informational() || !separated {
        return Err(error());
    }
    Ok((status, Bytes::copy_from_slice(trim(reason))))
}

/// Removes the spaces and tabs around a value, and nothing else.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn parts(status: StatusCode, headers: HeaderMap) -> Parts {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    parts.headers = headers;
    parts
}
