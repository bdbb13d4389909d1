//! The numbered events of a call: each once and in order, and all of them where its result came. Pure.

use std::fmt;

use crate::client::Outcome;
use crate::stream::Notice;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    number: u64,
    notice: &'a Notice,
}

/// Those that were heard of a call, as they came.
pub(crate) fn heard(notices: &[Notice], call: u64) -> Vec<Heard<'_>> {
    let number = |notice: &Notice| {
        let data = &notice.message["params"]["data"];
        (data["call"].as_u64() == Some(call)).then(|| data["number"].as_u64()).flatten()
    };
    notices.iter().filter_map(|notice| Some(Heard { number: number(notice)?, notice })).collect()
}

/// What is wrong with them, as the first `count` of them go before the result, and all that may help to find out why.
pub(crate) fn fault(heard: &[Heard<'_>], count: u64, outcome: &Outcome) -> Option<String> {
    let last = heard.len() as u64;
    let wrong = heard.iter().zip(1..).position(|(heard, wanted)| heard.number != wanted);
    let what = match wrong {
        Some(at) => {
            let (is, wanted) = (heard[at], at as u64 + 1);
            let what = if is.number < wanted { "a double" } else { "a gap" };
            let before = at.checked_sub(1).map_or_else(|| "nothing".to_owned(), |before| heard[before].to_string());
            format!("{what}: {is} after {before}, instead of number {wanted}")
        }
        None if *outcome == Outcome::Result && last < count => "the result came before the last event".to_owned(),
        None if last > count => "too many events".to_owned(),
        None => return None,
    };
    let mut nodes: Vec<_> = heard.iter().filter_map(|heard| heard.notice.node).collect();
    nodes.dedup();
    let end = heard.last().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    Some(format!("{what}; {last} of {count} events came from nodes {nodes:?}, the last was {end}, then {outcome:?}"))
}

impl fmt::Display for Heard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.notice.node.map_or_else(|| "?".to_owned(), |node| node.to_string());
        write!(f, "number {} (event {} at node {node})", self.number, self.notice.id.as_deref().unwrap_or("none"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn notice(message: Value, id: &str, node: usize) -> Notice {
        Notice { message, id: Some(id.to_owned()), node: Some(node) }
    }

    fn said(number: u64) -> Notice {
        let message = json!({"params": {"data": {"call": 7, "number": number}}});
        notice(message, &format!("1.4.{number}"), usize::from(number > 2))
    }

    fn judged(numbers: &[u64], count: u64, outcome: &Outcome) -> Option<String> {
        let notices: Vec<Notice> = numbers.iter().map(|number| said(*number)).collect();
        fault(&heard(&notices, 7), count, outcome)
    }

    #[test]
    fn gaps_doubles_and_missing_ends_are_seen() {
        let (whole, short) = (Outcome::Result, Outcome::Unknown);
        assert_eq!(judged(&[1, 2, 3], 3, &whole), None);
        assert_eq!(judged(&[1, 2], 3, &short), None, "cut short");
        assert_eq!(judged(&[], 3, &short), None);
        assert_eq!(judged(&[], 0, &whole), None);
        assert!(judged(&[1, 2], 3, &whole).is_some_and(|text| text.contains("2 of 3")));
        assert!(judged(&[2], 3, &short).is_some_and(|text| text.contains("a gap: number 2 (event 1.4.2 at node 0)")));
        assert!(judged(&[1, 2, 2], 3, &short).is_some_and(|text| text.contains("a double")));
        assert!(judged(&[1, 2, 3, 4], 3, &whole).is_some_and(|text| text.contains("4 of 3")));
    }

    #[test]
    fn a_gap_is_told_with_what_helps_to_find_it() {
        let told = "a gap: number 4 (event 1.4.4 at node 1) after number 2 (event 1.4.2 at node 0), instead of number 3; \
                    3 of 5 events came from nodes [0, 1], the last was number 4 (event 1.4.4 at node 1), then Unknown";
        assert_eq!(judged(&[1, 2, 4], 5, &Outcome::Unknown).as_deref(), Some(told));
    }

    #[test]
    fn events_of_other_calls_do_not_count() {
        let other = notice(json!({"params": {"data": {"call": 8, "number": 1}}}), "1.4.0", 0);
        let notices = [said(1), other, notice(json!({}), "1.4.9", 0), said(2)];
        let numbers: Vec<u64> = heard(&notices, 7).iter().map(|heard| heard.number).collect();
        assert_eq!(numbers, [1, 2]);
    }
}
