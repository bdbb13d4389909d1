use super::*;
use crate::stream::{EventStream, Kind, NOTICES_MAX};
use bytes::Bytes;
use enfilade_mcp::json;
use futures::FutureExt;
use proptest::prelude::*;

fn member(hub: &Arc<Hub>, listen_id: Option<&str>) -> (Arc<Stream>, Registration) {
    let stream = Stream::new(0, 0, Kind::Ephemeral);
    let registration = hub.register(Subscriber {
        stream: Arc::downgrade(&stream),
        sites: Arc::new([0, 1]),
        lists: vec![ListKind::Tools],
        listen_id: listen_id.map(Into::into),
    });
    (stream, registration)
}

fn walk_of(hub: &Hub, site: usize, uri: Option<&str>) -> walk::Walk {
    walk::Walk::of(site, uri.map(|uri| (uri.into(), hub.changed(site, uri))))
}

/// Tells all who are concerned at once.
fn updated(hub: &Hub, site: usize, uri: Option<&str>) {
    let mut walk = walk_of(hub, site, uri);
    while hub.step(&mut walk) {}
}

fn heard(stream: &Arc<Stream>) -> Vec<String> {
    let mut reader = stream.attach(None).unwrap();
    let mut all = Vec::new();
    while let Some(Some(event)) = reader.next().now_or_never() {
        all.push(String::from_utf8(event.data.to_vec()).unwrap());
    }
    all
}

#[test]
fn two_names_of_one_resource_are_two_subscriptions() {
    let hub = Arc::new(Hub::default());
    let (stream, one) = member(&hub, None);
    let topic: Topic = (1, "x://a".into());
    let (plain, qualified): (Arc<str>, Arc<str>) = ("x://a".into(), "second+x://a".into());
    hub.subscribe(one.id, topic.clone(), plain.clone());
    hub.subscribe(one.id, topic, qualified.clone());
    assert_eq!(hub.counts(), (1, 1));
    assert_eq!(hub.unsubscribe(one.id, &plain), Some(1));
    assert_eq!(hub.unsubscribe(one.id, &plain), None);
    updated(&hub, 1, Some("x://a"));
    updated(&hub, 0, Some("x://a"));
    assert_eq!(heard(&stream).len(), 1);
    drop(one);
    assert_eq!(hub.counts(), (0, 0), "nothing is left of a subscriber that is gone");
}

#[test]
fn parts_are_named_as_the_client_knows_the_whole_and_exact_hits_go_to_nobody_else() {
    let hub = Arc::new(Hub::default());
    let ((one, first), (two, second)) = (member(&hub, None), member(&hub, Some("7")));
    hub.subscribe(first.id, (0, "x://a".into()), "main+x://a".into());
    hub.subscribe(second.id, (0, "x://b".into()), "x://b".into());
    updated(&hub, 0, Some("x://b"));
    updated(&hub, 0, Some("x://a/part"));
    let uris = |stream| {
        let uri = |text: &String| json::at(text, &["params", "uri"]).map(str::to_owned);
        heard(stream).iter().filter_map(uri).collect::<Vec<_>>()
    };
    assert_eq!(uris(&one), ["\"main+x://a/part\""]);
    assert_eq!(uris(&two), ["\"x://b\"", "\"x://a/part\""]);
}

#[test]
fn a_subscriber_that_has_ended_is_refused_and_leaves_no_topic() {
    let hub = Arc::new(Hub::default());
    let (_stream, gone) = member(&hub, None);
    let id = gone.id;
    drop(gone);
    let verdict = hub.subscribe(id, (0, "x://a".into()), "x://a".into());
    assert!(matches!(*verdict.borrow(), Some(Err(_))));
    assert_eq!(hub.counts(), (0, 0));
}

#[tokio::test]
async fn who_comes_late_hears_of_the_changes_it_missed_and_of_no_others() {
    let hub = Arc::new(Hub::default());
    hub.lists_changed(0, &[ListKind::Tools]).await;
    let since = hub.next_change();
    let late = |lists: &[ListKind]| {
        let subscriber =
            Subscriber { stream: Weak::new(), sites: Arc::new([0]), lists: lists.to_vec(), listen_id: None };
        hub.register_since(subscriber, since).1
    };
    assert!(late(&ListKind::ALL).is_empty());
    hub.lists_changed(0, &[ListKind::Resources, ListKind::Templates]).await;
    hub.lists_changed(0, &[ListKind::Resources]).await;
    hub.lists_changed(1, &[ListKind::Prompts]).await;
    assert_eq!(Vec::from_iter(late(&ListKind::ALL)), [ListKind::Resources.changed()]);
    assert!(late(&[ListKind::Tools]).is_empty());
}

#[test]
fn a_verdict_is_remembered_and_a_new_topic_has_none() {
    let hub = Arc::new(Hub::default());
    let (_stream, one) = member(&hub, None);
    let uri: Arc<str> = "x://a".into();
    hub.subscribe(one.id, (0, uri.clone()), uri.clone());
    assert_eq!(hub.unconfirmed(0).len(), 1);
    hub.confirm(0, &uri, Ok(()));
    assert_eq!((hub.unconfirmed(0).len(), hub.confirmed(0).len()), (0, 1));
    hub.unsubscribe(one.id, &uri);
    hub.subscribe(one.id, (0, uri.clone()), uri);
    assert_eq!((hub.unconfirmed(0).len(), hub.confirmed(0).len()), (1, 0));
}

fn many(hub: &Arc<Hub>, count: usize) -> Vec<(Arc<Stream>, Registration)> {
    (0..count).map(|_| member(hub, None)).collect()
}

fn texts(reader: &mut EventStream) -> Vec<Bytes> {
    std::iter::from_fn(|| reader.next().now_or_never().flatten()).map(|event| event.data).collect()
}

#[test]
fn one_text_is_made_for_all_who_know_the_resource_by_one_name() {
    let hub = Arc::new(Hub::default());
    let members = many(&hub, 1000);
    let listens: Vec<_> = (0..100).map(|_| member(&hub, Some("1"))).collect();
    for (_, registration) in members.iter().chain(&listens) {
        hub.subscribe(registration.id, (0, "x://a".into()), "x://a".into());
    }
    let text = |stream: &Arc<Stream>| texts(&mut stream.attach(None).unwrap()).remove(0);
    updated(&hub, 0, Some("x://a"));
    let plain: BTreeSet<_> = members.iter().map(|(stream, _)| text(stream).as_ptr()).collect();
    let with_id: BTreeSet<_> = listens.iter().map(|(stream, _)| text(stream).as_ptr()).collect();
    assert_eq!((plain.len(), with_id.len()), (1, 1));
    assert_eq!(hub.announced(), Announced { delivered: 1100, coalesced: 0, dropped: 0 });
}

#[test]
fn a_step_is_short_and_the_steps_reach_everybody_once() {
    let hub = Arc::new(Hub::default());
    let members = many(&hub, 100);
    for (at, (_, registration)) in members.iter().enumerate() {
        hub.subscribe(registration.id, (0, format!("x://{}", at % 3).into()), format!("x://{}", at % 3).into());
    }
    for (uri, per_stream) in [(None, 1), (Some("x://part"), 1)] {
        let before = hub.announced().delivered;
        let mut walk = walk_of(&hub, 0, uri);
        let mut steps = 1;
        while hub.step(&mut walk) {
            assert!(hub.announced().delivered - before <= 32 * steps, "a few at a time");
            steps += 1;
        }
        assert!(members.iter().all(|(stream, _)| heard(stream).len() == per_stream), "{uri:?}");
        assert_eq!(hub.announced().delivered - before, 100);
    }
    assert_eq!(hub.announced().coalesced, 0, "nobody was told twice");
}

#[test]
fn those_who_do_not_read_hold_one_notice_per_resource_and_what_had_to_go_is_counted() {
    let hub = Arc::new(Hub::default());
    let members = many(&hub, 10);
    let uris: Vec<String> = (0..NOTICES_MAX + 5).map(|n| format!("x://{n}")).collect();
    for (uri, (_, registration)) in uris.iter().flat_map(|uri| members.iter().map(move |member| (uri, member))) {
        hub.subscribe(registration.id, (0, uri.as_str().into()), uri.as_str().into());
    }
    for uri in &uris[..NOTICES_MAX] {
        (0..3).for_each(|_| updated(&hub, 0, Some(uri)));
    }
    let full = Announced { delivered: 30 * NOTICES_MAX as u64, coalesced: 20 * NOTICES_MAX as u64, dropped: 0 };
    assert_eq!(hub.announced(), full);
    // Whoever reads hears it all; the others lose the oldest, counted.
    assert_eq!(heard(&members[0].0).len(), NOTICES_MAX);
    uris[NOTICES_MAX..].iter().for_each(|uri| updated(&hub, 0, Some(uri)));
    assert_eq!((heard(&members[0].0).len(), hub.announced().dropped), (5, 9 * 5));
    let others: Vec<usize> = members[1..].iter().map(|(stream, _)| heard(stream).len()).collect();
    assert_eq!(others, [NOTICES_MAX; 9]);
}

#[test]
fn an_answer_is_not_dropped_for_notices() {
    let (stream, hub) = (Stream::new(0, 0, Kind::Resumable { priming: false }), Arc::new(Hub::default()));
    let subscriber =
        Subscriber { stream: Arc::downgrade(&stream), sites: Arc::new([0]), lists: Vec::new(), listen_id: None };
    let registration = hub.register(subscriber);
    stream.send("answer");
    for n in 0..NOTICES_MAX * 2 {
        let uri: Arc<str> = n.to_string().into();
        hub.subscribe(registration.id, (0, uri.clone()), uri.clone());
        updated(&hub, 0, Some(&uri));
    }
    let mut reader = stream.attach(None).unwrap();
    assert_eq!(texts(&mut reader)[0], "answer");
    assert_eq!(hub.announced().dropped, NOTICES_MAX as u64);
}

proptest! {
    /// Streams read when they like, subscribe and leave; updates come in any order, in steps that others come between.
    /// After the last step whoever subscribed before an update has heard of that resource since, and never has more
    /// unread than resources.
    #[test]
    fn who_is_subscribed_hears_of_every_resource_after_its_last_update(
        steps in prop::collection::vec((0..4u8, 0..50usize, 0..3u8), 1..120),
    ) {
        let hub = Arc::new(Hub::default());
        let members = many(&hub, 50);
        let mut readers: Vec<_> = members.iter().map(|(stream, _)| stream.attach(None).unwrap()).collect();
        let mut due: Vec<BTreeSet<String>> = vec![BTreeSet::new(); members.len()];
        let mut wants = due.clone();
        let mut walks: Vec<walk::Walk> = Vec::new();
        for (what, who, uri) in steps {
            let uri = format!("x://{uri}");
            let known: Arc<str> = uri.as_str().into();
            match what {
                0 => {
                    hub.subscribe(members[who].1.id, (0, known.clone()), known);
                    wants[who].insert(uri);
                }
                1 if walks.is_empty() => {
                    hub.unsubscribe(members[who].1.id, &known);
                    wants[who].remove(&uri);
                }
                2 if wants.iter().any(|wants| wants.contains(&uri)) => {
                    due.iter_mut().zip(&wants).filter(|(_, wants)| wants.contains(&uri)).for_each(|(due, _)| {
                        due.insert(uri.clone());
                    });
                    walks.push(walk_of(&hub, 0, Some(&uri)));
                }
                _ => {
                    walks.retain_mut(|walk| hub.step(walk));
                    let read = texts(&mut readers[who]);
                    prop_assert!(read.len() <= 3);
                    for text in read {
                        let uri = json::at(std::str::from_utf8(&text).unwrap(), &["params", "uri"]).unwrap().to_owned();
                        due[who].remove(uri.trim_matches('"'));
                    }
                }
            }
        }
        while !walks.is_empty() {
            walks.retain_mut(|walk| hub.step(walk));
        }
        for (reader, due) in readers.iter_mut().zip(&mut due) {
            let read = texts(reader);
            prop_assert!(read.len() <= 3);
            for text in read {
                let uri = json::at(std::str::from_utf8(&text).unwrap(), &["params", "uri"]).unwrap().to_owned();
                due.remove(uri.trim_matches('"'));
            }
            prop_assert!(due.is_empty(), "{:?}", due);
        }
    }
}

#[test]
fn who_has_many_resources_of_an_upstream_hears_of_a_part_once_under_each_name() {
    let hub = Arc::new(Hub::default());
    let members = many(&hub, 40);
    for (_, registration) in &members {
        for at in 0..20 {
            hub.subscribe(registration.id, (0, format!("x://{at}").into()), format!("x://{at}").into());
        }
        hub.subscribe(registration.id, (0, "x://a".into()), "main+x://a".into());
        hub.subscribe(registration.id, (1, "x://b".into()), "other+x://b".into());
    }
    let mut readers: Vec<_> = members.iter().map(|(stream, _)| stream.attach(None).unwrap()).collect();
    let mut heard = vec![Vec::new(); readers.len()];
    let mut walk = walk_of(&hub, 0, Some("x://part"));
    while hub.step(&mut walk) {
        // Whoever reads at once must not hear it again.
        readers.iter_mut().zip(&mut heard).for_each(|(reader, heard)| heard.extend(texts(reader)));
    }
    readers.iter_mut().zip(&mut heard).for_each(|(reader, heard)| heard.extend(texts(reader)));
    for heard in heard {
        let mut uris: Vec<_> =
            heard.iter().map(|text| json::at(std::str::from_utf8(text).unwrap(), &["params", "uri"])).collect();
        uris.sort_unstable();
        assert_eq!(uris, [Some("\"main+x://part\""), Some("\"x://part\"")]);
    }
}

#[test]
fn an_update_of_what_everybody_left_meanwhile_is_told_to_nobody() {
    let hub = Arc::new(Hub::default());
    let ((one, first), (_two, second)) = (member(&hub, None), member(&hub, None));
    hub.subscribe(first.id, (0, "x://a".into()), "x://a".into());
    hub.subscribe(second.id, (0, "x://b".into()), "x://b".into());
    let mut walk = walk_of(&hub, 0, Some("x://b"));
    drop(second);
    while hub.step(&mut walk) {}
    assert!(heard(&one).is_empty());
}
