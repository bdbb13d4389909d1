//! What is still taken while memory is short ([`enfilade_runtime::Step`]). First what would stay is not begun: sessions and
//! streams; what goes on with something that is there does. Then nothing is taken but what gives memory back: answers,
//! notifications (cancellations among them), ends of sessions, and what is in [`frees`]. The same are let in while the node has
//! more to do than it can.

use crate::load::{Load, Place};
use crate::respond::Refusal;
use crate::ticket::Reason;
use enfilade_mcp::method::Method;
use enfilade_runtime::Step;

const NOTHING_NEW: &str = "This node has no memory left for another session or stream; try again, or at another node";
const THE_LEAST: &str = "This node has no memory left; try again, or at another node";

const OVERLOADED: &str = "This node has more to do than it can; try again, or at another node";

/// Why a request of this method is not taken.
pub(crate) fn refuses(step: Step, method: &str) -> Option<&'static str> {
    match step {
        Step::Serve => None,
        Step::NothingNew => stays(method).then_some(NOTHING_NEW),
        Step::TheLeast => (!frees(method)).then_some(THE_LEAST),
    }
}

/// Refuses a request of this method, if it is not taken. A batch is none.
pub(crate) fn check(step: Step, method: &str) -> Result<(), Refusal> {
    refuses(step, method).map_or(Ok(()), |why| Err(Refusal::busy(Reason::Memory, why)))
}

/// Refuses a stream that stays, unless it goes on with one that was there before.
pub(crate) fn check_stream(step: Step, goes_on: bool) -> Result<(), Refusal> {
    match step {
        Step::NothingNew if goes_on => Ok(()),
        step => check(step, Method::Listen.as_str()),
    }
}

/// The place of a request of this method among those in flight, where it needs one; or why it is refused.
pub(crate) fn place(load: &Load, method: &str) -> Result<Option<Place>, &'static str> {
    if !load.is_on() || frees(method) { Ok(None) } else { load.enter().map(Some).ok_or(OVERLOADED) }
}

/// The same over HTTP.
pub(crate) fn check_place(load: &Load, method: &str) -> Result<Option<Place>, Refusal> {
    place(load, method).map_err(|why| Refusal::busy(Reason::Overload, why))
}

/// It makes something that is kept after its answer.
fn stays(method: &str) -> bool {
    [Method::Initialize, Method::Listen].iter().any(|known| known.as_str() == method)
}

/// It costs nothing, and tells that the node is there, or takes back what was asked before.
fn frees(method: &str) -> bool {
    [Method::Ping, Method::TasksCancel, Method::ResourcesUnsubscribe].iter().any(|known| known.as_str() == method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_refuses_what_the_one_before_does_and_more() {
        // The method, and whether it is taken at each step.
        let table = [
            ("ping", [true, true, true]),
            ("tasks/cancel", [true, true, true]),
            ("resources/unsubscribe", [true, true, true]),
            ("tools/call", [true, true, false]),
            ("tools/list", [true, true, false]),
            ("resources/subscribe", [true, true, false]),
            ("vendor/unknown", [true, true, false]),
            ("initialize", [true, false, false]),
            ("subscriptions/listen", [true, false, false]),
        ];
        for (method, taken) in table {
            assert_eq!(Step::ALL.map(|step| check(step, method).is_ok()), taken, "{method}");
        }
        for (goes_on, taken) in [(false, [true, false, false]), (true, [true, true, false])] {
            assert_eq!(Step::ALL.map(|step| check_stream(step, goes_on).is_ok()), taken, "{goes_on}");
        }
    }
}
