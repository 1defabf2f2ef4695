//! Conditional requests for files (RFC 9110, 13).

use std::{
    fs::Metadata,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderMap, HeaderValue,
    header::{
        HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    },
};

/// How long a file's time may stay the same while the file changes again: a tick of the clock.
const TICK: Duration = Duration::from_millis(20);
/// The same on file systems that count in seconds, or in two.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// What distinguishes one version of a file from another.
#[derive(Debug)]
pub(super) struct Validators {
    /// A strong entity-tag, quoted. `None` if the file may still change without a new time.
    tag: Option<String>,
    /// When the file was last modified, in whole seconds, like HTTP's dates.
    modified: Option<SystemTime>,
    /// Whether another change can't have the same date any more.
    is_date_over: bool,
}

/// The result of the conditions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Send the file.
    Send,
    /// 304: the client has it already.
    NotModified,
    /// 412: the file is not the version that the client expects.
    Failed,
}

impl Validators {
    /// `coding` distinguishes a compressed file's tag from that of the original.
    pub(super) fn of(metadata: &Metadata, coding: Option<&str>, now: SystemTime) -> Self {
        let time = metadata.modified().ok();
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.map(|since| UNIX_EPOCH + Duration::from_secs(since.as_secs()));
        let tag = time.zip(since).and_then(|(time, since)| {
            let tick = if since.subsec_nanos() == 0 { COARSE_TICK } else { TICK };
            // Somebody has set a time that is in the future.
            let is_settled = now.duration_since(time).map_or(true, |age| age >= tick);
            let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
            let coding = coding.map(|coding| format!("-{coding}")).unwrap_or_default();
            is_settled.then(|| format!("\"{seconds:x}.{nanos:x}-{:x}{coding}\"", metadata.len()))
        });
        let is_over = |second: SystemTime| now >= second + Duration::from_secs(1);
        Self { tag, modified, is_date_over: modified.is_some_and(is_over) }
    }

    /// The value of ETag.
    pub(super) fn tag(&self) -> Option<HeaderValue> {
        self.tag.as_ref()?.try_into().ok()
    }

    /// The value of Last-Modified, but only once another change within the same second is
    /// impossible.
    pub(super) fn date(&self) -> Option<HeaderValue> {
        let modified = self.modified.filter(|_| self.is_date_over)?;
        httpdate::fmt_http_date(modified).try_into().ok()
    }

    /// Evaluates the conditions in the order of RFC 9110, 13.2.2, for GET and HEAD.
    pub(super) fn weigh(&self, headers: &HeaderMap) -> Verdict {
        if headers.contains_key(IF_MATCH) {
            if !self.is_any_of(headers, IF_MATCH, Comparison::Strong) {
                return Verdict::Failed;
            }
        } else if let Some((date, modified)) = date(headers, IF_UNMODIFIED_SINCE).zip(self.modified)
        {
            if modified > date {
                return Verdict::Failed;
            }
        }
        let is_known = if headers.contains_key(IF_NONE_MATCH) {
            self.is_any_of(headers, IF_NONE_MATCH, Comparison::Weak)
        } else {
            let dates = date(headers, IF_MODIFIED_SINCE).zip(self.modified);
            dates.is_some_and(|(date, modified)| modified <= date)
        };
        if is_known { Verdict::NotModified } else { Verdict::Send }
    }

    /// Whether Range applies: without If-Range, or with one that names this exact version.
    pub(super) fn allow_range(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(IF_RANGE) else { return true };
        let bytes = value.as_bytes();
        if bytes.starts_with(b"\"") || bytes.starts_with(b"W/") {
            return self.matches(bytes, Comparison::Strong);
        }
        self.is_date_over && self.modified.is_some() && date(headers, IF_RANGE) == self.modified
    }

    fn is_any_of(&self, headers: &HeaderMap, name: HeaderName, comparison: Comparison) -> bool {
        headers.get_all(name).iter().any(|value| {
            // The file exists.
            value.as_bytes().trim_ascii() == b"*" || self.matches(value.as_bytes(), comparison)
        })
    }

    /// Whether the file's tag is in a list of entity-tags.
    fn matches(&self, mut list: &[u8], comparison: Comparison) -> bool {
        let Some(ours) = &self.tag else { return false };
        loop {
            list = list.trim_ascii_start();
            if let Some(rest) = list.strip_prefix(b",") {
                list = rest;
                continue;
            }
            let (is_weak, tag) = match list.strip_prefix(b"W/") {
                Some(tag) => (true, tag),
                None => (false, list),
            };
            // A tag may contain a comma but not a quote. An invalid tag ends the list.
            let Some(inner) = tag.strip_prefix(b"\"") else { return false };
            let Some(end) = inner.iter().position(|byte| *byte == b'"') else { return false };
            let (tag, rest) = tag.split_at(end + 2);
            if tag == ours.as_bytes() && (!is_weak || comparison == Comparison::Weak) {
                return true;
            }
            list = rest;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Strong,
    Weak,
}

/// A date; an invalid one is ignored.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}
