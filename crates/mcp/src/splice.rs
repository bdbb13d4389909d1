//! Passes a message on with a few spans replaced: ids, names, URIs, tokens. Everything else keeps its bytes.
//!
//! Spans are named by slices of the text, so a caller replaces exactly what it read.

use crate::json;
use std::borrow::Cow;
use std::ops::Range;

/// Edits to one text, applied in one pass.
#[derive(Debug, Clone)]
pub struct Splice<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, Cow<'a, str>)>,
}

impl<'a> Splice<'a> {
    /// No edits yet.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, edits: Vec::with_capacity(4) }
    }

    /// The text before the edits.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Puts `with` in the place of `part`, which must be a slice of the text.
    ///
    /// # Panics
    /// When `part` is not a slice of the text: that is a defect of the caller.
    pub fn replace(&mut self, part: &str, with: impl Into<Cow<'a, str>>) -> &mut Self {
        let range = span(self.text, part).expect("a spliced part is a slice of the text");
        self.edits.push((range, with.into()));
        self
    }

    /// Sets member `name` of `object` (a slice of the text) to the JSON text `value`.
    pub fn set(&mut self, object: &str, name: &str, value: &str) -> &mut Self {
        if let Some(old) = json::get(object, name) {
            return self.replace(old, value.to_owned());
        }
        let start = span(self.text, object).expect("a spliced part is a slice of the text").start + 1;
        let comma = if json::members(object).next().is_some() { "," } else { "" };
        self.edits.push((start..start, format!("{}:{value}{comma}", json::quote(name)).into()));
        self
    }

    /// Takes the members `names` out of `object` (a slice of the text), with their commas.
    pub fn remove(&mut self, object: &str, names: &[&str]) -> &mut Self {
        let all: Vec<_> = json::members(object).collect();
        let gone = |m: &json::Member<'_>| names.contains(&m.name().as_ref());
        if !all.iter().any(gone) {
            return self;
        }
        let base = |part: &str| span(self.text, part).expect("a spliced part is a slice of the text");
        // A member takes the comma before it along; the first one kept has none to lose.
        let mut kept_before = false;
        let mut cuts = Vec::new();
        for (at, member) in all.iter().enumerate() {
            if !gone(member) {
                kept_before = true;
                continue;
            }
            let end = base(member.value).end;
            let from = if kept_before { base(all[at - 1].value).end } else { base(member.key).start };
            let to = match all.get(at + 1) {
                Some(following) if !kept_before => base(following.key).start,
                _ => end,
            };
            cuts.push(from..to);
        }
        self.edits.extend(cuts.into_iter().map(|cut| (cut, Cow::Borrowed(""))));
        self
    }

    /// True when nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The text with all edits applied. Edits of one place are applied in the order they were made.
    #[must_use]
    pub fn finish(&mut self) -> String {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let added: usize = self.edits.iter().map(|(_, with)| with.len()).sum();
        let mut out = String::with_capacity(self.text.len() + added);
        let mut at = 0;
        for (range, with) in &self.edits {
            if range.start < at {
                continue; // Inside a span that is already gone.
            }
            out.push_str(&self.text[at..range.start]);
            out.push_str(with);
            at = range.end;
        }
        out.push_str(&self.text[at..]);
        out
    }
}

/// Where `part` stands in `text`; nothing when it is not a slice of it.
#[must_use]
pub fn span(text: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start + part.len();
    (end <= text.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    #[test]
    fn replaces_and_keeps_the_rest() {
        let text = r#"{"id": 1, "params": {"name":"a" , "x":[ 1 ]}}"#;
        let name = json::at(text, &["params", "name"]).unwrap();
        let out = Splice::new(text).replace(name, "\"b\"").replace(json::get(text, "id").unwrap(), "\"q\"").finish();
        assert_eq!(out, r#"{"id": "q", "params": {"name":"b" , "x":[ 1 ]}}"#);
    }

    #[test]
    fn foreign_slices_are_found_out() {
        assert_eq!(span("abc", &String::from("b")), None);
    }

    proptest! {
        #[test]
        fn set_and_remove_agree_with_a_map(
            object in prop::collection::btree_map("[a-e]", any::<i32>(), 0..5),
            gone in prop::collection::vec("[a-e]", 0..4),
            set in prop::option::of(("[f-g]", any::<u8>())),
        ) {
            let map: Map<String, Value> = object.iter().map(|(k, v)| (k.clone(), (*v).into())).collect();
            let text = serde_json::to_string_pretty(&map).unwrap();
            let names: Vec<&str> = gone.iter().map(String::as_str).collect();
            let mut splice = Splice::new(&text);
            splice.remove(&text, &names);
            let mut expected = map;
            names.iter().for_each(|name| { expected.remove(*name); });
            let mut out = splice.finish();
            if let Some((name, value)) = set {
                out = Splice::new(&out).set(&out, &name, &value.to_string()).finish();
                expected.insert(name, value.into());
            }
            let found: Map<String, Value> = serde_json::from_str(&out).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
