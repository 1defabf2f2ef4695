//! Quiet connections among many. If the system has epoll, it watches them, so that poll(2) need not
//! walk thousands of connections for the sake of a few.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use super::slot::Slot;

/// If there are no more connections than this, all are polled, even if they have no events.
pub(super) const FEW: usize = 64;
/// A connection without events in this many polls is quiet.
pub(super) const SILENT_POLLS: u8 = 64;

/// When to try epoll again after the system had no room.
const RETRY: Duration = Duration::from_secs(60);

/// Marks the number of a quiet connection's slot.
const QUIET: usize = 1 << (usize::BITS - 1);

/// The quiet connections.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    set: Option<Set>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// No limit of these connections passes before this.
    until: Option<Instant>,
    able: Able,
    /// The log has a warning that epoll is missing or full.
    warned: bool,
}

/// Whether epoll takes connections. If not, quiet connections are polled like all others.
#[derive(Debug, Default)]
enum Able {
    #[default]
    Yes,
    /// The system had no room; that may pass.
    NotBefore(Instant),
    /// The system has no epoll.
    Never,
}

impl Quiet {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it takes connections.
    pub(super) fn is_able(&self) -> bool {
        match self.able {
            Able::Yes => true,
            Able::NotBefore(again) => Instant::now() >= again,
            Able::Never => false,
        }
    }

    /// No limit of these connections passes before this.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The descriptor that is readable when one of them has an event.
    pub(super) fn polled(&self) -> Option<BorrowedFd<'_>> {
        self.set.as_ref().filter(|_| !self.is_empty()).map(Set::as_fd)
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// The connection itself, if the system has no room for it.
    pub(super) fn add(&mut self, slot: Slot) -> Result<(), Slot> {
        let key = self.free.pop().unwrap_or(self.slots.len());
        if let Err(error) = self.watch(&slot, key) {
            self.fail(&error);
            if key < self.slots.len() {
                self.free.push(key);
            }
            return Err(slot);
        }
        self.able = Able::Yes;
        slot.connection.slot.store(QUIET | key, Ordering::Relaxed);
        self.until = self.until.into_iter().chain(slot.watch.until).min();
        match self.slots.get_mut(key) {
            Some(free) => *free = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::Unsupported {
            self.able = Able::Never;
            return;
        }
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(%error, "no room to watch quiet connections apart: all are polled");
        }
        self.able = Able::NotBefore(Instant::now() + RETRY);
    }

    fn watch(&mut self, slot: &Slot, key: usize) -> io::Result<()> {
        if !slot.is_watched() {
            return Ok(());
        }
        let set = match &self.set {
            Some(set) => set,
            None => self.set.insert(Set::new()?),
        };
        set.add(slot.stream.as_fd(), key, slot.watch.events)
    }

    /// Returns the connection with this number, if it is a quiet one.
    pub(super) fn take(&mut self, number: usize) -> Option<Slot> {
        let key = number & !QUIET;
        if number == key {
            return None;
        }
        let slot = self.slots.get_mut(key)?.take()?;
        self.free.push(key);
        if let Some(set) = self.set.as_ref().filter(|_| slot.is_watched()) {
            set.remove(slot.stream.as_fd());
        }
        Some(slot)
    }

    /// Adds the numbers and events of those that have any.
    pub(super) fn ready(&self, into: &mut Vec<(usize, PollFlags)>) {
        if let Some(set) = &self.set {
            set.ready(|key, events| into.push((QUIET | key, events)));
        }
    }

    /// Adds the numbers of those whose limits have passed; without a time, of all.
    pub(super) fn late(&mut self, now: Option<Instant>, into: &mut Vec<(usize, PollFlags)>) {
        let passed =
            |until: Option<Instant>| now.is_none_or(|now| until.is_some_and(|until| until <= now));
        if now.is_some() && !passed(self.until) {
            return;
        }
        self.until = None;
        for (key, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            if passed(slot.watch.until) {
                into.push((QUIET | key, PollFlags::empty()));
            } else {
                self.until = self.until.into_iter().chain(slot.watch.until).min();
            }
        }
    }
}

/// An epoll instance.
#[derive(Debug)]
struct Set(OwnedFd);

impl AsFd for Set {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll {
    use std::{io, mem::MaybeUninit, os::fd::BorrowedFd};

    use rustix::event::{
        PollFlags, Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    };

    use super::Set;

    /// At most this many events are reported at once.
    const EVENTS: usize = 64;

    impl Set {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
        }

        pub(super) fn add(&self, fd: BorrowedFd<'_>, key: usize, on: PollFlags) -> io::Result<()> {
            // poll and epoll use the same bits.
            let on = EventFlags::from_bits_truncate(u32::from(on.bits()));
            Ok(epoll::add(&self.0, fd, EventData::new_u64(key as u64), on)?)
        }

        pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
            // Can't fail: it is in the set.
            let _ = epoll::delete(&self.0, fd);
        }

        pub(super) fn ready(&self, mut found: impl FnMut(usize, PollFlags)) {
            let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
            // After an interruption the next poll asks again.
            let Ok((ready, _)) = epoll::wait(&self.0, &mut events, Some(&Timespec::default()))
            else {
                return;
            };
            for event in ready {
                let Event { flags, data, .. } = *event;
                let events = PollFlags::from_bits_truncate(flags.bits() as u16);
                found(data.u64() as usize, events);
            }
        }
    }
}

/// A system without epoll: no set exists.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Set {
    fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn add(&self, _: BorrowedFd<'_>, _: usize, _: PollFlags) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: BorrowedFd<'_>) {}

    fn ready(&self, _: impl FnMut(usize, PollFlags)) {}
}
