//! The media types of files.

use std::path::Path;

/// Registered types that the list of `mime_guess` has under older names, or as something else.
const TYPES: [(&str, &str); 9] = [
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("map", "application/json"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("otf", "font/otf"),
    ("rpm", "application/x-rpm"),
    ("ts", "video/mp2t"),
    ("woff", "font/woff"),
];

/// The type that follows from a file's name; `None` if nothing does.
pub(super) fn type_of(path: &Path) -> Option<&'static str> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let known = TYPES.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known));
    known.map(|(_, name)| *name).or_else(|| mime_guess::from_path(path).first_raw())
}
