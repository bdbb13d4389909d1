//! Metrics as Prometheus reads them (text format 0.0.4). They are declared as constants, each crate's in its `metrics.rs`,
//! and written from what the parts count; a label has few values, all known beforehand.

use std::fmt::{Display, Write};

/// What the text is (`Content-Type`).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a value moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
}

impl Kind {
    /// Its name in the text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric, whatever its label's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name; ends with its unit, and with `_total` when it is a counter.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it says, in one sentence without a line break.
    pub help: &'static str,
    /// Its label, where it has one.
    pub label: Option<&'static str>,
}

impl Family {
    /// A counter.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help, label: None }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help, label: None }
    }

    /// The same with a label.
    #[must_use]
    pub const fn by(self, label: &'static str) -> Self {
        Self { label: Some(label), ..self }
    }
}

/// The text, as far as it is written.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Writes a metric without a label.
    pub fn value(&mut self, family: &Family, value: impl Display) {
        self.head(family);
        let _ = writeln!(self.0, "{} {value}", family.name); // Writing to a string does not fail.
    }

    /// Writes a metric with a value for each value of its label, which needs no escape.
    pub fn values<'a, V: Display>(&mut self, family: &Family, values: impl IntoIterator<Item = (&'a str, V)>) {
        self.head(family);
        let label = family.label.unwrap_or("kind");
        for (name, value) in values {
            let _ = writeln!(self.0, "{}{{{label}=\"{name}\"}} {value}", family.name);
        }
    }

    /// The whole text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, family: &Family) {
        let Family { name, help, kind, .. } = family;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.value(&Family::gauge("a_bytes", "How many."), 7);
        page.values(&Family::counter("b_total", "Ends.").by("outcome"), [("good", 1), ("bad", 0)]);
        let expected = "# HELP a_bytes How many.\n# TYPE a_bytes gauge\na_bytes 7\n\
                        # HELP b_total Ends.\n# TYPE b_total counter\nb_total{outcome=\"good\"} 1\nb_total{outcome=\"bad\"} 0\n";
        assert_eq!(page.finish(), expected);
    }
}
