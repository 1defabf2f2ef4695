//! Options from the environment: each has a variable, and the command line wins.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use clap::{
    Arg, ArgAction,
    builder::{BoolishValueParser, Resettable},
};

/// What the variables begin with.
const PREFIX: &str = "FCGI_GATEWAY_";
/// Options whose values may hold a comma: each has a line of the variable.
const WITH_COMMAS: [&str; 3] = ["param", "ini", "deny"];

/// Gives an argument its variable. An empty one says nothing.
pub(super) fn variable(arg: Arg) -> Arg {
    let name = match (arg.get_long(), arg.is_positional()) {
        (Some(long), _) => format!("{PREFIX}{}", long.to_uppercase().replace('-', "_")),
        (None, true) => "FCGI_ADDR".to_owned(),
        (None, false) => return arg,
    };
    let value = env::var_os(&name).filter(|value| !value.is_empty());
    // clap wants what lives as long as the process.
    let name: &'static str = name.leak();
    let arg = arg.env(name).hide_env_values(true);
    let is_list = matches!(arg.get_action(), ArgAction::Append)
        || arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    match (value, arg.get_action()) {
        (None, _) if env::var_os(name).is_some() => arg.env(Resettable::Reset),
        (_, ArgAction::SetTrue) => arg.value_parser(BoolishValueParser::new()),
        (Some(value), _) if is_list => {
            let has_commas = WITH_COMMAS.contains(&arg.get_id().as_str());
            let is_end = |byte: &u8| *byte == b'\n' || (*byte == b',' && !has_commas);
            let values = value.as_bytes().split(is_end).map(<[u8]>::trim_ascii);
            let values = values.filter(|value| !value.is_empty());
            let values = values.map(|value| OsString::from_vec(value.to_vec()).into_boxed_os_str());
            let values = values.map(|value| &*Box::leak::<'static>(value));
            arg.env(Resettable::Reset).default_values(values.collect::<Vec<&'static OsStr>>())
        }
        _ => arg,
    }
}
