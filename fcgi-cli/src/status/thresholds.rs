//! `--max KEY=N` and similar options: limits for a pool's figures.

use std::fmt;

use fcgi_tokio::http::php_fpm::Status;

use super::look::Look;

/// What can have a threshold: the kernel's queue, and php-fpm's figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Queue,
    AcceptedConn,
    ListenQueue,
    MaxListenQueue,
    ListenQueueLen,
    IdleProcesses,
    ActiveProcesses,
    TotalProcesses,
    MaxActiveProcesses,
    MaxChildrenReached,
    SlowRequests,
}

impl Key {
    pub(crate) const ALL: [Self; 11] = [
        Self::Queue,
        Self::AcceptedConn,
        Self::ListenQueue,
        Self::MaxListenQueue,
        Self::ListenQueueLen,
        Self::IdleProcesses,
        Self::ActiveProcesses,
        Self::TotalProcesses,
        Self::MaxActiveProcesses,
        Self::MaxChildrenReached,
        Self::SlowRequests,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::AcceptedConn => "accepted-conn",
            Self::ListenQueue => "listen-queue",
            Self::MaxListenQueue => "max-listen-queue",
            Self::ListenQueueLen => "listen-queue-len",
            Self::IdleProcesses => "idle-processes",
            Self::ActiveProcesses => "active-processes",
            Self::TotalProcesses => "total-processes",
            Self::MaxActiveProcesses => "max-active-processes",
            Self::MaxChildrenReached => "max-children-reached",
            Self::SlowRequests => "slow-requests",
        }
    }

    /// `accepted conn`, `accepted_conn` and `accepted-conn` are the same key. `idle`, `active` and
    /// `total` are short names for the numbers of processes.
    fn parse(text: &str) -> Option<Self> {
        let name = text.replace([' ', '_'], "-");
        let of_processes = |key: Self| key.name().strip_suffix("-processes") == Some(&name);
        Self::ALL.into_iter().find(|key| key.name() == name || of_processes(*key))
    }

    /// The figure from php-fpm; `None` if php-fpm does not report it.
    pub(crate) const fn of_status(self, status: &Status) -> Option<u64> {
        Some(match self {
            Self::Queue => return None,
            Self::AcceptedConn => status.accepted_conn,
            Self::ListenQueue => status.listen_queue,
            Self::MaxListenQueue => status.max_listen_queue,
            Self::ListenQueueLen => status.listen_queue_len,
            Self::IdleProcesses => status.idle_processes,
            Self::ActiveProcesses => status.active_processes,
            Self::TotalProcesses => status.total_processes,
            Self::MaxActiveProcesses => status.max_active_processes,
            Self::MaxChildrenReached => status.max_children_reached,
            Self::SlowRequests => status.slow_requests,
        })
    }

    fn of(self, look: &Look) -> Option<u64> {
        match self {
            Self::Queue => look.waiting().map(|(waiting, _)| waiting),
            // Users of this key want the true length, if it is known.
            Self::ListenQueue => {
                let waiting = look.waiting().map(|(waiting, _)| waiting);
                waiting.or_else(|| self.of_status(look.status.as_ref().ok()?))
            }
            _ => self.of_status(look.status.as_ref().ok()?),
        }
    }

    /// The figure that is 100%.
    fn whole(self, look: &Look) -> Option<u64> {
        match self.percent_of()? {
            Self::Queue => look.waiting().map(|(_, limit)| limit),
            whole => whole.of(look),
        }
    }

    /// The key of the figure that is 100%, if this one can be given in percent.
    const fn percent_of(self) -> Option<Self> {
        match self {
            Self::Queue | Self::ListenQueue | Self::MaxListenQueue => Some(Self::Queue),
            Self::IdleProcesses | Self::ActiveProcesses | Self::MaxActiveProcesses => {
                Some(Self::TotalProcesses)
            }
            _ => None,
        }
    }
}

/// The limit.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Amount {
    Number(u64),
    Percent(f64),
    /// By how much the figure may rise between two queries.
    Rise(u64),
}

/// The most, or the least, that a figure may be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Threshold {
    key: Key,
    amount: Amount,
    least: bool,
}

/// `KEY=N`, `KEY=N%` or `KEY=+N`.
pub(crate) fn most(text: &str) -> Result<Threshold, String> {
    const EXPECTED: &str = "expected KEY=N, KEY=N% or KEY=+N";
    let (key, amount) = split(text, EXPECTED)?;
    let amount = if let Some(rise) = amount.strip_prefix('+') {
        Amount::Rise(number(rise).ok_or(EXPECTED)?)
    } else if let Some(percent) = amount.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| EXPECTED)?;
        if !(percent.is_finite() && percent >= 0.0) {
            return Err(EXPECTED.into());
        }
        if key.percent_of().is_none() {
            return Err(format!("{} has no whole to be a share of", key.name()));
        }
        Amount::Percent(percent)
    } else {
        Amount::Number(number(amount).ok_or(EXPECTED)?)
    };
    Ok(Threshold { key, amount, least: false })
}

/// `KEY=N`.
pub(crate) fn least(text: &str) -> Result<Threshold, String> {
    const EXPECTED: &str = "expected KEY=N";
    let (key, amount) = split(text, EXPECTED)?;
    let amount = Amount::Number(number(amount).ok_or(EXPECTED)?);
    Ok(Threshold { key, amount, least: true })
}

/// A number of digits only.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn split<'a>(text: &'a str, expected: &str) -> Result<(Key, &'a str), String> {
    let (name, amount) = text.split_once('=').ok_or(expected)?;
    let key = Key::parse(name).ok_or_else(|| {
        let names = Key::ALL.map(Key::name).join(", ");
        format!("{name:?} is none of {names}")
    })?;
    Ok((key, amount))
}

/// A threshold that was passed; its text says which.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Passed(String);

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Threshold {
    pub(crate) fn most(key: Key, number: u64) -> Self {
        Self { key, amount: Amount::Number(number), least: false }
    }

    /// Whether the threshold needs two queries.
    pub(crate) fn is_rise(&self) -> bool {
        matches!(self.amount, Amount::Rise(_))
    }

    /// Checks a query, and the one before, against the threshold. A figure that is not known fails:
    /// a check must not pass because a figure is missing.
    pub(crate) fn check(&self, look: &Look, before: Option<&Look>) -> Option<Passed> {
        let name = self.key.name();
        let unknown = || Some(Passed(format!("{name} is not known")));
        let Some(value) = self.key.of(look) else {
            // If there is no status page, the reason is printed elsewhere.
            return if self.key == Key::Queue || look.status.is_ok() { unknown() } else { None };
        };
        let (limit, written) = match self.amount {
            Amount::Number(limit) => (limit, limit.to_string()),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share of a number of processes or connections"
            )]
            Amount::Percent(percent) => {
                let Some(whole) = self.key.whole(look) else { return unknown() };
                ((whole as f64 * percent / 100.0) as u64, format!("{percent}% of {whole}"))
            }
            Amount::Rise(limit) => {
                let before = before?;
                let Some(old) = self.key.of(before) else { return unknown() };
                // A pool that was restarted counts from 0.
                let rise = value.saturating_sub(old);
                let text = format!("{name} rose by {rise}, to {value}; at most {limit} is wanted");
                return (rise > limit).then_some(Passed(text));
            }
        };
        match self.least {
            true => (value < limit)
                .then(|| Passed(format!("{name} is {value}; at least {written} is wanted"))),
            false => (value > limit)
                .then(|| Passed(format!("{name} is {value}; at most {written} is wanted"))),
        }
    }

    /// The limit for Nagios's performance data, if it is a number.
    pub(crate) fn warns(&self, key: Key) -> Option<String> {
        match (self.key == key, self.amount, self.least) {
            (true, Amount::Number(limit), false) => Some(limit.to_string()),
            (true, Amount::Number(limit), true) => Some(format!("{limit}:")),
            _ => None,
        }
    }
}
