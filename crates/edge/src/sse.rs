//! A stream of events as the text of an answer. It asks the stream itself whenever the client can take more; nothing
//! stands between them, so dropping this is what tells the owner that the client is gone.

use crate::stop::Watch;
use crate::ticket::Counted;
use enfilade_mcp::sse;
use enfilade_session::stream::{Event, EventId, EventStream};
use futures::Stream as _;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Events that are ready are written together up to this size, so that a burst costs one write.
const CHUNK_BYTES: usize = 32 * 1024;
/// Clients whose streams broke together must not come back together.
const RETRY_MS: std::ops::Range<u64> = 500..5000;

/// The longest id: three numbers of 20 digits, with a dot between each two.
const ID_BYTES: usize = 62;

/// The text. It keeps none of it: an idle stream has no buffer.
#[derive(Debug)]
pub(crate) struct Events {
    /// Fields are dropped in this order: the place is free before the owner learns that the client is gone.
    counted: Counted,
    stream: EventStream,
    keep_alive: Duration,
    written: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// Ends the stream when the node stops; calls have none, and finish.
    stop: Option<Watch>,
    done: bool,
}

impl Events {
    pub(crate) fn new(stream: EventStream, keep_alive: Duration, stop: Option<Watch>, counted: Counted) -> Self {
        Self { stream, keep_alive, written: Instant::now(), timer: None, stop, done: false, counted }
    }

    /// Appends what there is to say to `out`. When it is ready, something was appended, or it [is done](Self::is_done);
    /// both where the end is known already.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<()> {
        let start = out.len();
        if !self.done && self.stop.as_mut().is_some_and(|stop| stop.poll(context)) {
            self.done = true;
        }
        while !self.done && out.len() - start < CHUNK_BYTES {
            match Pin::new(&mut self.stream).poll_next(context) {
                Poll::Ready(Some(event)) => {
                    self.counted.hears(&event.data);
                    write(out, &event);
                }
                Poll::Ready(None) => {
                    self.counted.hears_the_end();
                    self.done = true;
                }
                Poll::Pending => break,
            }
        }
        if out.len() == start && !self.done {
            ready!(self.poll_silence(context));
            sse::comment(out);
        }
        self.written = Instant::now();
        Poll::Ready(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// True for a stream without an end of its own.
    pub(crate) fn is_lasting(&self) -> bool {
        self.stop.is_some()
    }

    /// Resolves once nothing was written for the keep-alive time. Writing does not touch the timer: when it fires, it
    /// is set anew from the last write.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let due = self.written + self.keep_alive;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(timer.as_mut().poll(context));
            let now = Instant::now();
            if now >= due {
                timer.as_mut().reset(now + self.keep_alive);
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

fn write(out: &mut Vec<u8>, event: &Event) {
    let mut room = [0; ID_BYTES];
    let id = event.id.map(|id| text(id, &mut room));
    match (id, event.data.is_empty()) {
        (Some(id), true) => sse::priming(out, id, Some(retry_ms())),
        (None, true) => {}
        (id, false) => sse::event(out, id, &String::from_utf8_lossy(&event.data)),
    }
}

/// An id in its text form.
fn text(id: EventId, room: &mut [u8; ID_BYTES]) -> &str {
    let mut rest = &mut room[..];
    let _ = write!(rest, "{id}"); // There is room.
    let length = ID_BYTES - rest.len();
    str::from_utf8(&room[..length]).unwrap_or_default()
}

fn retry_ms() -> u64 {
    // Without randomness the middle of the range still is a valid answer.
    let random = getrandom::u32().map_or(u64::from(u32::MAX) / 2, u64::from);
    RETRY_MS.start + random * (RETRY_MS.end - RETRY_MS.start) / (u64::from(u32::MAX) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stop;
    use enfilade_mcp::sse::{Decoded, Decoder};
    use enfilade_runtime::Limit;
    use enfilade_session::stream::{Kind, Stream};
    use futures::FutureExt;
    use std::future::poll_fn;
    use std::sync::Arc;

    const KEEP_ALIVE: Duration = Duration::from_secs(15);

    fn body(stream: &Arc<Stream>) -> Events {
        Events::new(stream.attach(None).expect("a reader"), KEEP_ALIVE, None, Counted::Nothing)
    }

    async fn chunk(body: &mut Events) -> Option<String> {
        let mut out = Vec::new();
        if !body.is_done() {
            poll_fn(|context| body.poll(context, &mut out)).await;
        }
        (!out.is_empty()).then(|| String::from_utf8(out).expect("text"))
    }

    fn decode(text: &str) -> Vec<sse::Event> {
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(text.as_bytes());
        std::iter::from_fn(|| decoder.next())
            .map(|decoded| match decoded {
                Decoded::Event(event) => event,
                Decoded::TooLarge { .. } => panic!("too large"),
            })
            .collect()
    }

    #[tokio::test]
    async fn events_that_are_ready_come_in_one_chunk_with_ids_and_priming() {
        let stream = Stream::new(7, 2, Kind::Resumable { priming: true });
        let mut body = body(&stream);
        stream.send("{\"a\":1}");
        stream.notice("tools", "{\"b\":\n2}".into());
        stream.finish();
        let events = decode(&chunk(&mut body).await.expect("a chunk"));
        let ids: Vec<_> = events.iter().map(|event| event.id.as_deref()).collect();
        let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
        assert_eq!((ids, data), (vec![Some("7.2.0"), Some("7.2.1"), None], vec!["", "{\"a\":1}", "{\"b\":\n2}"]));
        assert!(RETRY_MS.contains(&events[0].retry_ms.expect("retry on the priming event")));
        assert!(events[1..].iter().all(|event| event.retry_ms.is_none()));
        assert_eq!(chunk(&mut body).await, None);
        assert!(body.is_done());
    }

    #[tokio::test]
    async fn a_stream_that_does_not_resume_has_no_ids() {
        let stream = Stream::new(0, 0, Kind::Ephemeral);
        let mut body = body(&stream);
        stream.send("{}");
        assert_eq!(chunk(&mut body).await.as_deref(), Some("data: {}\n\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_by_comments_and_only_silence() {
        let stream = Stream::new(0, 0, Kind::Ephemeral);
        let (mut body, started) = (body(&stream), Instant::now());
        for n in 1..=3 {
            assert_eq!(chunk(&mut body).await.as_deref(), Some(":\n\n"));
            assert_eq!(started.elapsed(), KEEP_ALIVE * n);
        }
        assert!(chunk(&mut body).now_or_never().is_none());
        tokio::time::advance(KEEP_ALIVE - Duration::from_secs(1)).await;
        stream.send("{}");
        assert_eq!(chunk(&mut body).await.as_deref(), Some("data: {}\n\n"));
        let written = Instant::now();
        assert_eq!(chunk(&mut body).await.as_deref(), Some(":\n\n"));
        assert_eq!(written.elapsed(), KEEP_ALIVE, "the silence began with the event");
    }

    #[tokio::test]
    async fn a_large_backlog_comes_in_bounded_chunks() {
        let stream = Stream::new(0, 0, Kind::Ephemeral);
        let mut body = body(&stream);
        for _ in 0..100 {
            stream.send(vec![b'x'; 1000]);
        }
        stream.finish();
        let mut sizes = Vec::new();
        while let Some(chunk) = chunk(&mut body).await {
            sizes.push(chunk.len());
        }
        assert!(sizes.len() >= 3 && sizes.iter().all(|size| *size < CHUNK_BYTES + 1100), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 100 * (1000 + "data: \n\n".len()));
    }

    #[tokio::test]
    async fn the_end_of_the_node_ends_it_and_its_end_tells_the_owner() {
        let (stop, limit) = (Stop::default(), Limit::new(1));
        let stream = Stream::new(0, 0, Kind::Ephemeral);
        let reader = stream.attach(None).expect("a reader");
        let counted = Counted::lasting(limit.enter().expect("1"));
        let mut body = Events::new(reader, KEEP_ALIVE, Some(stop.watch()), counted);
        assert!(chunk(&mut body).now_or_never().is_none() && limit.enter().is_none());
        stop.stop();
        assert_eq!(chunk(&mut body).await, None);
        assert!(stream.abandoned().now_or_never().is_none());
        drop(body);
        assert!(stream.abandoned().now_or_never().is_some() && limit.enter().is_some());
    }

    #[test]
    fn there_is_room_for_the_longest_id() {
        let id = EventId { stream: u64::MAX, term: u64::MAX, seq: u64::MAX };
        assert_eq!(text(id, &mut [0; ID_BYTES]), id.to_string());
        assert_eq!(id.to_string().len(), ID_BYTES);
    }

    #[test]
    fn retry_times_stay_in_their_range() {
        assert!((0..1000).all(|_| RETRY_MS.contains(&retry_ms())));
    }
}
