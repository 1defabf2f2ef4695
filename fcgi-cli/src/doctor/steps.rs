//! The steps of a check, and what was found.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::{causes::Cause, exit::Exit};

/// The result of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    Well,
    /// It may matter.
    Note,
    Wrong,
}

impl Mark {
    const fn word(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Well => AnsiColor::Green.on_default(),
            Self::Note => AnsiColor::Yellow.on_default(),
            Self::Wrong => AnsiColor::Red.on_default().bold(),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) exit: Exit,
    pub(super) message: String,
    pub(super) cause: Option<Cause>,
}

/// The steps so far. They are printed one by one, unless the output is for programs.
#[derive(Debug)]
pub(super) struct Steps {
    is_printed: bool,
    all: Vec<Value>,
    pub(super) findings: Vec<Finding>,
}

impl Steps {
    pub(super) fn new(is_printed: bool) -> Self {
        Self { is_printed, all: Vec::new(), findings: Vec::new() }
    }

    pub(super) fn well(&mut self, name: &'static str, text: impl Into<String>) {
        self.step(Mark::Well, name, &text.into(), None);
    }

    pub(super) fn note(&mut self, name: &'static str, text: impl Into<String>) {
        self.step(Mark::Note, name, &text.into(), None);
    }

    pub(super) fn wrong(
        &mut self,
        name: &'static str,
        exit: Exit,
        message: impl Into<String>,
        cause: Option<Cause>,
    ) {
        let message = message.into();
        self.step(Mark::Wrong, name, &message, cause.as_ref());
        self.findings.push(Finding { exit, message, cause });
    }

    pub(super) fn json(&self) -> Value {
        self.all.clone().into()
    }

    fn step(&mut self, mark: Mark, name: &'static str, text: &str, cause: Option<&Cause>) {
        let mut step = json!({"step": name, "result": mark.word(), "message": text});
        if let Some(cause) = cause {
            step["cause"] = cause.id.into();
            step["likely"] = cause.likely.as_str().into();
            step["remedy"] = cause.remedy.as_str().into();
        }
        self.all.push(step);
        if !self.is_printed {
            return;
        }
        let (style, word) = (mark.style(), mark.word());
        let mut out = anstream::stdout().lock();
        // If the reader is gone, the exit status still says it.
        let _ = writeln!(out, "{style}{word:<5}{style:#} {name}: {text}");
        if let Some(cause) = cause {
            let _ = writeln!(out, "      likely: {}\n      to do: {}", cause.likely, cause.remedy);
        }
        let _ = out.flush();
    }
}
