//! The time limit of a connection's heads (H-16).
//!
//! hyper makes a timer for each head and drops it when the head has come. tokio would file each of
//! them in its list of timers and take it out again. Here all those of a connection share one of
//! tokio's. It stays filed while requests come, and when it fires too early it is filed once more.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt;
use tokio::time::{self, Sleep};

/// The timer of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadTimer(Arc<Mutex<Option<Pin<Box<Sleep>>>>>);

/// A time that one head must not exceed.
struct Until {
    deadline: Instant,
    timer: HeadTimer,
}

impl rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Until { deadline, timer: self.clone() })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into()
    }
}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.into();
        let mut shared = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = shared.get_or_insert_with(|| Box::pin(time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() < deadline {
            timer.as_mut().reset(deadline);
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

impl rt::Sleep for Until {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::rt::Timer;
    use tokio::time::{Instant, advance, timeout};

    use super::HeadTimer;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_own_time() {
        let timer = HeadTimer::default();
        let started = Instant::now();
        for after in [0, 6, 7, 25] {
            advance(Duration::from_secs(after)).await;
            // It is waited for, and dropped when the head has come.
            let head = timer.sleep(LIMIT);
            assert!(timeout(Duration::from_secs(1), head).await.is_err(), "too early");
        }
        let last = Instant::now();
        timer.sleep(LIMIT).await;
        assert_eq!(last.elapsed(), LIMIT);
        timer.sleep(LIMIT / 2).await;
        assert_eq!(last.elapsed(), LIMIT * 3 / 2);
        // One that is due sooner than the one before it, which was dropped.
        assert!(timeout(Duration::from_secs(1), timer.sleep(LIMIT)).await.is_err());
        let last = Instant::now();
        timer.sleep(LIMIT / 5).await;
        assert_eq!(last.elapsed(), LIMIT / 5);
        assert!(started.elapsed() > LIMIT);
    }
}
