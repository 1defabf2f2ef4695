//! The report of wrong arguments.

use std::{env, ffi::OsString, process::ExitCode};

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    exit::Exit,
    help,
    report::{Form, Report},
};

/// Reports wrong arguments, and returns the exit status. The form of the report comes from the
/// arguments, or otherwise from the variables of the subcommand's options.
pub(crate) fn report(command: &Command, error: &mut clap::Error) -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).take_while(|arg| arg != "--").collect();
    let is_typed = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let subcommand = arguments.iter().find_map(|word| command.find_subcommand(word));
    let has = |option: &str| {
        subcommand.is_some_and(|it| it.get_arguments().any(|arg| arg.get_id() == option))
    };
    let is_set = |option: &str| {
        let Some(subcommand) = subcommand.filter(|_| has(option)) else { return false };
        let variable = help::variable_of(subcommand, option);
        env::var(&variable).is_ok_and(|value| help::switch(&value) == Ok(true))
    };
    let (json, docker, nagios) =
        (is_typed("--json"), is_typed("--docker"), is_typed("--nagios") && !is_typed("--docker"));
    let docker = docker || (is_set("docker") && !nagios);
    let form = Form {
        json: has("json") && (json || (is_set("json") && !nagios)),
        docker,
        nagios: has("nagios") && (nagios || (is_set("nagios") && !json && !docker)),
    };
    let variable = subcommand.and_then(|it| variable(it, error, &arguments));
    if form.json || form.nagios {
        let text = error.render().to_string();
        let lines: Vec<&str> =
            text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let message = lines.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let message = match variable {
            Some(variable) => format!("{message} ({variable})"),
            None => message.to_owned(),
        };
        let name = subcommand.map_or("fcgi", Command::get_name);
        return Report::new(name, Exit::Usage, message).finish(form, false);
    }
    if let Some(variable) = variable {
        let tip = format!("the value comes from the environment: {variable}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    // A failure of the terminal can't be reported anywhere.
    let _ = error.print();
    ExitCode::from(form.status(Exit::Usage))
}

/// The variable that a wrong value comes from, if its option is not on the command line.
fn variable(subcommand: &Command, error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = shown.strip_prefix("--")?.split(' ').next()?;
    let option = subcommand.get_arguments().find(|arg| arg.get_long() == Some(long))?;
    let is_option = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        match argument.strip_prefix("--") {
            Some(name) => name.split('=').next() == Some(long),
            None => {
                let letters = argument.strip_prefix('-').unwrap_or_default();
                option.get_short().is_some_and(|short| letters.contains(short))
            }
        }
    };
    let name = help::variable_of(subcommand, long);
    let is_set = env::var_os(&name).is_some_and(|value| !value.is_empty());
    (is_set && !arguments.iter().any(is_option)).then_some(name)
}
