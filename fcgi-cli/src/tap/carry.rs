//! Relays the bytes of one connection as they come, in both directions.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::pin,
    time::Duration,
};

use fcgi_driver::runtime::Transport as _;
use fcgi_engine::socket::HangUp;
use fcgi_tokio::Transport;
use tokio::{io::Interest, select, time::sleep};

use super::watch::{End, Watch};
use crate::{
    stream::{ready, reset, try_read, try_write, waits},
    trace::Direction,
};

/// How much is read at once.
pub(super) const BLOCK: usize = 64 * 1024;
/// How often to check whether the peer of a connection with one closed direction is completely
/// gone: a runtime does not report that.
const LOOK: Duration = Duration::from_millis(50);
/// One direction of a connection.
struct Flow<'a> {
    from: &'a Transport,
    to: &'a Transport,
    direction: Direction,
    watch: &'a RefCell<Watch>,
    /// Shared by all connections: its content is written before anything else is awaited.
    scratch: &'a RefCell<Box<[u8]>>,
    /// Nobody takes these bytes any more. They are still read, so that their sender is not stuck.
    lost: Cell<bool>,
}

impl Flow<'_> {
    /// Relays until the sender has ended or reset its direction.
    async fn run(&self) -> End {
        loop {
            if ready(self.from, Interest::READABLE).await.is_err() {
                return End::Reset;
            }
            let rest = {
                let mut scratch = self.scratch.borrow_mut();
                let read = try_read(self.from, &mut scratch);
                if waits(&read) {
                    continue;
                }
                let bytes = match read {
                    Ok(0) => return End::Closed,
                    Ok(n) => &scratch[..n],
                    Err(_) => return End::Reset,
                };
                if self.lost.get() {
                    continue;
                }
                // Recorded before it is relayed, so that no answer comes before its question.
                self.watch.borrow_mut().bytes(self.direction, bytes);
                let written = try_write(self.to, bytes);
                match written {
                    _ if waits(&written) => bytes.to_vec(),
                    Ok(n) => bytes[n..].to_vec(),
                    Err(_) => {
                        self.lose();
                        continue;
                    }
                }
            };
            if !rest.is_empty() && self.write(&rest).await.is_err() {
                self.lose();
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            ready(self.to, Interest::WRITABLE).await?;
            let written = try_write(self.to, bytes);
            if !waits(&written) {
                bytes = &bytes[written?..];
            }
        }
        Ok(())
    }

    fn lose(&self) {
        self.lost.set(true);
        // If the system can, the sender notices at its next write, as it would without the tap.
        let _ = self.from.refuse_input();
    }
}

/// Ends when the peer is gone, not just when it has stopped sending.
async fn gone(stream: &Transport) {
    while stream.hang_up() != HangUp::Gone {
        sleep(LOOK).await;
    }
}

/// Relays one connection until both ends are done, or one of them is gone.
pub(super) async fn carry(
    web_server: Transport,
    application: Transport,
    watch: &RefCell<Watch>,
    scratch: &RefCell<Box<[u8]>>,
) {
    let flow =
        |from, to, direction| Flow { from, to, direction, watch, scratch, lost: Cell::new(false) };
    let up = flow(&web_server, &application, Direction::ToApplication);
    let down = flow(&application, &web_server, Direction::ToWebServer);
    let ended = {
        let (mut running_up, mut running_down) = (pin!(up.run()), pin!(down.run()));
        let (first, end) = select! {
            end = &mut running_up => (&up, end),
            end = &mut running_down => (&down, end),
        };
        watch.borrow_mut().end(first.direction, end);
        if end == End::Reset {
            end
        } else {
            if !first.lost.get() {
                first.to.shutdown_write();
            }
            match first.direction {
                Direction::ToApplication => last(running_down, &down, first).await,
                Direction::ToWebServer => last(running_up, &up, first).await,
            }
        }
    };
    if ended == End::Reset {
        reset(&web_server);
        reset(&application);
    }
}

/// Finishes the remaining direction when the other has ended.
async fn last(running: impl Future<Output = End>, flow: &Flow<'_>, first: &Flow<'_>) -> End {
    if flow.lost.get() {
        // Its reader has already closed the other direction.
        return End::Closed;
    }
    let lost = async {
        while !flow.lost.get() {
            sleep(LOOK).await;
        }
    };
    let end = select! {
        biased;
        end = running => end,
        // A peer that has sent everything and is gone takes nothing either.
        () = gone(first.from) => return End::Closed,
        () = lost => return End::Closed,
    };
    flow.watch.borrow_mut().end(flow.direction, end);
    end
}
