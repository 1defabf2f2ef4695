//! The memory of a request's parameters, for the thread's next request.

use std::cell::Cell;

use fcgi_proto::Params;

/// More memory than this is not kept.
const MOST: usize = 4096;

thread_local! {
    static SPARE: Cell<Params> = const { Cell::new(Params::new()) };
}

/// Parameters whose memory the next request may use.
#[inline]
pub(super) fn take() -> Params {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

/// Keeps the memory of a request's parameters, if its handler has left them.
#[inline]
pub(super) fn put_back(params: &mut Params) {
    if (1..=MOST).contains(&params.capacity()) {
        let mut params = std::mem::take(params);
        params.clear();
        // A thread that is ending keeps none.
        let _ = SPARE.try_with(|spare| spare.set(params));
    }
}
