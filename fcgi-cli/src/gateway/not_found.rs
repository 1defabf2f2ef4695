//! Why nothing serves a request.

use std::{io, path::PathBuf};

use fcgi_http::script::ScriptError;

/// Why nothing serves a request.
#[derive(Debug)]
pub(super) enum NotFound {
    /// The path is refused, or nothing serves it.
    Script(ScriptError),
    /// A folder without any of these index files.
    Folder(Vec<String>),
    /// Nothing serves it, but this index script might if it were a front controller.
    NoFront(String),
    /// The same, and nothing says that the application has scripts.
    NoMount(Box<NotFound>),
    /// Only this link out of the root leads there.
    Outside(PathBuf),
    /// The operator has denied it.
    Denied,
    /// There is no such file, and only files are served here.
    FilesOnly,
    /// The system could not tell.
    Failed(io::Error),
    /// It would have to wait for the disk.
    Wait,
}
