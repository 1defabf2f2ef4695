//! Precompressed files: `app.js.br` is sent for `app.js` to clients that accept it.

use std::path::Path;

use http::{HeaderMap, header::ACCEPT_ENCODING};

use super::media::type_of;

/// A content coding, and the suffix of such files. The first one usually gives the smallest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The name in Content-Encoding.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// The codings that a client accepts, its favourite first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Codings([Option<Coding>; 3]);

impl Codings {
    /// Reads Accept-Encoding (RFC 9110, 12.5.3).
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let mut weights = [0; Coding::ALL.len()];
        let mut others = 0;
        let mut plain = 0;
        let mut named = [false; Coding::ALL.len()];
        let lines = headers.get_all(ACCEPT_ENCODING).iter();
        for item in lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')) {
            let (name, parameter) = item.split_once(';').unwrap_or((item, ""));
            let name = name.trim();
            let weight = weight(parameter);
            let is_it = |coding: &Coding| {
                name.eq_ignore_ascii_case(coding.name())
                    || (*coding == Coding::Gzip && name.eq_ignore_ascii_case("x-gzip"))
            };
            match Coding::ALL.iter().position(is_it) {
                Some(at) => (weights[at], named[at]) = (weight, true),
                None if name == "*" => others = weight,
                // Without a weight of its own it is what is sent if there is nothing better.
                None if name.eq_ignore_ascii_case("identity") => plain = weight,
                None => {}
            }
        }
        let weight = |at: usize| if named[at] { weights[at] } else { others };
        let mut order = [0, 1, 2];
        order.sort_by_key(|at| std::cmp::Reverse(weight(*at)));
        Self(order.map(|at| (weight(at) > 0 && weight(at) >= plain).then_some(Coding::ALL[at])))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Coding> {
        self.0.into_iter().flatten()
    }
}

/// `q=0.5` in thousandths. An invalid weight counts as the lowest.
fn weight(parameter: &str) -> u16 {
    let Some(("q" | "Q", number)) = parameter.trim().split_once('=') else { return 1000 };
    number.trim().parse().map_or(1, |weight: f32| (weight.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// Whether files of this name are compressed already, like pictures and films. Nobody looks for a
/// smaller version of them.
pub(super) fn is_compressed(path: &Path) -> bool {
    let mime = type_of(path).and_then(|mime| mime.split_once('/'));
    mime.is_some_and(|mime| match mime {
        ("image", kind) => !matches!(kind, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        ("audio" | "video", _) => true,
        ("font", kind) => kind.starts_with("woff"),
        ("application", kind) => {
            matches!(
                kind,
                "zip" | "gzip" | "x-gzip" | "zstd" | "x-7z-compressed" | "x-bzip2" | "x-xz"
            )
        }
        _ => false,
    })
}
