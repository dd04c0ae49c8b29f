//! Bodies on their way: counted, slowed to a bandwidth, broken off.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use s3s::{Body, StdError};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};

use super::faults::Faults;
use super::layer::Cut;

/// A bandwidth that all bodies share: each piece takes the next free slot, as long as its bytes need.
pub(super) struct Pace {
    slots: Mutex<Slots>,
    changed: Notify,
}

struct Slots {
    bytes_per_second: Option<u64>,
    next_free: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { slots: Mutex::new(Slots { bytes_per_second: None, next_free: Instant::now() }), changed: Notify::new() }
    }

    /// Sets the bandwidth; pieces that wait pass at once.
    pub(super) fn set(&self, bytes_per_second: Option<u64>) {
        assert!(bytes_per_second != Some(0), "a store without any bandwidth is one that is down");
        *self.slots.lock().expect("nothing panics while it holds the slots") =
            Slots { bytes_per_second, next_free: Instant::now() };
        self.changed.notify_waiters();
    }

    /// When this many bytes have passed; none for at once.
    fn reserve(&self, bytes: usize) -> Option<Instant> {
        let mut slots = self.slots.lock().expect("nothing panics while it holds the slots");
        let takes = Duration::from_secs_f64(bytes as f64 / slots.bytes_per_second? as f64);
        slots.next_free = slots.next_free.max(Instant::now()) + takes;
        Some(slots.next_free)
    }

    async fn pass(&self, bytes: usize) {
        let mut changed = std::pin::pin!(self.changed.notified());
        // listens before it reserves: no change can fall between
        changed.as_mut().enable();
        let Some(until) = self.reserve(bytes) else { return };
        tokio::select! {
            () = changed => {}
            () = sleep_until(until) => {}
        }
    }
}

/// A body that keeps to the pace.
pub(super) struct Paced {
    inner: Body,
    faults: Arc<Faults>,
    passed: Arc<AtomicU64>,
    held: Option<Held>,
    breaks: Breaks,
}

/// A piece that waits for its slot.
struct Held {
    frame: Frame<Bytes>,
    turn: Pin<Box<dyn Future<Output = ()> + Send>>,
}

enum Breaks {
    Never,
    After(u64),
    Soon,
    Now,
}

impl Paced {
    /// A whole body; `passed` counts its bytes.
    pub(super) fn new(inner: Body, faults: Arc<Faults>, passed: Arc<AtomicU64>) -> Self {
        Self { inner, faults, passed, held: None, breaks: Breaks::Never }
    }

    /// It breaks off after this many bytes.
    pub(super) fn breaking_after(self, bytes: u64) -> Self {
        Self { breaks: Breaks::After(bytes), ..self }
    }

    /// The body as the server takes it.
    pub(super) fn boxed(self) -> Body {
        Body::http_body_unsync(self)
    }

    /// Waits for the piece that is next, and for its slot.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        if self.held.is_none() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            let (bytes, faults) = (frame.data_ref().map_or(0, Bytes::len), self.faults.clone());
            let turn = Box::pin(async move { faults.pace.pass(bytes).await });
            self.held = Some(Held { frame, turn });
        }
        let held = self.held.as_mut().expect("it was just filled");
        ready!(held.turn.as_mut().poll(cx));
        Poll::Ready(self.held.take().map(|held| Ok(held.frame)))
    }

    /// What of a piece still passes before the body breaks off.
    fn cut(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Breaks::After(left) = self.breaks else { return frame };
        let Ok(mut data) = frame.into_data() else { return Frame::data(Bytes::new()) };
        data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - data.len() as u64;
        self.breaks = if left == 0 { Breaks::Soon } else { Breaks::After(left) };
        Frame::data(data)
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        match this.breaks {
            Breaks::Never | Breaks::After(_) => {}
            Breaks::Soon => {
                // a pause, in which the connection sends what it holds so far
                this.breaks = Breaks::Now;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Breaks::Now => return Poll::Ready(Some(Err(Box::new(Cut)))),
        }
        let frame = match ready!(this.poll_piece(cx)) {
            Some(Ok(frame)) => this.cut(frame),
            end => return Poll::Ready(end),
        };
        this.passed.fetch_add(frame.data_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // only asked before the first piece
        self.inner.size_hint()
    }
}
