//! The command line as a whole: its first page, and a variable for every option.

use clap::{
    Arg, ArgAction, ArgMatches, Command, Error, Id, builder::FalseyValueParser, error::ErrorKind,
    parser::ValueSource,
};

/// The subcommands by need. A subcommand that is in none of the groups shows under `Other`.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Is it well?", &["ping", "status", "doctor", "ls"]),
    ("Ask it:", &["call", "php"]),
    ("See and measure:", &["tap", "decode", "check", "bench", "demo"]),
    (
        "Serve and set up:",
        &["gateway", "nginx-conf", "apache-conf", "systemd-unit", "completions", "man"],
    ),
];

const INTRODUCTION: &str = "\
FastCGI is how web servers such as nginx hand requests to applications such as php-fpm.
This command looks after these applications, and takes the web server's place.";

const END: &str = "\
ADDR is unix:PATH, /PATH, HOST:PORT or :PORT; else FCGI_ADDR, FCGI_CONNECT, or the only
socket found. `fcgi COMMAND --help` has options, variables and examples. To begin with:
  fcgi demo";

/// Parses the command line, with the subcommands that `augment` adds.
pub(crate) fn parse(augment: impl Fn(Command) -> Command) -> Result<ArgMatches, Error> {
    let parsed = command(&augment).mut_subcommands(|sub| variables(sub, &[])).try_get_matches();
    match parsed {
        Err(error) if error.kind() == ErrorKind::ArgumentConflict => {
            // What is on the command line goes before a variable that conflicts with it.
            let given = command(&augment).try_get_matches()?;
            command(&augment)
                .mut_subcommands(|sub| match given.subcommand_matches(sub.get_name()) {
                    Some(given) => {
                        let without = conflicting(&sub, given);
                        variables(sub, &without)
                    }
                    None => sub,
                })
                .try_get_matches()
        }
        parsed => parsed,
    }
}

/// The command with its variables, for pages and completions.
pub(crate) fn whole(augment: impl FnOnce(Command) -> Command) -> Command {
    let mut root = command(augment).mut_subcommands(|sub| variables(sub, &[]));
    // The first page is for terminals.
    root = root.help_template("{about}\n\n{usage-heading} {usage}\n\n{all-args}");
    root.build();
    root
}

/// The command, without variables.
fn command(augment: impl FnOnce(Command) -> Command) -> Command {
    let root = Command::new("fcgi")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Calls, checks and serves FastCGI applications")
        .subcommand_required(true)
        .arg_required_else_help(true);
    let root = augment(root);
    let page = page(&root);
    root.help_template(page)
}

/// What conflicts with the arguments that are given.
fn conflicting(command: &Command, given: &ArgMatches) -> Vec<Id> {
    let is_given =
        |arg: &&Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let (present, absent): (Vec<&Arg>, Vec<&Arg>) = command.get_arguments().partition(is_given);
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

/// The first page.
fn page(root: &Command) -> String {
    let mut text = format!("{INTRODUCTION}\n\nUsage: fcgi COMMAND [ADDR] [OPTIONS]\n");
    let mut shown: Vec<&str> = Vec::new();
    let group = |text: &mut String, title: &str, commands: &[&Command]| {
        if !commands.is_empty() {
            text.push_str(&format!("\n{title}\n"));
        }
        for command in commands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {:<13}{about}\n", command.get_name()));
        }
    };
    let visible = || root.get_subcommands().filter(|command| !command.is_hide_set());
    for (title, names) in GROUPS {
        let commands: Vec<&Command> = names
            .iter()
            .filter_map(|name| visible().find(|command| command.get_name() == *name))
            .collect();
        shown.extend(commands.iter().map(|command| command.get_name()));
        group(&mut text, title, &commands);
    }
    let others: Vec<&Command> =
        visible().filter(|command| !shown.contains(&command.get_name())).collect();
    group(&mut text, "Other:", &others);
    text.push_str(&format!("\n{END}\n"));
    text
}

/// Gives every option of a subcommand its variable: `FCGI_PING_PATH` for `fcgi ping --path`.
///
/// Those in `without` get none.
fn variables(command: Command, without: &[Id]) -> Command {
    if command.is_hide_set() {
        return command;
    }
    let start = format!("FCGI_{}_", command.get_name().to_ascii_uppercase().replace('-', "_"));
    command.mut_args(|arg| if without.contains(arg.get_id()) { arg } else { variable(arg, &start) })
}

fn variable(arg: Arg, start: &str) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    if matches!(long, "help" | "version") || arg.get_env().is_some() {
        return arg;
    }
    let name = format!("{start}{}", long.to_ascii_uppercase().replace('-', "_"));
    let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
    // A value may be a secret: help does not show it.
    let arg = arg.env(name).hide_env_values(true);
    if is_flag { arg.value_parser(FalseyValueParser::new()) } else { arg }
}
