//! A gateway that can't continue.

/// Why the gateway did not start, and its exit status.
pub(super) struct Stopped(pub(super) u8, pub(super) String);

impl Stopped {
    pub(super) fn usage(message: impl ToString) -> Self {
        Self(2, message.to_string())
    }

    pub(super) fn io(message: impl ToString) -> Self {
        Self(5, message.to_string())
    }
}
