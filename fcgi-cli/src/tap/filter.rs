//! Selects the requests that are printed.

use std::{str::FromStr, time::Duration};

use super::exchange::{Exchange, Outcome, Time};

/// A condition for requests.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    not: bool,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    /// A part of the path.
    Contains(String),
    Method(String),
    Path(String),
    /// Classes and codes: `404`, `5xx`.
    Status(Vec<String>),
    StatusFrom(u16),
    Slower(Duration),
    Stderr,
    Param(Vec<u8>, String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (not, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        if text.is_empty() {
            return Err("expected a filter, such as status=5xx or /api".to_owned());
        }
        let number = |text: &str, what: &str| {
            text.trim()
                .parse::<f64>()
                .ok()
                .filter(|number| (0.0..1e9).contains(number))
                .ok_or_else(|| format!("expected a number after {what}, not {text:?}"))
        };
        let test = if let Some(rest) = text.strip_prefix("status>=") {
            Test::StatusFrom(number(rest, "status>=")? as u16)
        } else if let Some(rest) = text.strip_prefix("ms>=") {
            Test::Slower(Duration::from_secs_f64(number(rest, "ms>=")? / 1e3))
        } else if text == "stderr" {
            Test::Stderr
        } else {
            match text.split_once('=') {
                Some(("method", method)) => Test::Method(method.to_owned()),
                Some(("path", path)) => Test::Path(path.to_owned()),
                Some(("status", list)) => {
                    Test::Status(list.split(',').map(status).collect::<Result<_, _>>()?)
                }
                Some((name, value)) if is_param(name) => {
                    Test::Param(name.as_bytes().to_vec(), value.to_owned())
                }
                _ => Test::Contains(text.to_owned()),
            }
        };
        Ok(Self { not, test })
    }
}

fn is_param(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn status(text: &str) -> Result<String, String> {
    let class = text.as_bytes();
    let is_number = class.len() == 3
        && class[0].is_ascii_digit()
        && class[1..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'x');
    if is_number || matches!(text, "cut" | "aborted") {
        return Ok(text.to_owned());
    }
    Err(format!("expected a status, such as 404, 5xx, cut or aborted, not {text:?}"))
}

impl Filter {
    pub(crate) fn takes(&self, exchange: &Exchange, outcome: Outcome, time: Time) -> bool {
        let is_so = match &self.test {
            Test::Contains(text) => {
                matches(format!("*{text}*").as_bytes(), exchange.path().as_bytes())
            }
            Test::Method(method) => exchange.method().eq_ignore_ascii_case(method),
            Test::Path(pattern) => matches(pattern.as_bytes(), exchange.path().as_bytes()),
            Test::Status(list) => list.iter().any(|wanted| match &**wanted {
                "cut" => matches!(outcome, Outcome::Cut | Outcome::Left),
                "aborted" => exchange.aborted,
                class => exchange.head.status().is_some_and(|status| {
                    let status = status.to_string();
                    status.len() == 3
                        && class.bytes().zip(status.bytes()).all(|(a, b)| a == b'x' || a == b)
                }),
            }),
            Test::StatusFrom(least) => {
                exchange.head.status().is_some_and(|status| status >= *least)
            }
            Test::Slower(least) => time.saturating_sub(exchange.begun) >= *least,
            Test::Stderr => exchange.stderr > 0,
            Test::Param(name, pattern) => {
                exchange.params.get(name).is_some_and(|value| matches(pattern.as_bytes(), value))
            }
        };
        is_so != self.not
    }
}

/// Whether a whole text matches a pattern with `*`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let at = (0..=rest.len()).find(|at| rest[*at..].starts_with(part));
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{Filter, matches};

    #[test]
    fn patterns() {
        for (pattern, text, is_so) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a*", "/ab", true),
            ("*a*", "xay", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is_so, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_filter() {
        for text in ["", "!", "status=abc", "status=40", "status>=x", "ms>=-1"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
