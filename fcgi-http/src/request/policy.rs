//! Which header fields of a request become HTTP_* parameters, and how.

use std::borrow::Cow;

use fcgi_proto::Params;
use http::{
    HeaderMap,
    header::{
        AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, PROXY_AUTHORIZATION,
    },
};

use crate::hop;

/// Which header fields an application gets to see.
///
/// These are never passed, whatever the policy: `Proxy` (CVE-2016-5385, H-15); hop-by-hop fields
/// and those that Connection names; Content-Type and Content-Length, which have parameters of their
/// own; and names with anything but letters, digits, `-` and `_`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderPolicy {
    authorization: bool,
    proxy_authorization: bool,
    underscores: bool,
    dropped: Vec<HeaderName>,
}

impl Default for HeaderPolicy {
    fn default() -> Self {
        Self {
            authorization: true,
            proxy_authorization: false,
            underscores: false,
            dropped: Vec::new(),
        }
    }
}

impl HeaderPolicy {
    /// The defaults. Authorization is passed, as nginx does; Proxy-Authorization and names with `_`
    /// are not.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether Authorization is passed. Set false if the web server itself has checked it and the
    /// application need not see the password.
    #[must_use]
    pub fn authorization(mut self, passed: bool) -> Self {
        self.authorization = passed;
        self
    }

    /// Whether Proxy-Authorization is passed; it is meant for a proxy before the application.
    #[must_use]
    pub fn proxy_authorization(mut self, passed: bool) -> Self {
        self.proxy_authorization = passed;
        self
    }

    /// Whether a name may hold `_`. An application can't tell `Remote_User` from `Remote-User`, so
    /// a client could get the former past a server that removes the latter (CGI-4.1.18-2, H-15). If
    /// both are present, only the one with `-` is passed.
    #[must_use]
    pub fn underscores(mut self, passed: bool) -> Self {
        self.underscores = passed;
        self
    }

    /// Also drops this field.
    #[must_use]
    pub fn drop_field(mut self, name: HeaderName) -> Self {
        self.dropped.push(name);
        self
    }

    /// Calls `put` with each parameter made from `headers`, except HTTP_HOST. Repeated fields are
    /// joined (CGI-4.1.18-1).
    pub(super) fn each(&self, headers: &HeaderMap, mut put: impl FnMut(&[u8], &[u8])) {
        let nominated = hop::Nominated::of(headers);
        let mut param = Vec::new();
        let mut joined = Vec::new();
        for name in headers.keys() {
            let passes = match self.as_seen(name, headers) {
                Some(seen) => self.passes(&seen) && !nominated.contains(&seen),
                None => false,
            };
            if !passes {
                continue;
            }
            param.clear();
            param.extend_from_slice(b"HTTP_");
            param.extend(name.as_str().bytes().map(param_byte));
            let mut values = headers.get_all(name).iter();
            let first = values.next().map_or(&b""[..], |value| value.as_bytes());
            let Some(second) = values.next() else {
                put(&param, first);
                continue;
            };
            let separator: &[u8] = if name == COOKIE { b"; " } else { b", " };
            joined.clear();
            joined.extend_from_slice(first);
            for value in std::iter::once(second).chain(values) {
                joined.extend_from_slice(separator);
                joined.extend_from_slice(value.as_bytes());
            }
            put(&param, &joined);
        }
    }

    /// The name as the application would read it, with `_` as `-`; `None` if the name is not
    /// passed.
    fn as_seen<'a>(
        &self,
        name: &'a HeaderName,
        headers: &HeaderMap,
    ) -> Option<Cow<'a, HeaderName>> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !name.as_str().bytes().all(plain) {
            return None;
        }
        if !name.as_str().contains('_') {
            return Some(Cow::Borrowed(name));
        }
        let seen = HeaderName::try_from(name.as_str().replace('_', "-")).ok()?;
        (self.underscores && !headers.contains_key(&seen)).then_some(Cow::Owned(seen))
    }

    fn passes(&self, name: &HeaderName) -> bool {
        let allowed = match *name {
            HOST | CONTENT_LENGTH | CONTENT_TYPE => false,
            AUTHORIZATION => self.authorization,
            PROXY_AUTHORIZATION => self.proxy_authorization,
            _ => name != "proxy" && !hop::is_hop_by_hop(name),
        };
        allowed && !self.dropped.contains(name)
    }
}

fn param_byte(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }
}

/// Appends a parameter unless `overrides` has one of the same name.
pub(super) struct Output<'a> {
    pub(super) params: Params,
    pub(super) overrides: &'a [(Vec<u8>, Vec<u8>)],
}

impl Output<'_> {
    pub(super) fn put(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = name.as_ref();
        if !self.overrides.iter().any(|(known, _)| known == name) {
            self.params.push(name, value);
        }
    }
}
