//! Resource URIs under which several upstreams look like one server (BRIDGE.md rule 10).
//!
//! A URI stays as it is where it can mean one upstream only; else the upstream's name stands in front of its scheme. What
//! was issued always leads back: a URI that looks qualified is read as qualified, whatever an upstream may list.

use std::borrow::Cow;
use std::collections::HashMap;

/// Longest URI that is compared with templates, in bytes; longer ones are reached by listing or qualified only.
pub const TEMPLATED_URI_BYTES_MAX: usize = 8192;

/// Most expressions of a template that is compared with URIs; a template with more is reached qualified only.
pub const EXPRESSIONS_MAX: usize = 32;

/// Most URIs that stay reserved for an upstream after it stopped listing them.
pub const RESERVED_MAX: usize = 65_536;

/// `uri` as one of `upstream`: `<upstream>+<uri>`.
///
/// The scheme stays valid (RFC 3986, 3.1: a letter, then letters, digits, `+`, `-`, `.`), because names of upstreams are
/// `[a-z][a-z0-9-]*`; for the same reason the first `+` is always the one that was put there.
#[must_use]
pub fn qualify(upstream: &str, uri: &str) -> String {
    format!("{upstream}+{uri}")
}

/// The upstream that a qualified URI names, and the URI as that upstream knows it.
#[must_use]
pub fn split<'a>(uri: &'a str, upstreams: &[String]) -> Option<(usize, &'a str)> {
    let (name, rest) = uri.split_once('+')?;
    upstreams.iter().position(|upstream| upstream == name).map(|index| (index, rest))
}

/// Who gets a URI as it is when several upstreams list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clash {
    /// Nobody: it is qualified for each.
    #[default]
    Qualify,
    /// The first upstream in the configured order; it is qualified for the others.
    FirstKeeps,
}

/// Which upstream each URI of one virtual server belongs to; built again whenever a catalog changes.
#[derive(Debug, Clone)]
pub struct UriTable {
    upstreams: Vec<String>,
    clash: Clash,
    /// Listed URIs, each with the upstreams that list it.
    listed: HashMap<Box<str>, Vec<usize>>,
    /// URIs that clients may hold as they are, from tables before this one.
    reserved: HashMap<Box<str>, usize>,
    /// Each upstream's templates.
    templates: Vec<Vec<Box<str>>>,
}

impl UriTable {
    /// An empty table for upstreams in their configured order.
    #[must_use]
    pub fn new(upstreams: &[String], clash: Clash) -> Self {
        Self {
            upstreams: upstreams.to_vec(),
            clash,
            listed: HashMap::new(),
            reserved: HashMap::new(),
            templates: vec![Vec::new(); upstreams.len()],
        }
    }

    /// Keeps for their upstreams the URIs that `previous` issued unchanged, so that a second upstream that begins to
    /// list one does not take it away (BRIDGE.md rule 9). Both tables must have the same upstreams; call it first.
    pub fn inherit(&mut self, previous: &Self) {
        let listed = previous.listed.keys().filter_map(|uri| Some((uri, previous.exact(uri)?)));
        let earlier = previous.reserved.iter().map(|(uri, upstream)| (uri, *upstream));
        for (uri, upstream) in listed.chain(earlier) {
            if self.reserved.len() >= RESERVED_MAX {
                return;
            }
            self.reserved.entry(uri.clone()).or_insert(upstream);
        }
    }

    /// Notes that `upstream` lists `uri`.
    pub fn add_resource(&mut self, upstream: usize, uri: &str) {
        let owners = self.listed.entry(uri.into()).or_default();
        if !owners.contains(&upstream) {
            owners.push(upstream);
        }
    }

    /// Notes that `upstream` lists `template`.
    pub fn add_template(&mut self, upstream: usize, template: &str) {
        if let Some(templates) = self.templates.get_mut(upstream)
            && !templates.iter().any(|known| **known == *template)
        {
            templates.push(template.into());
        }
    }

    /// The URI under which clients see `uri` of `upstream`: unchanged where it would be read from there, else qualified.
    #[must_use]
    pub fn issued<'a>(&self, upstream: usize, uri: &'a str) -> Cow<'a, str> {
        let unchanged =
            self.upstreams.len() <= 1 || (split(uri, &self.upstreams).is_none() && self.route(uri) == Some(upstream));
        if unchanged { Cow::Borrowed(uri) } else { self.qualified(upstream, uri) }
    }

    /// The template under which clients see `template` of `upstream`: unchanged where every URI that it can make would
    /// be read from there, else qualified.
    #[must_use]
    pub fn issued_template<'a>(&self, upstream: usize, template: &'a str) -> Cow<'a, str> {
        if self.upstreams.len() <= 1 || self.is_exclusive(upstream, template) {
            return Cow::Borrowed(template);
        }
        self.qualified(upstream, template)
    }

    /// The upstream that a client's URI is read from, and the URI as that upstream knows it. Nothing for a URI that no
    /// upstream, or more than one, may mean: reads are never tried at several.
    #[must_use]
    pub fn resolve(&self, uri: &str) -> Option<(usize, String)> {
        if self.upstreams.len() == 1 {
            return Some((0, uri.to_owned()));
        }
        // Before the listing, or an upstream could list what another one's URI is issued as.
        if let Some((upstream, rest)) = split(uri, &self.upstreams) {
            return Some((upstream, rest.to_owned()));
        }
        self.route(uri).map(|upstream| (upstream, uri.to_owned()))
    }

    fn qualified<'a>(&self, upstream: usize, uri: &'a str) -> Cow<'a, str> {
        match self.upstreams.get(upstream) {
            Some(name) => Cow::Owned(qualify(name, uri)),
            None => Cow::Borrowed(uri),
        }
    }

    /// Where an unqualified URI goes: to who lists it, else to the only one with a template for it.
    fn route(&self, uri: &str) -> Option<usize> {
        if self.listed.contains_key(uri) || self.reserved.contains_key(uri) {
            return self.exact(uri);
        }
        let mut matching = (0..self.templates.len())
            .filter(|upstream| self.templates[*upstream].iter().any(|template| template_matches(template, uri)));
        matching.next().filter(|_| self.clash == Clash::FirstKeeps || matching.next().is_none())
    }

    fn exact(&self, uri: &str) -> Option<usize> {
        if let Some(upstream) = self.reserved.get(uri) {
            return Some(*upstream);
        }
        match self.listed.get(uri)?.as_slice() {
            [only] => Some(*only),
            several if self.clash == Clash::FirstKeeps => several.iter().min().copied(),
            _ => None,
        }
    }

    /// True when no URI of the template can be taken for a qualified one, nor for one of another upstream.
    fn is_exclusive(&self, upstream: usize, template: &str) -> bool {
        if !self.templates.get(upstream).is_some_and(|own| own.iter().any(|known| **known == *template)) {
            return false;
        }
        let qualified = |name: &String| may_overlap(template, &format!("{name}+{{+rest}}"));
        let foreign_template = |(other, templates): (usize, &Vec<Box<str>>)| {
            let gives_way = other > upstream && self.clash == Clash::FirstKeeps;
            other != upstream && !gives_way && templates.iter().any(|theirs| may_overlap(template, theirs))
        };
        let known = self.listed.keys().chain(self.reserved.keys());
        is_bounded(template)
            && !self.upstreams.iter().any(qualified)
            && !self.templates.iter().enumerate().any(foreign_template)
            && !known.into_iter().any(|uri| self.exact(uri) != Some(upstream) && template_matches(template, uri))
    }
}

/// A piece of a URI template (RFC 6570).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    /// Text that stands for itself.
    Literal(&'a str),
    /// An expression.
    Expression {
        /// What a non-empty expansion begins with.
        first: Option<u8>,
        /// Whether the expansion may contain `/`.
        crosses: bool,
    },
}

/// The pieces of a template; a brace that is never closed stands for itself.
fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        let open = rest.find('{').filter(|open| rest[*open..].contains('}'));
        match open {
            Some(0) => {
                let close = rest.find('}')?;
                let piece = expression(&rest[1..close]);
                rest = &rest[close + 1..];
                Some(piece)
            }
            _ if rest.is_empty() => None,
            _ => {
                let (literal, after) = rest.split_at(open.unwrap_or(rest.len()));
                rest = after;
                Some(Piece::Literal(literal))
            }
        }
    })
}

fn expression(inner: &str) -> Piece<'static> {
    let operator = inner.bytes().next();
    let first = operator.filter(|byte| b"#./;?&".contains(byte));
    let crosses = matches!(operator, Some(b'+' | b'#' | b'/')) || inner.contains('*');
    Piece::Expression { first, crosses }
}

fn is_bounded(template: &str) -> bool {
    pieces(template).filter(|piece| !matches!(piece, Piece::Literal(_))).take(EXPRESSIONS_MAX + 1).count()
        <= EXPRESSIONS_MAX
}

/// True when `uri` can be an expansion of `template` (RFC 6570, levels 1 to 4).
///
/// Expressions are wildcards, also for nothing: `{x}` within one path segment, `{+x}`, `{#x}`, `{/x}` and `{x*}` across
/// them. Work is proportional to the URI's length for each piece of the template; see [`TEMPLATED_URI_BYTES_MAX`] and
/// [`EXPRESSIONS_MAX`] for what is never matched.
#[must_use]
pub fn template_matches(template: &str, uri: &str) -> bool {
    let head = literal(pieces(template).next());
    if uri.len() > TEMPLATED_URI_BYTES_MAX || !uri.starts_with(head) || !is_bounded(template) {
        return false;
    }
    let uri = uri.as_bytes();
    // reached[i]: the pieces so far can make the first i bytes.
    let mut reached = vec![false; uri.len() + 1];
    reached[0] = true;
    for piece in pieces(template) {
        reached = match piece {
            Piece::Literal(literal) => after_literal(uri, &reached, literal.as_bytes()),
            Piece::Expression { first, crosses } => after_expression(uri, &reached, first, crosses),
        };
    }
    reached[uri.len()]
}

fn after_literal(uri: &[u8], reached: &[bool], literal: &[u8]) -> Vec<bool> {
    let mut next = vec![false; reached.len()];
    for (at, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
        if uri[at..].starts_with(literal) {
            next[at + literal.len()] = true;
        }
    }
    next
}

fn after_expression(uri: &[u8], reached: &[bool], first: Option<u8>, crosses: bool) -> Vec<bool> {
    let mut next = reached.to_vec();
    let mut inside = false;
    for (at, byte) in uri.iter().enumerate() {
        let begins = reached[at] && first.is_none_or(|first| first == *byte);
        // The character of an operator belongs to the expansion whatever it is.
        inside = (inside || begins) && (crosses || *byte != b'/' || (begins && first.is_some()));
        next[at + 1] |= inside;
    }
    next
}

/// False only when no URI can be an expansion of both templates; decided by the literal text at their two ends.
fn may_overlap(one: &str, other: &str) -> bool {
    let head = |template| literal(pieces(template).next());
    let tail = |template| literal(pieces(template).last());
    let heads: (&str, &str) = (head(one), head(other));
    let tails: (&str, &str) = (tail(one), tail(other));
    (heads.0.starts_with(heads.1) || heads.1.starts_with(heads.0))
        && (tails.0.ends_with(tails.1) || tails.1.ends_with(tails.0))
}

/// The text of a literal piece; nothing for an expression.
fn literal(piece: Option<Piece<'_>>) -> &str {
    match piece {
        Some(Piece::Literal(text)) => text,
        _ => "",
    }
}

#[cfg(test)]
#[path = "uris_tests.rs"]
mod tests;
