//! The life of a request at each end, as tables.
//!
//! The tables are the code: [`ServerState::on`] and [`ClientState::on`] are made from the same rows
//! as [`markdown`], which is docs/states.md. A step without a row can't happen: such a record is
//! ignored or ends the connection, and such a command of the caller is a
//! [`UsageError`](crate::UsageError).
//!
//! ```
//! use fcgi_proto::states::{ServerState, ServerTrigger};
//!
//! let state = ServerState::Params.on(ServerTrigger::ParamsEnd);
//! assert_eq!(state, Some(ServerState::Input));
//! assert_eq!(ServerState::Idle.on(ServerTrigger::Finish), None);
//! ```

use alloc::string::String;
use core::fmt::Write as _;

macro_rules! state_table {
    (
        $(#[$state_doc:meta])* $state:ident { $($(#[$s_doc:meta])* $s:ident,)* }
        $(#[$trigger_doc:meta])* $trigger:ident { $($(#[$t_doc:meta])* $t:ident = $label:literal,)* }
        $($from:ident + $on:ident => $to:ident, $note:literal;)*
    ) => {
        $(#[$state_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $state { $($(#[$s_doc])* $s,)* }

        $(#[$trigger_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $trigger { $($(#[$t_doc])* $t,)* }

        impl $state {
            /// The state that `trigger` leads to; `None` if the table has no row for it.
            #[must_use]
            pub const fn on(self, trigger: $trigger) -> Option<Self> {
                match (self, trigger) {
                    $(($state::$from, $trigger::$on) => Some($state::$to),)*
                    _ => None,
                }
            }

            const ROWS: &[[&str; 4]] = &[
                $([stringify!($from), $trigger::$on.label(), stringify!($to), $note],)*
            ];
        }

        impl $trigger {
            const fn label(self) -> &'static str {
                match self { $(Self::$t => $label,)* }
            }
        }
    };
}

state_table! {
    /// A request at the application's end.
    ServerState {
        /// Not active.
        Idle,
        /// BEGIN_REQUEST came; PARAMS are being put together.
        Params,
        /// PARAMS has ended and the application has the request; its input still comes.
        Input,
        /// All of its input has come.
        Complete,
        /// The web server aborted it; the application learns this and answers with its status.
        Aborted,
    }
    /// What moves a [`ServerState`].
    ServerTrigger {
        /// The record.
        Begin = "BEGIN_REQUEST",
        /// BEGIN_REQUEST that is refused.
        Refuse = "BEGIN_REQUEST refused",
        /// The empty PARAMS of a role with further input.
        ParamsEnd = "PARAMS ended",
        /// The empty PARAMS of an Authorizer.
        ParamsEndAll = "PARAMS ended (Authorizer)",
        /// PARAMS cut inside a pair or past the limits.
        BadParams = "PARAMS bad",
        /// The empty record of the role's last stream.
        InputEnd = "last input stream ended",
        /// The record, the end of the connection, or a full request under `FullRequest::Abort`.
        Abort = "ABORT_REQUEST or lost",
        /// The application's `finish` or `reject`.
        Finish = "finish, fail, reject",
    }
    Idle + Begin => Params, "FC-5.1-1";
    Idle + Refuse => Idle, "END_REQUEST with CANT_MPX_CONN, OVERLOADED or UNKNOWN_ROLE (FC-5.1-2, FC-5.5-2)";
    Params + ParamsEnd => Input, "event Request (FC-6.2-1)";
    Params + ParamsEndAll => Complete, "event Request (FC-6.3-1)";
    Params + BadParams => Idle, "END_REQUEST, and Status 400 for a Responder (FC-3.4-5)";
    Params + Abort => Idle, "END_REQUEST; the application never saw the request";
    Input + InputEnd => Complete, "event Readable";
    Input + Abort => Aborted, "event Aborted (FC-5.4-1)";
    Complete + Abort => Aborted, "event Aborted (FC-5.4-1)";
    Input + Finish => Idle, "STDOUT closed, END_REQUEST; what still arrives is dropped (FC-6.2-1)";
    Complete + Finish => Idle, "STDOUT closed, END_REQUEST";
    Aborted + Finish => Idle, "STDOUT closed, END_REQUEST";
}

state_table! {
    /// A request at the web server's end.
    ClientState {
        /// Not active.
        Idle,
        /// BEGIN_REQUEST and PARAMS are queued; its input is being written.
        Sending,
        /// All of its input is queued.
        Waiting,
        /// ABORT_REQUEST is queued; its output is dropped.
        Aborting,
        /// END_REQUEST came; some output is still to be read.
        Ended,
        /// Ended after an abort: the id stays out of use, since some applications send a second
        /// END_REQUEST (Q-12).
        Tombstone,
    }
    /// What moves a [`ClientState`].
    ClientTrigger {
        /// `begin` of a role with input besides PARAMS.
        Begin = "begin",
        /// `begin` of an Authorizer.
        BeginAll = "begin (Authorizer)",
        /// `finish` of the role's last stream.
        FinishInput = "last input stream finished",
        /// `abort`, or a full request under `FullRequest::Abort`.
        Abort = "abort",
        /// The record.
        EndRequest = "END_REQUEST",
        /// The connection's end.
        Lost = "connection lost",
        /// Both outputs are read to their ends, or dropped.
        Drained = "output read or dropped",
    }
    Idle + Begin => Sending, "BEGIN_REQUEST, PARAMS";
    Idle + BeginAll => Waiting, "BEGIN_REQUEST, PARAMS (FC-6.3-1)";
    Sending + FinishInput => Waiting, "the empty record (FC-6.1-1)";
    Sending + Abort => Aborting, "ABORT_REQUEST (FC-5.4-1)";
    Waiting + Abort => Aborting, "ABORT_REQUEST (FC-5.4-1)";
    Sending + EndRequest => Ended, "event Finished; sending stops (FC-6.2-1), and a connection of one request at a time is not reused (Q-10)";
    Waiting + EndRequest => Ended, "event Finished";
    Aborting + EndRequest => Tombstone, "event Finished";
    Sending + Lost => Ended, "event Finished with Truncated (Q-14)";
    Waiting + Lost => Ended, "event Finished with Truncated (Q-14)";
    Aborting + Lost => Idle, "event Finished with Truncated (Q-14)";
    Ended + Drained => Idle, "the id is free";
    Tombstone + EndRequest => Idle, "the id is free";
}

/// docs/states.md: both tables, each as a diagram and as rows.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# States\n\nGenerated from `fcgi_proto::states` by\n`UPDATE_STATES=1 cargo test -p fcgi-proto --test states`; without the variable the test compares.\n",
    );
    section(&mut out, "A request at the application (`ServerConnection`)", ServerState::ROWS);
    section(&mut out, "A request at the web server (`ClientConnection`)", ClientState::ROWS);
    out
}

fn section(out: &mut String, title: &str, rows: &[[&str; 4]]) {
    // Writing to a String can't fail.
    let _ = write!(out, "\n## {title}\n\n```mermaid\nstateDiagram-v2\n    [*] --> Idle\n");
    for [from, on, to, _] in rows {
        let _ = writeln!(out, "    {from} --> {to}: {on}");
    }
    let _ = write!(out, "```\n\n| from | on | to | with |\n| --- | --- | --- | --- |\n");
    for [from, on, to, note] in rows {
        let _ = writeln!(out, "| {from} | {on} | {to} | {note} |");
    }
}
