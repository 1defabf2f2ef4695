//! `--values`: an application's capacity, as it reports it.

use std::{process::ExitCode, time::Duration};

use tokio::task::JoinSet;

use super::look::Pool;
use crate::{
    ask,
    budget::Budget,
    exit::Exit,
    report::{Form, Report},
};

/// Sends GET_VALUES on separate connections. All pools are queried at the same time, each for
/// at most `limit`.
pub(super) async fn of_all(pools: Vec<Pool>, limit: Duration, form: Form, quiet: bool) -> ExitCode {
    let mut tasks = JoinSet::new();
    for (n, pool) in pools.into_iter().enumerate() {
        tasks.spawn(async move { (n, one(&pool, limit).await) });
    }
    let mut asked = tasks.join_all().await;
    asked.sort_by_key(|(n, _)| *n);
    let reports: Vec<Report> = asked.into_iter().map(|(_, report)| report).collect();
    let worst = |exits: &[Exit]| {
        exits.iter().copied().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done)
    };
    if form.nagios {
        let exits: Vec<Exit> = reports.iter().map(Report::exit).collect();
        return together(reports, worst(&exits)).finish(form, quiet);
    }
    let shown: Vec<Exit> = reports.iter().map(|report| report.show(form, quiet)).collect();
    ExitCode::from(form.status(worst(&shown)))
}

async fn one(pool: &Pool, limit: Duration) -> Report {
    let address = &pool.address;
    let budget = Budget::new(Some(limit));
    let report = match ask::values(address, &budget).await {
        Ok(values) => {
            let said = [
                ("FCGI_MAX_CONNS", values.max_conns.map(u64::from)),
                ("FCGI_MAX_REQS", values.max_reqs.map(u64::from)),
                ("FCGI_MPXS_CONNS", values.mpxs_conns.map(u64::from)),
            ];
            let text: Vec<String> = said
                .iter()
                .map(|(name, value)| match value {
                    Some(value) => format!("{name}={value}"),
                    None => format!("{name} is not said"),
                })
                .collect();
            let message = format!("{address}: {}", text.join(", "));
            let report = Report::new("status", Exit::Done, message);
            said.into_iter().fold(report, |report, (name, value)| report.field(name, value))
        }
        Err(no) => Report::new("status", no.exit(), no.report()).cause(no.cause(address)),
    };
    report.address(address).duration("time", budget.elapsed(), Some(limit))
}

/// For Nagios, joins the reports into one line.
fn together(mut reports: Vec<Report>, exit: Exit) -> Report {
    if reports.len() == 1 {
        return reports.remove(0);
    }
    let is_meant = |report: &&Report| exit == Exit::Done || report.exit() != Exit::Done;
    let lines: Vec<String> = reports.iter().filter(is_meant).map(Report::line).collect();
    Report::new("status", exit, lines.join("; "))
}
