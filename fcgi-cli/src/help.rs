//! The command line as a whole: its first page, and a variable for every option.

use clap::{
    Arg, ArgAction, ArgMatches, Command, Error, Id, builder::Resettable, error::ErrorKind,
    parser::ValueSource,
};

use crate::php::Php;

/// Subcommands, and their purpose.
type Row = (&'static [&'static str], &'static str);

/// The subcommands by purpose, in a few words. One that is in no group is shown below the groups.
const GROUPS: [(&str, &[Row]); 5] = [
    (
        "Is it well?",
        &[
            (&["ping"], "a health check: the right answer, in time"),
            (&["status"], "how busy php-fpm's pools are, and how many callers wait"),
            (&["doctor"], "what is wrong, and what to do"),
            (&["ls"], "the sockets here, and whether they answer"),
        ],
    ),
    (
        "Ask it",
        &[
            (&["call"], "one request: curl for FastCGI"),
            (&["php"], "run PHP in a pool, as its worker"),
        ],
    ),
    (
        "Look closer",
        &[
            (&["tap"], "record its traffic with a web server"),
            (&["decode"], "print a recording, or raw bytes"),
            (&["check"], "test it against the specification, case by case"),
            (&["bench"], "how fast it answers under load"),
            (&["demo"], "a request and its response, record by record"),
        ],
    ),
    ("Serve it", &[(&["gateway"], "a web server in front of it, for browsers")]),
    (
        "Set up",
        &[
            (&["nginx-conf", "apache-conf", "systemd-unit"], "print their files"),
            (&["completions", "man"], "for the shell"),
        ],
    ),
];

const INTRODUCTION: &str = "\
FastCGI is how web servers such as nginx pass requests to applications such as
php-fpm. This command checks and calls them, in the web server's place.";

const END: &str = "\
ADDR is unix:PATH, /PATH, HOST:PORT or :PORT; else FCGI_ADDR, FCGI_CONNECT, or
the only socket found. See fcgi COMMAND --help for details. To start:
  fcgi demo";

/// Parses the command line, with the subcommands that `augment` adds.
pub(crate) fn parse(augment: impl Fn(Command) -> Command) -> Result<ArgMatches, Error> {
    let first = command(&augment).ignore_errors(true).try_get_matches().ok();
    let parsed = command(&augment)
        .mut_subcommands(|sub| {
            let given = first.as_ref().and_then(|given| given.subcommand_matches(sub.get_name()));
            let without = given.map(|given| overruled(sub.get_name(), given)).unwrap_or_default();
            variables(sub, &without, given)
        })
        .try_get_matches();
    match parsed {
        Err(error) if error.kind() == ErrorKind::ArgumentConflict => {
            // The command line takes precedence over a variable that conflicts with it.
            let bare = |sub: Command| sub.mut_args(|arg| arg.env(Resettable::Reset));
            let given = command(&augment).mut_subcommands(bare).try_get_matches()?;
            command(&augment)
                .mut_subcommands(|sub| match given.subcommand_matches(sub.get_name()) {
                    Some(given) => {
                        let mut without = conflicting(&sub, given);
                        without.extend(overruled(sub.get_name(), given));
                        variables(sub, &without, Some(given))
                    }
                    None => sub,
                })
                .try_get_matches()
        }
        parsed => parsed,
    }
}

/// The command with its variables, for pages and completions, without hidden parts.
pub(crate) fn whole(augment: impl FnOnce(Command) -> Command) -> Command {
    let all = command(augment).mut_subcommands(|sub| variables(sub, &[], None));
    let visible = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut root =
        bare().about("Calls, checks and serves FastCGI applications").subcommands(visible);
    root.build();
    root
}

/// The command, without variables.
fn command(augment: impl FnOnce(Command) -> Command) -> Command {
    let root = augment(bare()).mut_subcommands(|sub| {
        // Of an option that is given twice, the last one counts, as in curl.
        sub.args_override_self(true).mut_args(|arg| {
            // So `--timeout -1` is a wrong time, and not an unknown option -1.
            let has_value = arg.get_long().is_some() && arg.get_action().takes_values();
            arg.allow_negative_numbers(has_value)
        })
    });
    let page = page(&root);
    root.help_template(page)
}

fn bare() -> Command {
    Command::new("fcgi")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
}

/// The variables that conflict with the given arguments.
fn conflicting(command: &Command, given: &ArgMatches) -> Vec<Id> {
    let (present, absent): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().partition(|arg| is_given(given, arg));
    let mut without: Vec<Id> = Vec::new();
    for arg in &present {
        without
            .extend(command.get_arg_conflicts_with(arg).iter().map(|other| other.get_id().clone()));
    }
    for arg in absent {
        let conflicts = command.get_arg_conflicts_with(arg);
        if conflicts
            .iter()
            .any(|other| present.iter().any(|given| given.get_id() == other.get_id()))
        {
            without.push(arg.get_id().clone());
        }
    }
    without
}

/// The variables that code for `fcgi php` on the command line replaces.
fn overruled(command: &str, given: &ArgMatches) -> Vec<Id> {
    if command != "php" {
        return Vec::new();
    }
    let words: Vec<&String> = given.get_many("words").into_iter().flatten().collect();
    if Php::has_code(&words) { vec!["file".into(), "opcache".into()] } else { Vec::new() }
}

/// Whether an argument is on the command line.
fn is_given(given: &ArgMatches, arg: &Arg) -> bool {
    given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// The first page, which fits a screen.
fn page(root: &Command) -> String {
    let mut text = format!("{INTRODUCTION}\n\nUsage: fcgi COMMAND [ADDR] [OPTIONS]\n\n");
    let mut left: Vec<&Command> =
        root.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    for (title, rows) in GROUPS {
        let mut title = title;
        for (names, about) in rows {
            let here = |name: &&&str| left.iter().any(|command| command.get_name() == **name);
            let shown: Vec<&str> = names.iter().filter(here).copied().collect();
            if shown.is_empty() {
                continue;
            }
            left.retain(|command| !shown.contains(&command.get_name()));
            text.push_str(&format!("{title:<13}{:<8} {about}\n", shown.join(", ")));
            title = "";
        }
    }
    for command in left {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("{:<13}{:<8} {about}\n", "", command.get_name()));
    }
    text.push_str(&format!("\n{END}\n"));
    text
}

/// Options whose values may contain a comma: a variable holds one value per line.
const WITH_COMMAS: [&str; 9] =
    ["param", "params", "ini", "deny", "headers", "text", "data_binary", "form_fields", "filters"];
/// What the help of these options adds.
const A_LINE_EACH: &str = " (its variable has one per line)";

/// The name of the variable of a subcommand's option.
pub(crate) fn variable_of(command: &Command, option: &str) -> String {
    format!("FCGI_{}_{option}", command.get_name()).to_ascii_uppercase().replace('-', "_")
}

/// Gives every option of a subcommand its variable: `FCGI_PING_PATH` for `fcgi ping --path`.
///
/// Those in `without` get none. For a repeatable option, a variable holds several values, separated
/// by commas.
fn variables(command: Command, without: &[Id], given: Option<&ArgMatches>) -> Command {
    if command.is_hide_set() {
        return command;
    }
    let start = variable_of(&command, "");
    command.mut_args(|arg| {
        if without.contains(arg.get_id()) {
            return arg.env(Resettable::Reset);
        }
        let arg = variable(arg, &start);
        let has_commas = WITH_COMMAS.contains(&arg.get_id().as_str());
        let arg = match arg.get_help() {
            Some(help) if has_commas => {
                let help = format!("{help}{A_LINE_EACH}");
                arg.help(help)
            }
            _ => arg,
        };
        // Values on the command line are not split.
        let is_typed = given.is_some_and(|given| is_given(given, &arg));
        if is_typed || arg.get_env().is_none() || !matches!(arg.get_action(), ArgAction::Append) {
            return arg;
        }
        arg.value_delimiter(if has_commas { '\n' } else { ',' })
    })
}

/// A switch's variable. Anything but these words is an error: a typing error must turn nothing on.
pub(crate) fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "yes" | "y" | "true" | "t" | "1" => Ok(true),
        "off" | "no" | "n" | "false" | "f" | "0" => Ok(false),
        _ => Err("expected on or off"),
    }
}

fn variable(arg: Arg, start: &str) -> Arg {
    let arg = match (arg.get_env(), arg.get_long()) {
        (Some(_), _) | (None, None | Some("help" | "version")) => arg,
        (None, Some(long)) => {
            let name = format!("{start}{}", long.to_ascii_uppercase().replace('-', "_"));
            let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
            // A value may be a secret, so help does not show it.
            let arg = arg.env(name).hide_env_values(true);
            if is_flag { arg.value_parser(switch) } else { arg }
        }
    };
    // An empty variable counts as not set.
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(Resettable::Reset) } else { arg }
}
