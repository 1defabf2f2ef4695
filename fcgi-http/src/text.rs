//! A peer's bytes, made fit for an error message.

/// The first 64 bytes, with everything but printable ASCII escaped (H-10).
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let shown = bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii();
    if bytes.len() > SHOWN {
        format!("{shown}… ({} bytes)", bytes.len())
    } else {
        shown.to_string()
    }
}

/// Line ends, NUL and the other control bytes; none belongs in a path or a one-line parameter.
pub(crate) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}
