//! Which parts of a file a client asks for (RFC 9110, 14).

use http::{HeaderMap, header::RANGE};

/// The most parts in one answer. A client that wants more gets the whole file.
const MOST: usize = 100;

/// What to send of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Whole,
    /// One part: its first and last byte.
    Part(u64, u64),
    /// Several parts, in the client's order.
    Parts(Vec<(u64, u64)>),
    /// Nothing of it is in the file.
    Beyond,
}

/// What Range asks for, of a file of this length. An invalid Range is ignored. So are ranges that
/// are more than the file altogether, as they are if they overlap.
pub(super) fn wanted(headers: &HeaderMap, length: u64) -> Wanted {
    let mut lines = headers.get_all(RANGE).iter();
    let (Some(range), None) = (lines.next(), lines.next()) else { return Wanted::Whole };
    range.to_str().ok().and_then(|range| parse(range, length)).unwrap_or(Wanted::Whole)
}

fn parse(range: &str, length: u64) -> Option<Wanted> {
    let (unit, list) = range.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (mut parts, mut is_empty) = (Vec::new(), true);
    // Elements of a list may be empty (RFC 9110, 5.6.1).
    for one in
        list.split(',').map(|one| one.trim_matches([' ', '\t'])).filter(|one| !one.is_empty())
    {
        is_empty = false;
        match parse_one(one, length)? {
            // Such a part is all of an empty file, which no Content-Range can say.
            One::Part(..) if length == 0 => return None,
            One::Part(first, last) => parts.push((first, last)),
            One::Beyond => {}
        }
    }
    let sum = parts.iter().try_fold(0u64, |sum, (first, last)| sum.checked_add(last - first + 1));
    match parts[..] {
        [] if is_empty => None,
        [] => Some(Wanted::Beyond),
        [(first, last)] => Some(Wanted::Part(first, last)),
        _ if parts.len() > MOST || sum.is_none_or(|sum| sum > length) => None,
        _ => Some(Wanted::Parts(parts)),
    }
}

enum One {
    Part(u64, u64),
    Beyond,
}

/// `0-99`, `100-` or `-100`.
fn parse_one(range: &str, length: u64) -> Option<One> {
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        // A position too large for a number is beyond the end of any file.
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = match (first, last) {
        ("", suffix) => match number(suffix)? {
            0 => return Some(One::Beyond),
            n => (length.saturating_sub(n), u64::MAX),
        },
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if first > last {
        return None;
    }
    // nginx and Go also take the start of an empty file for all of it.
    match first {
        0 if length == 0 => Some(One::Part(0, 0)),
        first if first >= length => Some(One::Beyond),
        first => Some(One::Part(first, last.min(length - 1))),
    }
}
