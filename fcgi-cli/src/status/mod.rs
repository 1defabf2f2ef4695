//! `fcgi status`: the status of php-fpm's pools.

mod look;
mod options;
pub(crate) mod print;
mod prometheus;
mod serve;
mod thresholds;
mod values;
mod verdict;

pub(crate) use look::{Look, Pool};

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use crate::{
    complain,
    exit::Exit,
    report::{Report, print as print_line, write_result},
    signals::Signals,
};
pub(crate) use options::Status;
use serve::Exporter;
use thresholds::Threshold;
use verdict::{Verdict, judge, together};

/// The time between the queries for `--max KEY=+N`, unless `--watch` says otherwise.
const PAUSE: Duration = Duration::from_secs(1);

impl Status {
    pub(crate) async fn run(self) -> ExitCode {
        let pools = match self.pools() {
            Ok(pools) => pools,
            Err(message) => {
                return Report::new("status", Exit::Usage, message).finish(self.form, self.quiet);
            }
        };
        if let Some(listen) = &self.serve {
            return self.serve(listen, pools).await;
        }
        if self.values {
            return values::of_all(pools, self.timeout, self.form, self.quiet).await;
        }
        if self.prometheus {
            let scrapes = Exporter::new(pools, self.timeout).scrape().await;
            let failed = scrapes.iter().find_map(|it| it.look.status.as_ref().err());
            let exit = failed.map_or(Exit::Done, |trouble| trouble.exit);
            return write_result("status", &prometheus::text(&scrapes), exit).0.into();
        }
        self.look(&pools).await
    }

    /// Queries once; twice if a threshold is a rise; or again and again.
    async fn look(&self, pools: &[Pool]) -> ExitCode {
        let thresholds = self.thresholds();
        let rises = thresholds.iter().any(Threshold::is_rise);
        // Both queries must fit into the one limit.
        let (limit, pause) = match self.interval() {
            Some(pause) => (self.timeout, pause),
            None if rises => {
                let pause = PAUSE.min(self.timeout / 2);
                ((self.timeout - pause) / 2, pause)
            }
            None => (self.timeout, Duration::ZERO),
        };
        let mut before: Vec<Look> = Vec::new();
        if rises && self.watch.is_none() {
            before = serve::looks(pools, false, limit).await;
            tokio::time::sleep(pause).await;
        }
        loop {
            let looks = serve::looks(pools, self.full, limit).await;
            let verdicts: Vec<Verdict> = looks
                .into_iter()
                .enumerate()
                .map(|(n, look)| judge(look, before.get(n), &thresholds))
                .collect();
            let (code, is_read) = self.show(&verdicts, &before, &thresholds);
            if self.watch.is_none() || !is_read {
                return code;
            }
            before = verdicts.into_iter().map(|verdict| verdict.look).collect();
            tokio::time::sleep(pause).await;
        }
    }

    /// Prints the results. Returns the exit status, and whether stdout still has a reader.
    fn show(
        &self,
        verdicts: &[Verdict],
        before: &[Look],
        thresholds: &[Threshold],
    ) -> (ExitCode, bool) {
        let exit = verdicts.iter().map(|verdict| verdict.exit).find(|exit| *exit != Exit::Done);
        let exit = exit.unwrap_or(Exit::Done);
        let code = |exit: Exit| ExitCode::from(self.form.status(exit));
        if self.form.json {
            let lines: Vec<String> =
                verdicts.iter().map(|it| it.report(thresholds).json(self.form) + "\n").collect();
            let (exit, is_read) = write_result("status", &lines.concat(), exit);
            return (code(exit), is_read);
        }
        if self.form.nagios {
            return (together(verdicts, exit, thresholds).finish(self.form, false), true);
        }
        if self.quiet {
            return (code(exit), true);
        }
        let looks: Vec<&Look> = verdicts.iter().map(|verdict| &verdict.look).collect();
        let mut text = print::text(&looks, before);
        if self.watch.is_some() {
            if io::stdout().is_terminal() {
                // Move to the top, and erase the last output below.
                text.insert_str(0, "\x1b[H\x1b[J");
            } else {
                text.push('\n');
            }
        }
        let (exit, is_read) = write_result("status", &text, exit);
        for verdict in verdicts.iter().filter(|verdict| verdict.exit != Exit::Done) {
            complain(&format!("fcgi status: {}", verdict.report(thresholds).line()));
        }
        (code(exit), is_read)
    }

    async fn serve(&self, listen: &str, pools: Vec<Pool>) -> ExitCode {
        let failed = |error: io::Error| {
            complain(&format!("fcgi status: listen at {listen}: {error}"));
            ExitCode::from(Exit::Io)
        };
        let Ok(mut signals) = Signals::catch() else {
            return failed(io::Error::other("signals can't be caught"));
        };
        let listener = match serve::bind(listen).await {
            Ok(listener) => listener,
            Err(error) => return failed(error),
        };
        match listener.local_addr() {
            // It does not matter whether anybody reads it.
            Ok(address) => drop(print_line(&format!("http://{address}/metrics"))),
            Err(error) => return failed(error),
        }
        let exporter = Arc::new(Exporter::new(pools, self.timeout));
        tokio::select! {
            never = serve::serve(listener, exporter) => match never {},
            _ = signals.next() => {}
        }
        ExitCode::SUCCESS
    }
}
