//! How a fuzzer's bytes become choices, and bytes that show where they belong.

/// What is left of the bytes; zeros after their end.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// A number below `n`, of at most 256.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// The bytes at a place of a stream of a request: STDIN, DATA, STDOUT, STDERR.
pub(crate) fn noise(number: usize, stream: usize, from: usize, len: usize) -> Vec<u8> {
    let at = number * 4 + stream;
    (from..from + len).map(|i| (at * 37 + i * 7 + i / 251) as u8).collect()
}
