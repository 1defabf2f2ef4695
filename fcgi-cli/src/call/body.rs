//! The body of a call, from the command line's options.

use std::{
    collections::hash_map::RandomState,
    ffi::OsString,
    hash::BuildHasher,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::{failure::Failure, options::Call};
use crate::input::Input;

/// A body, with its Content-Type unless a header field sets one.
pub(super) struct Given {
    pub(super) input: Input,
    pub(super) content_type: Option<String>,
}

impl Call {
    /// The body, if one was given.
    pub(super) async fn body(&self) -> Result<Option<Given>, Failure> {
        if !self.form_fields.is_empty() {
            return self.multipart().await.map(Some);
        }
        if !self.text.is_empty() || !self.data_binary.is_empty() {
            let mut joined = Vec::new();
            for (texts, is_text) in [(&self.text, true), (&self.data_binary, false)] {
                for text in texts {
                    if !joined.is_empty() {
                        joined.push(b'&');
                    }
                    joined.extend(self.content(text, is_text).await?);
                }
            }
            return Ok(Some(Given {
                input: Input::bytes(joined),
                content_type: Some("application/x-www-form-urlencoded".to_owned()),
            }));
        }
        let Some(path) = &self.stdin else { return Ok(None) };
        Ok(Some(Given { input: open(path)?, content_type: None }))
    }

    /// `TEXT`, or the content of `@FILE`. A text loses its line ends and NULs, as in curl.
    async fn content(&self, text: &OsString, is_text: bool) -> Result<Vec<u8>, Failure> {
        let Some(file) = text.as_bytes().strip_prefix(b"@") else {
            return Ok(text.as_bytes().to_vec());
        };
        let mut bytes = self.read(&path(file)).await?;
        if is_text {
            bytes.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        }
        Ok(bytes)
    }

    async fn read(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        let read = open(path)?.read(self.max_stdin).await;
        read.map_err(|error| Failure::File(path.to_owned(), error))
    }

    /// multipart/form-data (RFC 7578).
    async fn multipart(&self) -> Result<Given, Failure> {
        let boundary = format!("------------------------{:016x}", RandomState::new().hash_one(0));
        let mut whole = Input::bytes("");
        for field in &self.form_fields {
            let field = Field::parse(field)
                .ok_or_else(|| Failure::Usage("-F: expected NAME=CONTENT".to_owned()))?;
            let mut head = format!("--{boundary}\r\nContent-Disposition: form-data; ").into_bytes();
            put(&mut head, b"name", &field.name);
            let input = match &field.content {
                Content::Text(text) => Input::bytes(text.clone()),
                Content::TextOf(path) => Input::bytes(self.read(path).await?),
                Content::Upload(path) => {
                    let name = match &field.filename {
                        Some(name) => name.as_slice(),
                        None => path.file_name().unwrap_or_default().as_bytes(),
                    };
                    head.extend(b"; ");
                    put(&mut head, b"filename", name);
                    let measured = open(path)?.measured(self.max_stdin).await;
                    measured.map_err(|error| Failure::File(path.clone(), error))?
                }
            };
            let content_type = match (&field.content_type, &field.content) {
                (Some(given), _) => Some(given.clone()),
                (None, Content::Upload(path)) => {
                    let guess = mime_guess::from_path(path).first_raw();
                    Some(guess.unwrap_or("application/octet-stream").into())
                }
                (None, _) => None,
            };
            if let Some(content_type) = content_type {
                head.extend(b"\r\nContent-Type: ");
                head.extend(content_type);
            }
            head.extend(b"\r\n\r\n");
            whole = whole.then(Input::bytes(head)).then(input).then(Input::bytes("\r\n"));
        }
        let input = whole.then(Input::bytes(format!("--{boundary}--\r\n")));
        Ok(Given { input, content_type: Some(format!("multipart/form-data; boundary={boundary}")) })
    }
}

/// One `-F`.
struct Field {
    name: Vec<u8>,
    content: Content,
    content_type: Option<Vec<u8>>,
    filename: Option<Vec<u8>>,
}

enum Content {
    Text(Vec<u8>),
    TextOf(PathBuf),
    Upload(PathBuf),
}

impl Field {
    fn parse(argument: &OsString) -> Option<Self> {
        let (name, content) = split(argument.as_bytes(), b'=')?;
        let (content, rest) = match content.first() {
            Some(b'@' | b'<') => split(content, b';').unwrap_or((content, b"")),
            _ => (content, &b""[..]),
        };
        let content = match content.split_first() {
            Some((b'@', file)) => Content::Upload(path(file)),
            Some((b'<', file)) => Content::TextOf(path(file)),
            _ => Content::Text(content.to_vec()),
        };
        let mut field = Self { name: name.to_vec(), content, content_type: None, filename: None };
        for part in rest.split(|byte| *byte == b';').filter(|part| !part.is_empty()) {
            match split(part.trim_ascii(), b'=')? {
                (b"type", value) if !value.iter().any(u8::is_ascii_control) => {
                    field.content_type = Some(value.to_vec());
                }
                (b"filename", value) => field.filename = Some(value.to_vec()),
                _ => return None,
            }
        }
        Some(field)
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// `name="value"`, escaped like browsers do.
fn put(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend(name);
    head.extend(b"=\"");
    for byte in value {
        match byte {
            b'"' => head.extend(b"%22"),
            b'\r' => head.extend(b"%0D"),
            b'\n' => head.extend(b"%0A"),
            byte => head.push(*byte),
        }
    }
    head.push(b'"');
}

fn path(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

pub(super) fn open(path: &Path) -> Result<Input, Failure> {
    Input::open(path).map_err(|error| Failure::File(path.to_owned(), error))
}
