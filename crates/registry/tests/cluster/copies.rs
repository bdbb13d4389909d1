//! Copies: in order, acknowledged, refilled; and nothing leaves that the copy does not have.

use enfilade_registry::{
    CopyAnswer, CopyId, CopyMessage, CopyPart, CopyReceiver, CopySaid, CopySender, Fence, Lane, MoveId, Step, Term,
};
use proptest::prelude::*;

use crate::waits::check_sender;
use crate::{run, slot};

const LANE: Lane = Lane::Second(CopyId(5));

type Sender = CopySender<u64, u64>;
type Message = CopyMessage<u64>;

fn fence(term: u64) -> Fence {
    Fence { slot: slot(0), term: Term(term) }
}

fn begin(all: &[u64]) -> (Sender, Step<u64, u64>) {
    CopySender::begin(0, 300, fence(1), LANE, run(2, 1), all.iter().copied())
}

fn message(term: u64, lane: Lane, n: u64, part: CopyPart<u64>) -> Message {
    CopyMessage { fence: fence(term), lane, n, part }
}

/// The other side, with what it holds.
struct Holder {
    receiver: CopyReceiver,
    held: Vec<u64>,
}

impl Holder {
    fn new() -> Holder {
        Holder { receiver: CopyReceiver::new(slot(0)), held: Vec::new() }
    }

    fn take(&mut self, message: Message) -> CopyAnswer {
        let received = self.receiver.receive(message);
        if received.reset {
            self.held.clear();
        }
        self.held.extend(received.entry);
        received.answer
    }

    fn take_all(&mut self, messages: Vec<Message>) -> Vec<CopyAnswer> {
        messages.into_iter().map(|message| self.take(message)).collect()
    }
}

/// Delivers everything both ways until nothing is on its way.
fn settle(sender: &mut Sender, holder: &mut Holder, mut send: Vec<Message>, now_ms: u64) -> Vec<u64> {
    let mut confirmed = Vec::new();
    while !send.is_empty() {
        let answers = holder.take_all(std::mem::take(&mut send));
        for answer in answers {
            let step = sender.answered(now_ms, answer);
            send.extend(step.send);
            confirmed.extend(step.confirmed);
        }
    }
    confirmed
}

#[test]
fn a_copy_is_filled_closed_and_kept_in_step() {
    let (mut sender, step) = begin(&[1, 2, 3]);
    let mut holder = Holder::new();
    let free = sender.push(0, 4, 4);
    assert_eq!(free.confirmed, [4], "as long as the copy is being filled nothing waits for it");
    let send = [step.send, free.send].concat();
    settle(&mut sender, &mut holder, send, 1);
    assert!(sender.is_in_step() && holder.receiver.is_complete(LANE));
    assert_eq!(holder.held, [1, 2, 3, 4]);
    let step = sender.push(2, 5, 5);
    assert!(step.confirmed.is_empty());
    assert_eq!(settle(&mut sender, &mut holder, step.send, 3), [5]);
    assert_eq!(holder.held, [1, 2, 3, 4, 5]);
}

#[test]
fn what_is_pushed_while_the_copy_closes_waits() {
    let (mut sender, step) = begin(&[]);
    let mut holder = Holder::new();
    let closing: Vec<Message> =
        holder.take_all(step.send).into_iter().flat_map(|answer| sender.answered(1, answer).send).collect();
    assert!(matches!(closing[..], [CopyMessage { part: CopyPart::Complete, .. }]));
    let pushed = sender.push(2, 7, 7);
    assert!(pushed.confirmed.is_empty(), "or it would leave before a copy that is called in sync has it");
    // The close takes too long: it is not in sync yet, so what waited may leave.
    assert!(sender.tick(300).confirmed.is_empty());
    assert_eq!(sender.tick(301).confirmed, [7]);
    assert!(!sender.is_in_step());
    settle(&mut sender, &mut holder, [closing, pushed.send].concat(), 302);
    assert!(sender.is_in_step(), "and closed again");
    assert_eq!(holder.held, [7]);
}

#[test]
fn a_copy_that_does_not_answer_is_given_up_and_holds_bytes_until_that_is_applied() {
    let mut sender: Sender = CopySender::adopted(0, 300, fence(1), LANE, run(2, 1));
    let step = sender.push(100, 1, 1);
    assert!(step.confirmed.is_empty());
    assert!(!sender.tick(399).given_up);
    let late = sender.tick(400);
    assert!(late.given_up && late.confirmed.is_empty());
    assert!(sender.push(401, 2, 2).confirmed.is_empty());
    assert!(sender.tick(500).given_up, "said again until it is heard");
    assert_eq!(sender.alone(), [1, 2]);
}

#[test]
fn what_is_lost_is_sent_again() {
    let (mut sender, step) = begin(&[1, 2, 3]);
    let mut holder = Holder::new();
    // Everything but the second part arrives.
    let arrived: Vec<Message> = step.send.into_iter().filter(|message| message.n != 2).collect();
    let answers = holder.take_all(arrived);
    assert_eq!(answers[1].said, CopySaid::Missing(2));
    let again = sender.answered(1, answers[1]);
    assert_eq!(again.send.iter().map(|message| message.n).collect::<Vec<_>>()[..2], [2, 3]);
    settle(&mut sender, &mut holder, again.send, 1);
    assert_eq!(holder.held, [1, 2, 3]);
    // With no answer at all, time does it.
    let step = sender.push(10, 4, 4);
    drop(step);
    assert!(sender.tick(50).send.is_empty());
    let again = sender.tick(110).send;
    assert_eq!(settle(&mut sender, &mut holder, again, 111), [4]);
}

#[test]
fn a_copy_of_any_size_goes_on_as_it_is_acknowledged() {
    let all: Vec<u64> = (0..40_000).collect();
    let (mut sender, step) = begin(&all);
    let (mut holder, mut there, mut rounds) = (Holder::new(), step.send, 0);
    while !there.is_empty() {
        assert!(there.len() <= 256 + 64, "what is lost is sent again once, and a queue has room: {}", there.len());
        rounds += 1;
        // Something of every seventh round is lost.
        if rounds % 7 == 0 && there.len() > 1 {
            there.remove(there.len() / 2);
        }
        let mut answers = holder.take_all(std::mem::take(&mut there));
        // A node answers once for what came together.
        answers.dedup_by(|later, first| {
            let both = matches!((first.said, later.said), (CopySaid::Upto(_), CopySaid::Upto(_)));
            if both {
                *first = *later;
            }
            both
        });
        there.extend(answers.into_iter().flat_map(|answer| sender.answered(rounds, answer).send));
    }
    assert!(sender.is_in_step(), "after {rounds} rounds");
    assert_eq!(holder.held, all);
    assert!(rounds < 400, "{rounds}");
}

#[test]
fn what_is_new_waits_for_nothing_that_is_on_its_way() {
    let mut sender: Sender = CopySender::adopted(0, 300, fence(1), LANE, run(2, 1));
    assert!((0..2_000).all(|n| sender.push(0, n, n).send.len() == 1));
    // As much as a copy begins with is sent again, and the rest as that is acknowledged.
    assert_eq!(sender.tick(100).send.len(), 64);
    let said = |n| CopyAnswer { fence: fence(1), lane: LANE, said: CopySaid::Upto(n) };
    let ns = |step: Step<u64, u64>| step.send.iter().map(|message| message.n).collect::<Vec<_>>();
    assert_eq!(ns(sender.answered(101, said(64))), (65..=192).collect::<Vec<_>>());
}

#[test]
fn lower_terms_and_earlier_copies_are_dropped() {
    let mut holder = Holder::new();
    let said = |holder: &mut Holder, message| holder.take(message).said;
    let newer = Lane::Second(CopyId(9));
    assert_eq!(said(&mut holder, message(2, LANE, 1, CopyPart::Begin)), CopySaid::Upto(1));
    assert_eq!(said(&mut holder, message(1, LANE, 2, CopyPart::Entry(7))), CopySaid::Stale);
    holder.receiver.learned(Term(3));
    assert_eq!(said(&mut holder, message(2, LANE, 2, CopyPart::Entry(7))), CopySaid::Stale);
    assert_eq!(said(&mut holder, message(3, LANE, 2, CopyPart::Entry(8))), CopySaid::Upto(2));
    assert_eq!(said(&mut holder, message(3, newer, 2, CopyPart::Entry(1))), CopySaid::Nothing, "not begun here");
    assert_eq!(said(&mut holder, message(3, newer, 1, CopyPart::Begin)), CopySaid::Upto(1));
    assert_eq!(said(&mut holder, message(3, LANE, 3, CopyPart::Entry(9))), CopySaid::Stale);
    assert!(holder.held.is_empty());
    assert!(!holder.receiver.is_complete(newer));
    assert!(!holder.receiver.forget(LANE), "a later copy is not meant");
    assert!(holder.receiver.forget(newer));
    assert_eq!(holder.receiver.lane(), None);
    assert_eq!(said(&mut holder, message(2, newer, 1, CopyPart::Begin)), CopySaid::Stale, "terms are remembered");
}

#[test]
fn a_former_owner_is_in_step_from_the_start() {
    let mut sender: Sender = CopySender::adopted(0, 300, fence(4), LANE, run(1, 1));
    let mut holder = Holder { held: vec![1, 2], ..Holder::new() };
    let step = sender.push(0, 3, 3);
    // It has not applied the end of the move yet.
    assert_eq!(holder.take(step.send[0].clone()).said, CopySaid::Nothing);
    assert!(holder.receiver.adopt(Term(4), LANE));
    assert!(!holder.receiver.adopt(Term(4), LANE), "it is held");
    let again = sender.tick(100).send;
    assert_eq!(settle(&mut sender, &mut holder, again, 101), [3]);
    assert_eq!(holder.held, [1, 2, 3]);
}

#[test]
fn a_seal_is_told_until_it_is_heard() {
    let lane = Lane::Move(MoveId(7));
    let (mut sender, step): (Sender, _) = CopySender::begin(0, 300, fence(1), lane, run(2, 1), [1]);
    let mut holder = Holder::new();
    settle(&mut sender, &mut holder, step.send, 0);
    let seal = sender.seal(1, [9; 32]).send;
    let received = holder.receiver.receive(seal[0].clone());
    assert_eq!(received.sealed, Some([9; 32]));
    assert_eq!(holder.receiver.receive(seal[0].clone()).sealed, Some([9; 32]), "its answer was lost");
}

#[test]
fn a_new_term_of_the_same_owner_goes_on_with_the_copy() {
    let mut sender: Sender = CopySender::adopted(0, 300, fence(1), LANE, run(2, 1));
    let mut holder = Holder::new();
    assert!(holder.receiver.adopt(Term(1), LANE));
    drop(sender.push(0, 1, 1));
    holder.receiver.learned(Term(2));
    sender.renew(Term(2));
    let again = sender.tick(100).send;
    assert_eq!(settle(&mut sender, &mut holder, again, 100), [1]);
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let (mut sender, _) = begin(&[0; 100]);
    let mut overflown = false;
    for n in 0..20_000 {
        let step = sender.push(0, n, n);
        assert_eq!(step.confirmed.first(), Some(&n));
        overflown |= step.overflow;
    }
    check_sender(&sender, 1);
    assert!(overflown && sender.unacknowledged() < 17_000);
    assert!(sender.tick(1).overflow, "said again until it is heard");
    let step = sender.restart(2, [1, 2]);
    let mut holder = Holder::new();
    settle(&mut sender, &mut holder, step.send, 3);
    assert!(sender.is_in_step());
    assert_eq!(holder.held, [1, 2]);
    let mut given_up = false;
    for n in 0..20_000 {
        given_up |= sender.push(4, n, n).given_up;
    }
    assert!(given_up);
    check_sender(&sender, 5);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    /// Parts and answers are lost, doubled and reordered at will.
    #[test]
    fn a_copy_in_step_has_all_that_left(
        first in proptest::collection::vec(any::<u64>(), 0..200),
        dice in proptest::collection::vec(any::<u32>(), 0..600),
    ) {
        let (mut sender, step) = begin(&first);
        let (mut holder, mut log) = (Holder::new(), first);
        let (mut there, mut back) = (step.send, Vec::new());
        let (mut left, mut at_closing) = (Vec::new(), None);
        for (now, dice) in dice.into_iter().enumerate() {
            let now_ms = now as u64 * 7;
            let step = match dice % 8 {
                0 | 1 => {
                    log.push(now as u64);
                    sender.push(now_ms, now as u64, now as u64)
                }
                2 => sender.tick(now_ms),
                3..=5 if !there.is_empty() => {
                    let message = there.remove(if dice & 0x100 == 0 { 0 } else { dice as usize % there.len() });
                    if dice & 0x600 == 0x600 {
                        there.push(message.clone());
                    }
                    back.push(holder.take(message));
                    continue;
                }
                6 | 7 if !back.is_empty() => {
                    let answer = back.remove(if dice & 0x100 == 0 { 0 } else { dice as usize % back.len() });
                    sender.answered(now_ms, answer)
                }
                _ => {
                    if dice & 0x800 == 0 && !there.is_empty() {
                        there.remove(0);
                    }
                    continue;
                }
            };
            check_sender(&sender, now_ms);
            there.extend(step.send);
            left.extend(step.confirmed);
            if step.caught_up {
                at_closing = Some(left.len());
            }
            prop_assert!(log.starts_with(&holder.held), "the copy is a part of the log, from its beginning");
            if sender.is_in_step() {
                prop_assert!(left.iter().all(|event| holder.held.contains(event)), "something left too early");
            }
        }
        prop_assert!(at_closing.is_none_or(|count| count <= left.len()));
        prop_assert!(left.is_sorted(), "bytes leave in order");
    }
}
