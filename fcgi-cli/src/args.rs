//! Arguments that several subcommands share.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    str::FromStr,
    time::Duration,
};

use clap::{Arg, Command, Error, builder::TypedValueParser, parser::ValueSource};

/// The longest time limit, in seconds: about 31 years.
const MAX_SECONDS: f64 = 1e9;

/// Bytes, since neither a file name nor a header must be UTF-8.
pub(crate) type Param = (Vec<u8>, Vec<u8>);

/// `NAME=VALUE`.
pub(crate) fn param(argument: OsString) -> Result<Param, &'static str> {
    let mut name = argument.into_vec();
    let equals = name.iter().position(|byte| *byte == b'=').ok_or("expected NAME=VALUE")?;
    let value = name.split_off(equals + 1);
    name.truncate(equals);
    Ok((name, value))
}

/// Parses the values of an option whose variable is a list, `a, b`. The spaces around its commas
/// belong to no value.
pub(crate) fn listed<P>(parser: P) -> Listed<P> {
    Listed(parser)
}

#[derive(Clone)]
pub(crate) struct Listed<P>(P);

impl<P: TypedValueParser> TypedValueParser for Listed<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, Error> {
        self.0.parse_ref(command, arg, value)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Self::Value, Error> {
        let value = match source {
            ValueSource::EnvVariable => OsStr::from_bytes(value.as_bytes().trim_ascii()),
            _ => value,
        };
        self.0.parse_ref_(command, arg, value, source)
    }
}

/// A number of 0 or more.
pub(crate) fn number<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "expected a number, 0 or more")
}

/// A number of 1 or more.
pub(crate) fn at_least_one<N: FromStr + Default + PartialEq>(
    text: &str,
) -> Result<N, &'static str> {
    let number = text.parse().ok().filter(|number| *number != N::default());
    number.ok_or("expected a number, 1 or more")
}

/// A time in seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a number of seconds";
    let seconds: f64 = text.parse().map_err(|_| EXPECTED)?;
    if seconds.is_nan() {
        return Err(EXPECTED.to_owned());
    }
    if seconds < 0.0 {
        return Err("expected a time that is not negative".to_owned());
    }
    if seconds > MAX_SECONDS {
        return Err(format!("expected at most {MAX_SECONDS} seconds"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A time limit in seconds, of more than 0.
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("expected more than 0 seconds".to_owned()),
        limit => Ok(limit),
    }
}

/// A number of bytes, with or without K, M or G for powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a number of bytes, such as 65536, 64K, 20M or 1G";
    let (number, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    number.checked_mul(factor).ok_or(EXPECTED)
}
