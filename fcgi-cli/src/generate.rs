//! `fcgi completions`, `fcgi man`, and the snippets of docs/deploy.md: output without a request.

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::{complain, exit::Exit, report::print};

/// Print completions for a shell
#[derive(Args)]
#[command(after_long_help = COMPLETIONS)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const COMPLETIONS: &str = "\
Examples:
  bash
    fcgi completions bash > /etc/bash_completion.d/fcgi
  zsh, in a folder of $fpath
    fcgi completions zsh > _fcgi
  fish
    fcgi completions fish > ~/.config/fish/completions/fcgi.fish";

impl Completions {
    pub(crate) fn run(self, mut root: Command) -> ExitCode {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut root, "fcgi", &mut text);
        finish(print(String::from_utf8_lossy(&text).trim_end()))
    }
}

/// Print the man page of the command or of a subcommand, or write all of them to a folder
#[derive(Args)]
#[command(after_long_help = MAN)]
pub(crate) struct Man {
    /// The subcommand
    command: Option<String>,
    /// Write a file for each page (fcgi.1, fcgi-ping.1, …) instead of printing one
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

const MAN: &str = "\
Examples:
  Read one
    fcgi man ping | man -l -
  Install all
    fcgi man --dir /usr/local/share/man/man1";

impl Man {
    pub(crate) fn run(self, root: Command) -> ExitCode {
        let visible: Vec<&Command> = root
            .get_subcommands()
            .filter(|it| !it.is_hide_set() && it.get_name() != "help")
            .collect();
        if let Some(folder) = &self.dir {
            let written = fs::create_dir_all(folder).and_then(|()| {
                fs::write(folder.join("fcgi.1"), page(&root, "fcgi")?)?;
                visible.iter().try_for_each(|command| {
                    let name = format!("fcgi-{}", command.get_name());
                    fs::write(folder.join(format!("{name}.1")), page(command, &name)?)
                })
            });
            return finish(written.map_err(|error| {
                io::Error::new(error.kind(), format!("write to {}: {error}", folder.display()))
            }));
        }
        let text = match &self.command {
            None => page(&root, "fcgi"),
            Some(name) => match visible.iter().find(|command| command.get_name() == name) {
                Some(command) => page(command, &format!("fcgi-{name}")),
                None => {
                    complain(&format!("fcgi man: there is no subcommand {name}"));
                    return Exit::Usage.into();
                }
            },
        };
        finish(text.and_then(|text| print(String::from_utf8_lossy(&text).trim_end())))
    }
}

/// The man page of a command.
fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let spaced = name.replacen('-', " ", 1);
    let command = command.clone().name(name.to_owned()).bin_name(spaced);
    let mut text = Vec::new();
    let source = concat!("fcgi ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).source(source).render(&mut text)?;
    Ok(text)
}

fn finish(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("fcgi: {error}"));
            Exit::Io.into()
        }
    }
}
