//! The application that is served if there is no other: an axum router behind FastCGI.

mod stream;

use axum::{
    Extension, Router,
    body::Body,
    extract::{DefaultBodyLimit, Multipart, multipart::MultipartError},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use fcgi_engine::text::escape;
use fcgi_tokio::http::MetaVariables;
use sha2::{Digest, Sha256};

use stream::Pieces;

const PAGE: &str = include_str!("page.html");
/// The page contains everything that it needs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(page))
        .route("/upload", get(Redirect::to("/")).post(upload))
        .route("/stream", get(stream))
        .fallback((StatusCode::NOT_FOUND, "The sample application has no such page.\n"))
        // The gateway has its own limit.
        .layer(DefaultBodyLimit::disable())
}

async fn page(Extension(meta): Extension<MetaVariables>) -> Response {
    respond(StatusCode::OK, "", &meta)
}

async fn stream() -> impl IntoResponse {
    let head = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (head, Body::from_stream(Pieces::new()))
}

/// Counts and hashes a file as it comes, and stores nothing.
async fn upload(Extension(meta): Extension<MetaVariables>, form: Multipart) -> Response {
    match receive(form).await {
        Ok(Some(file)) => respond(StatusCode::OK, &file.to_html(), &meta),
        Ok(None) => {
            let note = note("No file was sent: choose one first.");
            respond(StatusCode::BAD_REQUEST, &note, &meta)
        }
        Err(error) => {
            let note = note(&format!("The upload was not understood: {}", error.body_text()));
            respond(error.status(), &note, &meta)
        }
    }
}

struct Received {
    name: String,
    content_type: String,
    bytes: u64,
    sha256: String,
}

async fn receive(mut form: Multipart) -> Result<Option<Received>, MultipartError> {
    while let Some(mut field) = form.next_field().await? {
        let Some(name) = field.file_name().filter(|name| !name.is_empty()) else { continue };
        let name = name.to_owned();
        let content_type = field.content_type().unwrap_or("none").to_owned();
        let (mut bytes, mut hash) = (0, Sha256::new());
        while let Some(chunk) = field.chunk().await? {
            bytes += chunk.len() as u64;
            hash.update(&chunk);
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        return Ok(Some(Received { name, content_type, bytes, sha256 }));
    }
    Ok(None)
}

impl Received {
    fn to_html(&self) -> String {
        let rows = [
            ("Name", self.name.clone()),
            ("Type", self.content_type.clone()),
            ("Bytes", self.bytes.to_string()),
            ("SHA-256", self.sha256.clone()),
        ];
        let rows = rows.map(|(name, value)| {
            let value = html(value.as_bytes());
            format!("<dt>{name}</dt><dd><code>{value}</code></dd>\n")
        });
        format!("<dl id=\"received\">\n{}</dl>\n", rows.concat())
    }
}

fn note(text: &str) -> String {
    format!("<p role=\"alert\">{}</p>\n", html(text.as_bytes()))
}

fn respond(status: StatusCode, upload: &str, meta: &MetaVariables) -> Response {
    let parameters: String = meta
        .params()
        .iter()
        .map(|(name, value)| {
            let (name, value) = (html(name), html(value));
            format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n")
        })
        .collect();
    let page = fill(&[("<!--upload-->", upload), ("<!--parameters-->", &parameters)]);
    let head = [(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-store")];
    (status, head, Html(page)).into_response()
}

/// Fills the page's marks with texts, in order. A mark inside a text does not count.
fn fill(texts: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut rest = PAGE;
    for (mark, text) in texts {
        if let Some((before, after)) = rest.split_once(mark) {
            page.push_str(before);
            page.push_str(text);
            rest = after;
        }
    }
    page.push_str(rest);
    page
}

/// Bytes from a client as text for a page.
fn html(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for c in escape(bytes, b"").chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
