//! Tables and properties of `uris`.

use super::*;
use proptest::prelude::*;

fn upstreams(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn table(resources: &[(usize, &str)], templates: &[(usize, &str)]) -> UriTable {
    let mut table = UriTable::new(&upstreams(&["main", "second"]), Clash::Qualify);
    resources.iter().for_each(|(upstream, uri)| table.add_resource(*upstream, uri));
    templates.iter().for_each(|(upstream, template)| table.add_template(*upstream, template));
    table
}

#[test]
fn qualifying_is_reversible() {
    let names = upstreams(&["main", "main-2"]);
    assert_eq!(qualify("main-2", "git+ssh://h/x+y"), "main-2+git+ssh://h/x+y");
    assert_eq!(split("main-2+git+ssh://h/x+y", &names), Some((1, "git+ssh://h/x+y")));
    assert_eq!(split("git+ssh://h", &names), None);
    assert_eq!(split("file:///a", &names), None);
}

#[test]
fn one_upstream_is_transparent() {
    let mut table = UriTable::new(&upstreams(&["main"]), Clash::Qualify);
    table.add_resource(0, "file:///a");
    for uri in ["file:///a", "main+file:///a", "anything", ""] {
        assert_eq!(table.issued(0, uri), uri);
        assert_eq!(table.issued_template(0, uri), uri);
        assert_eq!(table.resolve(uri), Some((0, uri.to_owned())));
    }
}

#[test]
fn unique_uris_stay_and_shared_ones_are_qualified() {
    let table = table(&[(0, "file:///a"), (0, "file:///b"), (1, "file:///b")], &[]);
    assert_eq!(table.issued(0, "file:///a"), "file:///a");
    assert_eq!(table.issued(1, "file:///b"), "second+file:///b");
    assert_eq!(table.resolve("file:///a"), Some((0, "file:///a".into())));
    assert_eq!(table.resolve("file:///b"), None, "never a guess");
    assert_eq!(table.resolve("second+file:///b"), Some((1, "file:///b".into())));
    assert_eq!(table.issued(1, "file:///unlisted"), "second+file:///unlisted");
    assert_eq!(table.issued(1, "file:///a"), "second+file:///a", "not listed by it");
}

#[test]
fn exact_goes_before_template() {
    let table = table(&[(1, "db://t/1")], &[(0, "db://t/{id}")]);
    assert_eq!(table.resolve("db://t/1"), Some((1, "db://t/1".into())));
    assert_eq!(table.resolve("db://t/2"), Some((0, "db://t/2".into())));
    assert_eq!(table.issued(0, "db://t/1"), "main+db://t/1");
    assert_eq!(table.issued_template(0, "db://t/{id}"), "main+db://t/{id}", "db://t/1 would go astray");
}

#[test]
fn templates_stay_where_nothing_else_can_match() {
    let table = table(
        &[(0, "a://x/1")],
        &[(0, "a://x/{id}"), (1, "b://x/{id}"), (0, "c://{id}/one"), (1, "c://{id}/two"), (0, "{any}://x")],
    );
    assert_eq!(table.issued_template(1, "b://x/{id}"), "second+b://x/{id}", "the other one may make it");
    let table = table_without_any();
    assert_eq!(table.issued_template(0, "a://x/{id}"), "a://x/{id}");
    assert_eq!(table.issued_template(1, "b://x/{id}"), "b://x/{id}");
    assert_eq!(table.issued_template(1, "c://{id}/two"), "c://{id}/two");
    assert_eq!(table.issued_template(1, "a://x/{id}"), "second+a://x/{id}", "not listed by it");
    assert_eq!(table.issued_template(0, "{any}"), "main+{any}");
}

fn table_without_any() -> UriTable {
    table(&[(0, "a://x/1")], &[(0, "a://x/{id}"), (1, "b://x/{id}"), (0, "c://{id}/one"), (1, "c://{id}/two")])
}

#[test]
fn a_listing_cannot_catch_what_is_qualified() {
    let table = table(&[(0, "second+file:///b"), (1, "file:///b")], &[(0, "{scheme}://x")]);
    assert_eq!(table.resolve("second+file:///b"), Some((1, "file:///b".into())));
    assert_eq!(table.issued(0, "second+file:///b"), "main+second+file:///b");
    assert_eq!(table.resolve("main+second+file:///b"), Some((0, "second+file:///b".into())));
    assert_eq!(table.issued_template(0, "{scheme}://x"), "main+{scheme}://x");
}

#[test]
fn a_second_lister_does_not_take_a_uri_away() {
    let before = table(&[(0, "file:///a")], &[]);
    let mut after = UriTable::new(&upstreams(&["main", "second"]), Clash::Qualify);
    after.inherit(&before);
    after.add_resource(1, "file:///a");
    assert_eq!(after.issued(1, "file:///a"), "second+file:///a");
    assert_eq!(after.resolve("file:///a"), Some((0, "file:///a".into())));
    let mut later = UriTable::new(&upstreams(&["main", "second"]), Clash::Qualify);
    later.inherit(&after);
    assert_eq!(later.resolve("file:///a"), Some((0, "file:///a".into())));
}

#[test]
fn templates_match_by_the_kind_of_expression() {
    let yes = [
        ("file:///{path}", "file:///a.txt"),
        ("file:///{path}", "file:///"),
        ("file:///{+path}", "file:///a/b/c"),
        ("file:///{path*}", "file:///a/b/c"),
        ("file://{/path*}", "file:///a/b"),
        ("file://{/path}", "file:///a"),
        ("x://{a}/b/{c}", "x://1/b/2"),
        ("x://{+a}/b/{c}", "x://1/b/2/b/3"),
        ("x://{+a}/x{b}y", "x://q/x1/xzy"),
        ("x://s{?q,r}", "x://s?q=1&r=2"),
        ("x://s{?q}{&r}", "x://s"),
        ("x://s{#f}", "x://s#a/b"),
        ("x://s{.ext}", "x://s.tar"),
        ("x://s{;p}", "x://s;p=1"),
        ("x://{a,b}", "x://1,2"),
        ("x://{a:3}", "x://abc"),
        ("x://plain", "x://plain"),
        ("x://{open", "x://{open"),
        ("é://{x}", "é://ü"),
        ("", ""),
    ];
    let no = [
        ("file:///{path}", "file:///a/b"),
        ("file:///{path}", "file://a"),
        ("x://{a}/b/{c}", "x://1/c/2"),
        ("x://{+a}/x{b}y", "x://q/x1/zy"),
        ("x://s{?q}", "x://status"),
        ("x://s{.ext}", "x://s/a"),
        ("x://plain", "x://plain2"),
        ("x://{open", "x://1"),
        ("", "x"),
    ];
    for (template, uri) in yes {
        assert!(template_matches(template, uri), "{template} should make {uri}");
    }
    for (template, uri) in no {
        assert!(!template_matches(template, uri), "{template} should not make {uri}");
    }
}

#[test]
fn work_is_bounded() {
    let template = "{+a}a".repeat(EXPRESSIONS_MAX);
    let uri = "a".repeat(TEMPLATED_URI_BYTES_MAX);
    assert!(template_matches(&template, &uri));
    assert!(!template_matches(&template, &format!("{uri}a")), "too long to be compared");
    assert!(!template_matches(&format!("{template}{{b}}"), &uri), "too many expressions to be compared");
    let many = "x://{b}".to_owned() + &"{c}".repeat(EXPRESSIONS_MAX);
    let mut table = UriTable::new(&upstreams(&["main", "second"]), Clash::Qualify);
    table.add_template(0, &many);
    assert!(table.issued_template(0, &many).starts_with("main+"), "what is never matched is qualified");
}

/// The same question answered by trying everything.
fn naive(pieces: &[Piece<'_>], uri: &[u8]) -> bool {
    match pieces {
        [] => uri.is_empty(),
        [Piece::Literal(text), rest @ ..] => uri.strip_prefix(text.as_bytes()).is_some_and(|uri| naive(rest, uri)),
        [Piece::Expression { first, crosses }, rest @ ..] => (0..=uri.len()).any(|end| {
            let taken = &uri[..end];
            let body = if first.is_some() { taken.get(1..).unwrap_or_default() } else { taken };
            (first.is_none() || taken.is_empty() || taken.first() == first.as_ref())
                && (*crosses || !body.contains(&b'/'))
                && naive(rest, &uri[end..])
        }),
    }
}

fn template() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        2 => "[ab/?+:]{1,2}",
        2 => prop_oneof![Just("{x}"), Just("{+x}"), Just("{x*}"), Just("{/x}"), Just("{?x}"), Just("{.x}")]
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn matching_agrees_with_trying_everything(template in template(), uri in "[ab/?+:.]{0,8}") {
        let all: Vec<_> = pieces(&template).collect();
        prop_assert_eq!(template_matches(&template, &uri), naive(&all, uri.as_bytes()));
    }

    #[test]
    fn templates_that_share_a_uri_overlap(one in template(), other in template(), uri in "[ab/?+:]{0,5}") {
        if template_matches(&one, &uri) && template_matches(&other, &uri) {
            prop_assert!(may_overlap(&one, &other));
        }
    }

    #[test]
    fn what_is_issued_leads_back(
        count in 1usize..4,
        resources in prop::collection::vec((0usize..3, "[ab+:/]{0,4}"), 0..12),
        templates in prop::collection::vec((0usize..3, template()), 0..6),
        before in prop::collection::vec((0usize..3, "[ab+:/]{0,4}"), 0..6),
        wanted in prop::collection::vec("[ab+:/]{0,5}", 0..12),
    ) {
        let names = upstreams(&["a", "b", "ab"][..count]);
        let mut previous = UriTable::new(&names, Clash::Qualify);
        before.iter().for_each(|(upstream, uri)| previous.add_resource(upstream % count, uri));
        let mut table = UriTable::new(&names, Clash::Qualify);
        table.inherit(&previous);
        resources.iter().for_each(|(upstream, uri)| table.add_resource(upstream % count, uri));
        templates.iter().for_each(|(upstream, template)| table.add_template(upstream % count, template));
        let all = resources.iter().chain(&before).map(|(_, uri)| uri).chain(&wanted);
        for uri in all {
            for upstream in 0..count {
                let issued = table.issued(upstream, uri);
                prop_assert_eq!(table.resolve(&issued), Some((upstream, uri.clone())));
            }
        }
        // What was issued unchanged before still means the same.
        for (_, uri) in &before {
            for upstream in 0..count {
                if previous.issued(upstream, uri) == *uri {
                    prop_assert_eq!(table.resolve(uri), Some((upstream, uri.clone())));
                }
            }
        }
        // Whatever a client makes of an issued template goes to its upstream, with the original's spelling.
        for (upstream, template) in &templates {
            let upstream = upstream % count;
            let issued = table.issued_template(upstream, template).into_owned();
            for uri in &wanted {
                if !template_matches(template, uri) {
                    continue;
                }
                let made = if issued == *template { uri.clone() } else { qualify(&names[upstream], uri) };
                prop_assert_eq!(table.resolve(&made), Some((upstream, uri.clone())));
            }
        }
    }
}

#[test]
fn the_first_upstream_keeps_what_both_offer() {
    let upstreams = ["a".to_owned(), "b".to_owned()];
    let mut table = UriTable::new(&upstreams, Clash::FirstKeeps);
    for upstream in [1, 0] {
        table.add_resource(upstream, "test://one");
        table.add_template(upstream, "test://t/{id}");
    }
    assert_eq!(
        (table.issued(0, "test://one").as_ref(), table.issued(1, "test://one").as_ref()),
        ("test://one", "b+test://one")
    );
    assert_eq!(table.issued_template(0, "test://t/{id}"), "test://t/{id}");
    assert_eq!(table.issued_template(1, "test://t/{id}"), "b+test://t/{id}");
    assert_eq!(table.resolve("test://t/7"), Some((0, "test://t/7".to_owned())));
    assert_eq!(table.resolve("b+test://t/7"), Some((1, "test://t/7".to_owned())));
}
