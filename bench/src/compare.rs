//! Measures rows in turn, round by round, and prints a table of their medians.

use std::time::Instant;

use anyhow::Result;

use crate::Options;
use crate::goals::Goal;
use crate::stats::{median, median_ratio};
use crate::strace::Calls;
use crate::table::{Table, number, thousands};

/// The results of one round of one row.
#[derive(Clone, Copy, Default)]
pub(crate) struct Round {
    /// Answers, or bytes, per second.
    pub(crate) rate: f64,
    /// Microseconds of processor time per answer.
    pub(crate) cpu: Option<f64>,
    /// 99 of 100 answers arrived within this time, in microseconds.
    pub(crate) p99: Option<f64>,
    /// How much of the wall-clock time the process was running, in per cent.
    pub(crate) busy: Option<f64>,
    /// The peak memory of a server and of a client, in MiB.
    pub(crate) peaks: [Option<f64>; 2],
}

/// What a row measures.
pub(crate) trait Subject {
    /// Measures once, for about this many seconds.
    fn round(&mut self, seconds: f64) -> Result<Round>;

    /// Counts system calls per request, if that is possible here.
    fn calls(&mut self) -> Option<Result<Calls>> {
        None
    }
}

impl<F: FnMut(f64) -> Result<Round>> Subject for F {
    fn round(&mut self, seconds: f64) -> Result<Round> {
        self(seconds)
    }
}

/// One row: what it measures, and the results so far.
pub(crate) struct Row {
    name: String,
    /// `None` if it is missing or has failed.
    subject: Option<Box<dyn Subject>>,
    note: String,
    rounds: Vec<Round>,
    calls: Option<Calls>,
}

impl Row {
    /// A row with its subject, or the reason why it can't take part.
    pub(crate) fn new(name: impl Into<String>, subject: Result<Box<dyn Subject>>) -> Row {
        let (subject, note) = match subject {
            Ok(subject) => (Some(subject), String::new()),
            Err(error) => (None, format!("not run: {error:#}")),
        };
        Row { name: name.into(), subject, note, rounds: Vec::new(), calls: None }
    }

    /// Does something with the subject. If that fails, the row has failed and is left out from then
    /// on.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut dyn Subject) -> Result<T>) -> Option<T> {
        let subject = self.subject.as_deref_mut()?;
        match work(subject) {
            Ok(done) => Some(done),
            Err(error) => {
                self.note = format!("FAILED: {error:#}");
                self.subject = None;
                None
            }
        }
    }
}

/// A number of a [`Round`], as a column and as a ratio to that of the base.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    heading: &'static str,
    of: fn(&Round) -> Option<f64>,
    /// Digits after the point; `None` for an integer with separated thousands.
    digits: Option<usize>,
    /// Whether a column with the ratio to the base follows.
    ratio: bool,
}

impl Column {
    /// Answers per second.
    pub(crate) const RATE: Column =
        Column { heading: "requests/s", of: |round| Some(round.rate), digits: None, ratio: true };
    /// Processor time per answer.
    pub(crate) const CPU: Column =
        Column { heading: "CPU µs/request", of: |round| round.cpu, digits: Some(2), ratio: true };
    /// The 99th percentile.
    pub(crate) const P99: Column =
        Column { heading: "p99 µs", of: |round| round.p99, digits: None, ratio: false };
    /// Whether something else limits the rate.
    pub(crate) const BUSY: Column =
        Column { heading: "busy %", of: |round| round.busy, digits: Some(0), ratio: false };
    /// Bytes per second.
    pub(crate) const BYTES: Column = Column {
        heading: "GB/s",
        of: |round| Some(round.rate / 1e9),
        digits: Some(2),
        ratio: true,
    };
    /// Memory of the server.
    pub(crate) const SERVER_PEAK: Column = Column {
        heading: "server's peak MiB",
        of: |round| round.peaks[0],
        digits: Some(1),
        ratio: false,
    };
    /// Memory of the client.
    pub(crate) const CLIENT_PEAK: Column = Column {
        heading: "client's peak MiB",
        of: |round| round.peaks[1],
        digits: Some(1),
        ratio: false,
    };
}

/// Rows that are measured side by side.
pub(crate) struct Comparison {
    title: String,
    base: &'static str,
    rows: Vec<Row>,
}

impl Comparison {
    /// Measures every row in each round, in turn.
    pub(crate) fn run(
        options: &Options,
        title: impl Into<String>,
        base: &'static str,
        mut rows: Vec<Row>,
    ) -> Comparison {
        let title = title.into();
        rows.retain(|row| options.selects(&row.name) || row.name == base);
        let start = Instant::now();
        for round in 1..=options.rounds {
            for row in &mut rows {
                eprint!("\r{title:.40}: round {round}/{}: {:<24}", options.rounds, row.name);
                if let Some(round) = row.attempt(|subject| subject.round(options.seconds)) {
                    row.rounds.push(round);
                }
            }
        }
        if options.strace {
            for row in &mut rows {
                match row.subject.as_deref_mut().and_then(Subject::calls) {
                    Some(Ok(calls)) => row.calls = Some(calls),
                    Some(Err(error)) => row.note += &format!(" (no system calls: {error:#})"),
                    None => {}
                }
            }
        }
        eprintln!("\r{:80}\r{title}: {:.0} s", "", start.elapsed().as_secs_f64());
        Comparison { title, base, rows }
    }

    /// Prints the table.
    pub(crate) fn print(&self, columns: &[Column]) {
        println!("**{}**\n", self.title);
        let counted = self.rows.iter().any(|row| row.calls.is_some());
        let mut headings = vec![String::new()];
        for column in columns {
            headings.push(column.heading.to_owned());
            if column.ratio {
                headings.push(format!("/ {}", self.base));
            }
        }
        if counted {
            headings.extend(["reads", "writes", "waits", "others"].map(str::to_owned));
        }
        let mut table = Table::new(&headings);
        for row in &self.rows {
            let mut cells = vec![row.name.clone()];
            for column in columns {
                let middle = median(&self.values(&row.name, column.of));
                cells.push(match column.digits {
                    Some(digits) => number(middle, digits),
                    None => thousands(middle),
                });
                if column.ratio {
                    cells.push(number(self.ratio(&row.name, self.base, column.of), 2));
                }
            }
            if counted {
                let of = |pick: fn(&Calls) -> f64| number(row.calls.as_ref().map(pick), 2);
                cells.extend([
                    of(|c| c.reads),
                    of(|c| c.writes),
                    of(|c| c.waits),
                    of(|c| c.others),
                ]);
            }
            table.row(cells, row.note.as_str());
        }
        table.print();
    }

    /// A goal for a row's rate against another's.
    pub(crate) fn goal(&self, what: &str, name: &str, base: &str, at_least: f64) -> Goal {
        Goal::at_least(what, at_least, self.ratio(name, base, |round| Some(round.rate)))
    }

    /// A goal for a row's requests per second of processor time against another's.
    pub(crate) fn goal_per_cpu(&self, what: &str, name: &str, base: &str, at_least: f64) -> Goal {
        let per_cpu = |round: &Round| round.cpu.map(|cpu| 1.0 / cpu);
        Goal::at_least(what, at_least, self.ratio(name, base, per_cpu))
    }

    /// The highest median of a column among rows whose names begin with this.
    pub(crate) fn most(&self, column: Column, names: &str) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.name.starts_with(names));
        rows.filter_map(|row| median(&self.values(&row.name, column.of))).reduce(f64::max)
    }

    fn ratio(&self, name: &str, base: &str, of: fn(&Round) -> Option<f64>) -> Option<f64> {
        median_ratio(&self.values(name, of), &self.values(base, of))
    }

    fn values(&self, name: &str, of: fn(&Round) -> Option<f64>) -> Vec<f64> {
        let row = self.rows.iter().find(|row| row.name == name);
        row.map_or(Vec::new(), |row| row.rounds.iter().filter_map(of).collect())
    }
}
