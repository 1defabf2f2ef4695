//! `--max KEY=N` and its like: when a pool's figures are not as wanted.

use std::fmt;

use fcgi_tokio::http::php_fpm::Status;

use super::look::Look;

/// What can be held against a threshold: the kernel's queue, and php-fpm's words.
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

    /// `accepted conn`, `accepted_conn` and `accepted-conn` are one key; `idle`, `active` and
    /// `total` are short for those of processes.
    fn parse(text: &str) -> Option<Self> {
        let name = text.replace([' ', '_'], "-");
        let of_processes = |key: Self| key.name().strip_suffix("-processes") == Some(&name);
        Self::ALL.into_iter().find(|key| key.name() == name || of_processes(*key))
    }

    /// php-fpm's word; `None` for what it does not say.
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
            // Its users want the true one, where it is known.
            Self::ListenQueue => {
                let waiting = look.waiting().map(|(waiting, _)| waiting);
                waiting.or_else(|| self.of_status(look.status.as_ref().ok()?))
            }
            _ => self.of_status(look.status.as_ref().ok()?),
        }
    }

    /// What 100% is.
    fn whole(self, look: &Look) -> Option<u64> {
        match self.percent_of()? {
            Self::Queue => look.waiting().map(|(_, limit)| limit),
            whole => whole.of(look),
        }
    }

    /// Whose whole, or limit, it is a share of.
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

/// How much may be.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Amount {
    Number(u64),
    Percent(f64),
    /// More than a look before.
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
        Amount::Rise(rise.parse().map_err(|_| EXPECTED)?)
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
        Amount::Number(amount.parse().map_err(|_| EXPECTED)?)
    };
    Ok(Threshold { key, amount, least: false })
}

/// `KEY=N`.
pub(crate) fn least(text: &str) -> Result<Threshold, String> {
    const EXPECTED: &str = "expected KEY=N";
    let (key, amount) = split(text, EXPECTED)?;
    let amount = Amount::Number(amount.parse().map_err(|_| EXPECTED)?);
    Ok(Threshold { key, amount, least: true })
}

fn split<'a>(text: &'a str, expected: &str) -> Result<(Key, &'a str), String> {
    let (name, amount) = text.split_once('=').ok_or(expected)?;
    let key = Key::parse(name).ok_or_else(|| {
        let names = Key::ALL.map(Key::name).join(", ");
        format!("{name:?} is none of {names}")
    })?;
    Ok((key, amount))
}

/// A threshold that does not hold; its text says which.
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

    /// Whether it takes two looks.
    pub(crate) fn is_rise(&self) -> bool {
        matches!(self.amount, Amount::Rise(_))
    }

    /// Holds it against a look, and the one before. What is not known does not hold: a check must
    /// not pass for want of a figure.
    pub(crate) fn check(&self, look: &Look, before: Option<&Look>) -> Option<Passed> {
        let name = self.key.name();
        let unknown = || Some(Passed(format!("{name} is not known")));
        let Some(value) = self.key.of(look) else {
            // Why there is no status page is said elsewhere.
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
                // A pool that was started again counts from 0.
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

    /// The limit for Nagios's performance data, where it is a number.
    pub(crate) fn warns(&self, key: Key) -> Option<String> {
        match (self.key == key, self.amount, self.least) {
            (true, Amount::Number(limit), false) => Some(limit.to_string()),
            (true, Amount::Number(limit), true) => Some(format!("{limit}:")),
            _ => None,
        }
    }
}
