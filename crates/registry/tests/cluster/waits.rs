//! What does not wait for time needs no ticks: a tick changes nothing of it, at whatever time it comes. What waits has
//! something to do in the end.

use enfilade_registry::{CopySender, Duty, DutyEvent, Step};

/// Times at which a tick may come.
fn times(now_ms: u64) -> [u64; 5] {
    [0, now_ms, now_ms + 100, now_ms + 60_000, u64::MAX]
}

/// Of a duty, after it took an event in at `now_ms`.
pub(crate) fn check_duty(duty: &Duty, now_ms: u64) {
    let ticked = |at_ms| {
        let mut ticked = duty.clone();
        let actions = ticked.on(at_ms, DutyEvent::Tick);
        (ticked, actions)
    };
    if duty.waits() {
        assert!(!ticked(u64::MAX).1.is_empty(), "it waits for nothing: {duty:?}");
        return;
    }
    for at_ms in times(now_ms) {
        let (ticked, actions) = ticked(at_ms);
        assert!(actions.is_empty(), "a tick at {at_ms} was of use after all: {actions:?}");
        assert_eq!(&ticked, duty, "a tick at {at_ms} changed it");
    }
}

/// Of a copy's sender, after something happened to it at `now_ms`.
pub(crate) fn check_sender(sender: &CopySender<u64, u64>, now_ms: u64) {
    let nothing = Step { send: Vec::new(), confirmed: Vec::new(), caught_up: false, given_up: false, overflow: false };
    if sender.waits() {
        assert_ne!(sender.clone().tick(u64::MAX), nothing, "it waits for nothing: {sender:?}");
        return;
    }
    for at_ms in times(now_ms) {
        let mut ticked = sender.clone();
        assert_eq!(ticked.tick(at_ms), nothing, "a tick at {at_ms} was of use after all");
        assert_eq!(&ticked, sender, "a tick at {at_ms} changed it");
    }
}
