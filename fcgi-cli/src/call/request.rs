//! Turns a path and header fields into parameters, like a web server.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    time::UNIX_EPOCH,
};

use fcgi_http::{Mount, ParamsBuilder, RequestBody, Script, authorizer::NOT_SENT};
use fcgi_tokio::{Address, proto::Params};
use http::{
    HeaderName, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};

use super::{
    failure::Failure,
    options::{Call, Role},
};
use crate::place;

const AGENT: &str = concat!("fcgi/", env!("CARGO_PKG_VERSION"));
/// The suffix of a script's name.
const SUFFIX: &[u8] = b".php";
const INDEX: &[u8] = b"index.php";

/// The application, and the path to request.
pub(super) struct Destination {
    pub(super) address: Address,
    pub(super) path: Option<String>,
}

impl Call {
    pub(super) fn destination(&self) -> Result<Destination, Failure> {
        let (first, second) = (self.first.as_ref(), self.second.as_ref());
        let (address, path) = match (first, second) {
            (Some(only), None) if !self.is_address(only) => (None, Some(only)),
            both => both,
        };
        if address.is_none() && path.is_none() && self.params.is_empty() {
            return Err(Failure::Usage(
                "what is to be called? Give a URL-PATH, or parameters with --param".to_owned(),
            ));
        }
        let address = address.map(|text| text.to_string_lossy().parse::<Address>()).transpose();
        let address = address.map_err(|error| Failure::Usage(error.to_string()))?;
        let address = place::find(address.as_ref()).map_err(|error| {
            let of = match (first, second) {
                (Some(only), None) => format!(" (there is no socket {})", only.to_string_lossy()),
                _ => String::new(),
            };
            Failure::Usage(format!("{error}{of}"))
        })?;
        let path = path.map(|path| {
            let path = path.to_str().filter(|path| path.starts_with('/'));
            path.map(str::to_owned).ok_or_else(|| {
                Failure::Usage("expected a URL-PATH that starts with a slash".to_owned())
            })
        });
        Ok(Destination { address, path: path.transpose()? })
    }

    /// Whether the only argument is an address; a path can be either.
    fn is_address(&self, text: &OsString) -> bool {
        if !text.as_bytes().starts_with(b"/") {
            return true;
        }
        let is_socket = fs::metadata(text).is_ok_and(|meta| meta.file_type().is_socket());
        let names_script = self.params.iter().any(|(name, _)| name.starts_with(b"SCRIPT_"));
        let is_named_so =
            [&b".sock"[..], b".socket"].iter().any(|end| text.as_bytes().ends_with(end));
        is_socket || names_script || is_named_so
    }

    /// The parameters of a call, without CONTENT_LENGTH if only the given ones are sent.
    pub(super) fn parameters(
        &self,
        path: Option<&str>,
        has_body: bool,
        length: Option<u64>,
        content_type: Option<&str>,
    ) -> Result<Params, Failure> {
        let default = if has_body { "POST" } else { "GET" };
        let method = self.method.as_deref().unwrap_or(default);
        match path {
            Some(path) => self.of_path(path, method, length, content_type),
            None => Ok(self.given(method, content_type)),
        }
    }

    fn of_path(
        &self,
        path: &str,
        method: &str,
        body: Option<u64>,
        content_type: Option<&str>,
    ) -> Result<Params, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let path = path.split('#').next().unwrap_or_default();
        let mut request = http::Request::builder().method(method).uri(path);
        let mut fields: Vec<(HeaderName, HeaderValue)> = vec![
            (USER_AGENT, HeaderValue::from_static(AGENT)),
            (ACCEPT, HeaderValue::from_static("*/*")),
        ];
        if let Some(content_type) = content_type {
            let value = HeaderValue::from_str(content_type).map_err(|error| usage(&error))?;
            fields.push((CONTENT_TYPE, value));
        }
        fields.retain(|(name, _)| self.headers.iter().all(|(given, _)| given != name));
        let given = self.headers.iter().cloned();
        fields.extend(given.filter_map(|(name, value)| Some((name, value?))));
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(|error| {
            Failure::Usage(format!("the URL-PATH {path:?}: {error}; write a space as %20"))
        })?;
        let (request, ()) = request.into_parts();
        let script = self.script(request.uri.path())?;
        let mut builder =
            ParamsBuilder::new().server_software(AGENT).param("REMOTE_ADDR", "127.0.0.1");
        for (name, value) in &self.params {
            builder = builder.param(name.clone(), value.clone());
        }
        let body = body.map_or(RequestBody::None, RequestBody::Length);
        let params = builder.build(&request, &script, body).map_err(|error| usage(&error))?;
        Ok(match self.role {
            Role::Responder => params,
            Role::Authorizer => self.of_authorizer(&params),
            Role::Filter => self.of_filter(params),
        })
    }

    fn is_given(&self, name: &[u8]) -> bool {
        self.params.iter().any(|(given, _)| given == name)
    }

    /// What an authorizer is not sent is left out (FC-6.3-1), unless it was given.
    fn of_authorizer(&self, params: &Params) -> Params {
        let is_left_out = |name: &[u8]| NOT_SENT.iter().any(|no| no.as_bytes() == name);
        params.iter().filter(|(name, _)| !is_left_out(name) || self.is_given(name)).collect()
    }

    /// What a filter learns about its file (FC-6.4-1), unless it was given or is not known.
    fn of_filter(&self, mut params: Params) -> Params {
        let file = self.data.as_ref().and_then(|path| fs::metadata(path).ok());
        if let Some(file) = file.filter(fs::Metadata::is_file) {
            let modified = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |since| since.as_secs());
            for (name, value) in
                [("FCGI_DATA_LENGTH", file.len()), ("FCGI_DATA_LAST_MOD", modified)]
            {
                if !self.is_given(name.as_bytes()) {
                    params.push(name, value.to_string());
                }
            }
        }
        params
    }

    /// The script that a path names. This does not look at files, which may be elsewhere.
    fn script(&self, path: &str) -> Result<Script, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::Usage(format!("{path}: {error}"));
        let whole = Mount::new("").map_err(|error| usage(&error))?;
        let mut name = whole.resolve(path).map_err(|error| usage(&error))?.path_info;
        let mut end = 0;
        let mut info = Vec::new();
        for segment in name.split_inclusive(|byte| *byte == b'/') {
            end += segment.len();
            if segment.strip_suffix(b"/").is_some_and(|segment| segment.ends_with(SUFFIX)) {
                info = name.split_off(end - 1);
                break;
            }
        }
        if name.ends_with(b"/") && self.root.is_some() {
            name.extend_from_slice(INDEX);
        }
        let root = self.root.as_deref().unwrap_or_default();
        let root = root.strip_suffix('/').unwrap_or(root).as_bytes();
        let mut script = Script::new(name.clone(), info);
        script.script_filename = Some([root, &name].concat());
        script.document_root = self.root.as_ref().map(|root| match root.strip_suffix('/') {
            Some(trimmed) if !trimmed.is_empty() => trimmed.as_bytes().to_vec(),
            _ => root.as_bytes().to_vec(),
        });
        Ok(script)
    }

    /// Only the given parameters. If a script is named, php-fpm needs a method to run it.
    fn given(&self, method: &str, content_type: Option<&str>) -> Params {
        let mut params: Params = Params::new();
        params.extend(self.params.iter().map(|(name, value)| (name, value)));
        let has = |wanted: &str| self.is_given(wanted.as_bytes());
        let names_script = has("SCRIPT_FILENAME") || has("SCRIPT_NAME");
        if (names_script || self.method.is_some()) && !has("REQUEST_METHOD") {
            params.push("REQUEST_METHOD", method);
        }
        if let Some(content_type) = content_type.filter(|_| !has("CONTENT_TYPE")) {
            if self.headers.iter().all(|(name, _)| *name != CONTENT_TYPE) {
                params.push("CONTENT_TYPE", content_type);
            }
        }
        for (name, value) in &self.headers {
            let Some(value) = value else { continue };
            let upper = name.as_str().to_ascii_uppercase().replace('-', "_");
            let name = if *name == CONTENT_TYPE { upper } else { format!("HTTP_{upper}") };
            params.push(name, value);
        }
        params
    }
}

/// The name of a parameter that php-fpm can't take: it reads no pair longer than a record.
pub(super) fn too_long(params: &Params) -> Option<(String, usize)> {
    /// A long pair starts with two lengths of four bytes.
    const MOST: usize = 65_535 - 8;
    let (name, value) = params.iter().find(|(name, value)| name.len() + value.len() > MOST)?;
    Some((String::from_utf8_lossy(name).into_owned(), value.len()))
}
