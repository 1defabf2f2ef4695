//! Interop: each web server in front of our server, and our client in front of each application,
//! through the same list of checks. `cargo xtask interop` runs it and writes docs/interop.md.
//!
//! Each check of each pair is a test of its own. A pair's peers start with its first check and
//! stop with its last.

mod app;
mod checks;
mod gateway;
mod pairs;
mod report;
mod routes;
mod run;
mod wire;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
};

use fcgi_testkit::harness::{self, Case, Failed};

use checks::{CHECKS, Check};
use pairs::Pair;
use report::Report;
use run::Started;

/// The peers of one pair, once they run. A check has them to itself.
type Slot = Arc<Mutex<Option<Result<Started, String>>>>;

fn main() -> ExitCode {
    let report = Report::open();
    let pairs = pairs::all(&report);
    report.tables(&pairs, CHECKS);
    let pairs: Vec<(Pair, Slot)> = pairs.into_iter().map(|pair| (pair, Slot::default())).collect();
    let mut cases = Vec::new();
    // By check, not by pair: two threads then seldom wait for the same pair.
    for check in CHECKS {
        for (pair, slot) in &pairs {
            if (check.applies)(pair) {
                cases.push(case(pair.clone(), check, Arc::clone(slot), report.clone()));
            }
        }
    }
    drop(pairs);
    harness::run(cases)
}

fn case(pair: Pair, check: &'static Check, slot: Slot, report: Report) -> Case {
    let (needs, missing) = (pair.needs, pair.missing.clone());
    let case = Case::new(format!("{}::{}", pair.id, check.id), move || {
        let outcome = judge(&pair, check, &slot);
        report.write(&pair, check, &outcome);
        outcome.map(drop).map_err(Failed::from)
    });
    case.needs(needs).missing(missing)
}

/// What the table shows.
pub(crate) enum Cell {
    Pass,
    Value(String),
    Deviation { why: &'static str },
}

fn judge(pair: &Pair, check: &Check, slot: &Slot) -> Result<Cell, String> {
    // A check that panicked leaves the peers as they are for the next.
    let mut slot = slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let started = slot.get_or_insert_with(|| {
        pair.start()
            .map(|started| started.expecting(pair.expected))
            .map_err(|error| format!("{error:#}"))
    });
    let started = started.as_ref().map_err(|error| format!("the pair does not start: {error}"))?;
    let outcome = (check.run)(started);
    let deviation = pair.deviations.iter().find(|deviation| deviation.check == check.id);
    match (outcome, deviation) {
        (Ok(None), None) => Ok(Cell::Pass),
        (Ok(Some(value)), None) => {
            let expected = pair.expected.iter().find(|(id, _)| *id == check.id);
            match expected {
                Some((_, expected)) if expected.split(" or ").any(|known| known == value) => {
                    Ok(Cell::Value((*expected).into()))
                }
                Some((_, expected)) => {
                    Err(format!("expected {expected:?}, got {value:?}\n{}", started.log()))
                }
                None => Err(format!("got {value:?}, and nothing is expected")),
            }
        }
        (Err(error), None) => Err(format!("{error:#}\n{}", started.log())),
        (Err(error), Some(deviation)) => {
            let error = format!("{error:#}");
            if error.contains(deviation.instead) {
                Ok(Cell::Deviation { why: deviation.why })
            } else {
                let instead = deviation.instead;
                Err(format!("deviates, but not as known ({instead:?}): {error}\n{}", started.log()))
            }
        }
        (Ok(_), Some(deviation)) => {
            Err(format!("no longer deviates: {:?} ({})", deviation.instead, deviation.why))
        }
    }
}
