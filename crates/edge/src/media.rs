//! `Accept` and `Content-Type` (RFC 9110, sections 8.3 and 12.5.1), read without allocating.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};

/// The type of one JSON message.
pub(crate) const JSON: &str = "application/json";
/// The type of a stream of events.
pub(crate) const EVENTS: &str = "text/event-stream";

/// `Accept` as nearly all clients write it in a POST.
const USUAL: [&str; 2] = ["application/json, text/event-stream", "text/event-stream, application/json"];

/// True when `Accept` permits both types that a POST may be answered with.
pub(crate) fn accepts_both(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(ACCEPT).iter();
    match (values.next(), values.next()) {
        // Known without being read.
        (Some(value), None) if USUAL.iter().any(|usual| value == usual) => true,
        _ => accepts(headers, JSON) && accepts(headers, EVENTS),
    }
}

/// True when `Accept` permits `media`. A missing header permits nothing: every revision with this transport demands
/// one that lists what the method may answer with, and so do the SDKs' servers. Wildcards count, `q=0` excludes.
pub(crate) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let (mut best, mut accepted) = (0, false);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let rank = parts.next().map_or(0, |range| specificity(range, media));
        if rank > best {
            best = rank;
            accepted = !parts.any(is_zero_weight);
        }
    }
    accepted
}

/// 3 for the type itself, 2 for `type/*`, 1 for `*/*`, 0 for no match: the most specific range decides.
fn specificity(range: &str, media: &str) -> u8 {
    if range.eq_ignore_ascii_case(media) {
        return 3;
    }
    match range.strip_suffix("/*") {
        Some("*") => 1,
        Some(kind) if media.split('/').next().is_some_and(|own| kind.eq_ignore_ascii_case(own)) => 2,
        _ => 0,
    }
}

fn is_zero_weight(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>() == Ok(0.0)
}

/// True when the body is JSON as it stands: of the type `application/json`, with any parameters, and not compressed.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let media = text(CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default();
    let plain = text(CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    media.trim().eq_ignore_ascii_case(JSON) && plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn accept() {
        let table: [(&[&'static str], bool, bool); 21] = [
            (&["application/json, text/event-stream"], true, true),
            (&["text/event-stream,application/json"], true, true),
            (&["text/event-stream, application/json"], true, true),
            (&["application/json, text/event-stream", "application/json;q=0"], true, true),
            (&["application/json, text/event-stream", "*/*;q=0"], true, true),
            (&["application/json", "text/event-stream"], true, true),
            (&["Application/JSON;charset=utf-8 , TEXT/event-stream;q=0.5"], true, true),
            (&["*/*"], true, true),
            (&["application/*, text/*;q=0.1"], true, true),
            (&["application/json"], true, false),
            (&["text/event-stream"], false, true),
            (&["text/html, */*;q=0.8"], true, true),
            (&["*/*, application/json;q=0"], false, true),
            (&["application/json;q=0.000, */*"], false, true),
            (&["*/*;q=0"], false, false),
            (&["text/html"], false, false),
            (&["application/jsonp, text/event-streams"], false, false),
            (&["application/json-seq"], false, false),
            (&["json"], false, false),
            (&[""], false, false),
            (&[], false, false),
        ];
        for (values, json, events) in table {
            let headers = headers(ACCEPT, values);
            assert_eq!((accepts(&headers, JSON), accepts(&headers, EVENTS)), (json, events), "{values:?}");
            assert_eq!(accepts_both(&headers), json && events, "{values:?}");
        }
    }

    #[test]
    fn content_type() {
        let good =
            ["application/json", "Application/Json", "application/json; charset=utf-8", " application/json ;a=b"];
        let bad = ["", "text/json", "application/json-rpc", "text/plain", "application/x-www-form-urlencoded", "json"];
        assert!(good.iter().all(|value| is_json(&headers(CONTENT_TYPE, &[value]))));
        assert!(bad.iter().all(|value| !is_json(&headers(CONTENT_TYPE, &[value]))));
        assert!(!is_json(&HeaderMap::new()));
        for (coding, plain) in [("identity", true), ("gzip", false), ("br", false)] {
            let mut headers = headers(CONTENT_TYPE, &[JSON]);
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            assert_eq!(is_json(&headers), plain, "{coding}");
        }
    }
}
