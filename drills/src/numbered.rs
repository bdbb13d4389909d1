//! The numbered events of a call: each once and in order, and all of them where its result came. Pure.

use serde_json::Value;

/// The numbers that were heard of a call, as they came.
pub(crate) fn heard(notices: &[Value], call: u64) -> Vec<u64> {
    let number = |notice: &Value| {
        let data = &notice["params"]["data"];
        (data["call"].as_u64() == Some(call)).then(|| data["number"].as_u64()).flatten()
    };
    notices.iter().filter_map(number).collect()
}

/// What is wrong with them.
pub(crate) fn fault(heard: &[u64], count: u64, is_whole: bool) -> Option<String> {
    if let Some((is, wanted)) = heard.iter().zip(1..).find(|(is, wanted)| *is != wanted) {
        let what = if *is < wanted { "a double" } else { "a gap" };
        return Some(format!("{what}: event {is} instead of {wanted} of {}", heard.len()));
    }
    let last = heard.len() as u64;
    match is_whole {
        true if last < count => Some(format!("a result after {last} of {count} events")),
        _ if last > count => Some(format!("{last} events instead of {count}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gaps_doubles_and_missing_ends_are_seen() {
        assert_eq!(fault(&[1, 2, 3], 3, true), None);
        assert_eq!(fault(&[1, 2], 3, false), None, "cut short");
        assert_eq!(fault(&[], 3, false), None);
        assert!(fault(&[1, 2], 3, true).is_some_and(|text| text.contains("2 of 3")));
        assert!(fault(&[1, 3], 3, false).is_some_and(|text| text.contains("a gap")));
        assert!(fault(&[2], 3, false).is_some_and(|text| text.contains("a gap")));
        assert!(fault(&[1, 2, 2], 3, false).is_some_and(|text| text.contains("a double")));
        assert!(fault(&[1, 2, 3, 4], 3, true).is_some());
        let notice = |call, number| json!({"params": {"data": {"call": call, "number": number}}});
        assert_eq!(heard(&[notice(7, 1), notice(8, 1), json!({}), notice(7, 2)], 7), [1, 2]);
    }
}
