//! What this project wants to reach, and what was measured. These goals are only printed, never
//! asserted.

use crate::table::{Table, number};

/// A goal and its result.
pub(crate) struct Goal {
    what: String,
    wanted: f64,
    at_most: bool,
    measured: Option<f64>,
}

impl Goal {
    /// A goal where more is better.
    pub(crate) fn at_least(what: &str, wanted: f64, measured: Option<f64>) -> Goal {
        Goal { what: what.to_owned(), wanted, at_most: false, measured }
    }

    /// A goal where less is better.
    pub(crate) fn at_most(what: &str, wanted: f64, measured: Option<f64>) -> Goal {
        Goal { what: what.to_owned(), wanted, at_most: true, measured }
    }

    fn verdict(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(measured) if (measured <= self.wanted) == self.at_most => "reached",
            Some(measured) if measured == self.wanted => "reached",
            Some(_) => "missed",
        }
    }
}

/// Prints all goals.
pub(crate) fn print(goals: &[Goal]) {
    println!("### Goals\n");
    let mut table = Table::new(&["", "goal", "measured", ""]);
    for goal in goals {
        let bound = if goal.at_most { "at most" } else { "at least" };
        let cells = vec![
            goal.what.clone(),
            format!("{bound} {}", goal.wanted),
            number(goal.measured, 2),
            goal.verdict().to_owned(),
        ];
        table.row(cells, "");
    }
    table.print();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let verdicts = [Some(0.8), Some(0.9), Some(1.0), None].map(|measured| {
            [Goal::at_least("", 0.9, measured), Goal::at_most("", 0.9, measured)]
                .map(|goal| goal.verdict())
        });
        assert_eq!(verdicts[0], ["missed", "reached"]);
        assert_eq!(verdicts[1], ["reached", "reached"]);
        assert_eq!(verdicts[2], ["reached", "missed"]);
        assert_eq!(verdicts[3], ["not measured", "not measured"]);
    }
}
