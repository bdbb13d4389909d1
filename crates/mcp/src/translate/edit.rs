//! Edits of whole objects: members taken out and put in together, so that the commas are right whatever is left.

use crate::json;
use crate::splice::Splice;
use std::borrow::Cow;

/// A member to set: its name and its value as JSON text.
pub(super) type Set<'v> = (&'static str, Cow<'v, str>);

/// Takes the members `drop` out of `object` (a slice of the spliced text) and sets those of `set`. At most once per object.
pub(super) fn members(splice: &mut Splice<'_>, object: &str, drop: &[&str], set: &[Set<'_>]) {
    let mut added = Vec::new();
    for (name, value) in set {
        match json::get(object, name) {
            Some(old) => _ = splice.replace(old, value.clone().into_owned()),
            None => added.push(member(name, value)),
        }
    }
    if !added.is_empty() {
        let kept = json::members(object).any(|member| !drop.contains(&member.name().as_ref()));
        let comma = if kept { "," } else { "" };
        splice.replace(&object[1..1], added.join(",") + comma);
    }
    splice.remove(object, drop);
}

/// Edits the `_meta` of `holder` (params or a result, a slice of the spliced text) and takes the members `drop` out of
/// `holder` itself. A `_meta` is made where something must be set, and goes when nothing is left of it.
pub(super) fn with_meta(
    splice: &mut Splice<'_>,
    holder: &str,
    drop: &[&str],
    drop_meta: &[&str],
    set: &[Set<'_>],
    also: Vec<Set<'_>>,
) {
    let meta = json::get(holder, "_meta").filter(|meta| json::is_object(meta));
    let (mut drop, mut also) = (drop.to_vec(), also);
    match meta {
        Some(meta) => {
            let stays = |member: json::Member<'_>| !drop_meta.contains(&member.name().as_ref());
            if set.is_empty() && json::members(meta).next().is_some() && !json::members(meta).any(stays) {
                drop.push("_meta");
            } else {
                members(splice, meta, drop_meta, set);
            }
        }
        None if set.is_empty() => {}
        None => also.push(("_meta", object(set).into())),
    }
    members(splice, holder, &drop, &also);
}

/// A new object.
pub(super) fn object(set: &[Set<'_>]) -> String {
    let members: Vec<_> = set.iter().map(|(name, value)| member(name, value)).collect();
    format!("{{{}}}", members.join(","))
}

fn member(name: &str, value: &str) -> String {
    format!("{}:{value}", json::quote(name))
}
