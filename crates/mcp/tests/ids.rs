//! No answer, progress, cancellation or question ever reaches another client or upstream (P6), in any order: clients and
//! upstreams use equal ids and tokens at the same time, and every text that arrives is compared byte for byte.

use enfilade_mcp::envelope::{Notification, Request, Response};
use enfilade_mcp::translate::edit_progress_token;
use enfilade_mcp::{Envelope, Id, Kind, Splice, json};
use std::collections::HashMap;

const INTERLEAVINGS: u64 = 100_000;
const WORKERS: u64 = 4;
const CLIENTS: usize = 3;
const UPSTREAMS: usize = 2;

/// Ids as a client sends them and as it must get them back; the same ones for every client.
const IDS: [(&str, &str); 5] =
    [("1", "1"), ("\"1\"", "\"1\""), ("0", "0"), ("-1", "-1"), (r#""\u0061""#, r#""\u0061""#)];
/// Progress tokens; the same ones for every client.
const TOKENS: [Option<&str>; 5] = [Some("1"), Some("\"1\""), Some("\"a\""), Some("0"), None];
/// Ids that upstreams give to their own requests; the same ones for every upstream.
const QUESTIONS: [&str; 3] = ["1", "\"1\"", "0"];

/// The mapping that a gateway must keep, made of the crate's functions and nothing else.
#[derive(Default)]
struct Gateway {
    next_call: [u64; UPSTREAMS],
    next_question: [u64; CLIENTS],
    calls: HashMap<(usize, u64), Pending>,
    questions: HashMap<(usize, u64), (usize, Id)>,
}

/// A client's call that an upstream has not answered.
struct Pending {
    client: usize,
    id: Id,
    token: Option<String>,
}

impl Gateway {
    /// A client's request, as the upstream gets it.
    fn call(&mut self, client: usize, upstream: usize, text: &str) -> String {
        let Kind::Request(Request { id, id_text, params, .. }) = parse(text) else { panic!("a request: {text}") };
        self.next_call[upstream] += 1;
        let number = self.next_call[upstream];
        let token = params.and_then(|params| json::at(params, &["_meta", "progressToken"])).map(str::to_owned);
        self.calls.insert((upstream, number), Pending { client, id, token });
        let ours = number.to_string();
        let mut splice = Splice::new(text);
        splice.replace(id_text, Id::number(number).as_json().to_owned());
        edit_progress_token(&mut splice, text, params, Some(&ours));
        splice.finish()
    }

    /// An upstream's message, and the client that gets it.
    fn upstream_says(&mut self, upstream: usize, text: &str) -> Option<(usize, String)> {
        match parse(text) {
            Kind::Response(Response { id, id_text, .. }) => {
                let call = self.calls.remove(&(upstream, id?.as_number()?))?;
                Some((call.client, swap(text, id_text?, call.id.as_json())))
            }
            Kind::Notification(Notification { params, .. }) => {
                let token = json::get(params?, "progressToken")?;
                let call = self.calls.get(&(upstream, Id::from_json(token)?.as_number()?))?;
                Some((call.client, swap(text, token, call.token.as_ref()?)))
            }
            Kind::Request(Request { id, id_text, params, .. }) => {
                let during = Id::from_json(json::get(params?, "during")?)?.as_number()?;
                let client = self.calls.get(&(upstream, during))?.client;
                self.next_question[client] += 1;
                let number = self.next_question[client];
                self.questions.insert((client, number), (upstream, id));
                Some((client, swap(text, id_text, Id::number(number).as_json())))
            }
        }
    }

    /// A client's answer to a question, and the upstream that gets it.
    fn answer(&mut self, client: usize, text: &str) -> Option<(usize, String)> {
        let Kind::Response(Response { id, id_text, .. }) = parse(text) else { panic!("a response: {text}") };
        let (upstream, id) = self.questions.remove(&(client, id?.as_number()?))?;
        Some((upstream, swap(text, id_text?, id.as_json())))
    }

    /// A client's cancellation, and the upstream that gets it.
    fn cancel(&mut self, client: usize, text: &str) -> Option<(usize, String)> {
        let Kind::Notification(Notification { params, .. }) = parse(text) else { panic!("a notification: {text}") };
        let named = json::get(params?, "requestId")?;
        let id = Id::from_json(named)?;
        let (&(upstream, number), _) = self.calls.iter().find(|(_, call)| call.client == client && call.id == id)?;
        self.calls.remove(&(upstream, number));
        Some((upstream, swap(text, named, Id::number(number).as_json())))
    }
}

fn parse(text: &str) -> Kind<'_> {
    Envelope::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e:?}")).kind
}

fn swap(text: &str, part: &str, with: &str) -> String {
    Splice::new(text).replace(part, with.to_owned()).finish()
}

/// A call as the test knows it; `mark` is in every text that belongs to it and in no other.
struct Call {
    client: usize,
    upstream: usize,
    sent_id: &'static str,
    id: &'static str,
    token: Option<&'static str>,
    number: u64,
    mark: u64,
}

/// How often each thing happened, to show that the orders were not all trivial.
#[derive(Debug, Default)]
struct Tally {
    interleavings: u64,
    answers: u64,
    out_of_order: u64,
    progress: u64,
    unwanted: u64,
    cancelled: u64,
    questions: u64,
    late: u64,
}

/// SplitMix64: the seed alone decides the interleaving, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// One interleaving: some calls, begun and ended in an order that the seed decides.
struct World<'t> {
    random: Random,
    gateway: Gateway,
    open: Vec<Call>,
    begun: [u64; UPSTREAMS],
    asked: [u64; CLIENTS],
    ids: [usize; CLIENTS],
    marks: u64,
    tally: &'t mut Tally,
}

impl<'t> World<'t> {
    fn new(seed: u64, tally: &'t mut Tally) -> Self {
        let (gateway, open) = (Gateway::default(), Vec::new());
        let (begun, asked) = ([0; UPSTREAMS], [0; CLIENTS]);
        let mut world = Self { random: Random(seed), gateway, open, begun, asked, ids: [0; CLIENTS], marks: 0, tally };
        let first = world.random.below(IDS.len());
        world.ids = [first; CLIENTS]; // All clients count alike, so that their ids collide.
        world
    }

    fn run(mut self, calls: usize) {
        let mut to_begin = calls;
        while to_begin > 0 || !self.open.is_empty() {
            let begin = to_begin > 0 && (self.open.len() < 2 || self.random.below(3) == 0);
            if begin {
                to_begin -= 1;
                self.begin();
                continue;
            }
            let at = self.random.below(self.open.len());
            match self.random.below(8) {
                0 | 1 => self.progress(at),
                2 => self.question(at),
                3 => self.cancel(at),
                _ => self.answer(at),
            }
        }
        assert!(self.gateway.calls.is_empty() && self.gateway.questions.is_empty(), "nothing is left behind");
        self.tally.interleavings += 1;
    }

    fn begin(&mut self) {
        let (client, upstream) = (self.random.below(CLIENTS), self.random.below(UPSTREAMS));
        let (sent_id, id) = IDS[self.ids[client] % IDS.len()];
        self.ids[client] += 1;
        let token = TOKENS[self.random.below(TOKENS.len())];
        self.begun[upstream] += 1;
        self.marks += 1;
        let (number, mark) = (self.begun[upstream], self.marks);
        let (sent_meta, meta) = match token {
            Some(token) => (
                format!(r#""_meta":{{"progressToken":{token}}},"#),
                format!(r#""_meta":{{"progressToken":{number}}},"#),
            ),
            None => (String::new(), format!(r#""_meta":{{"progressToken":{number}}},"#)),
        };
        let text = |id: &str, meta: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{meta}"name":"{mark}"}}}}"#)
        };
        let got = self.gateway.call(client, upstream, &text(sent_id, &sent_meta));
        assert_eq!(got, text(&number.to_string(), &meta));
        self.open.push(Call { client, upstream, sent_id, id, token, number, mark });
    }

    fn progress(&mut self, at: usize) {
        let call = &self.open[at];
        let got = self.gateway.upstream_says(call.upstream, &progress(&call.number.to_string(), call.mark));
        // A client that gave no token gets no progress.
        assert_eq!(got, call.token.map(|token| (call.client, progress(token, call.mark))));
        *(if call.token.is_some() { &mut self.tally.progress } else { &mut self.tally.unwanted }) += 1;
    }

    fn answer(&mut self, at: usize) {
        let call = self.open.remove(at);
        let text = result(&call.number.to_string(), call.mark);
        let got = self.gateway.upstream_says(call.upstream, &text);
        assert_eq!(got, Some((call.client, result(call.id, call.mark))));
        self.tally.answers += 1;
        self.tally.out_of_order += u64::from(at > 0);
        self.late(&call, &text);
    }

    fn cancel(&mut self, at: usize) {
        let call = self.open.remove(at);
        let text = |id: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"{}"}}}}"#,
                call.mark
            )
        };
        let got = self.gateway.cancel(call.client, &text(call.sent_id));
        assert_eq!(got, Some((call.upstream, text(&call.number.to_string()))));
        self.tally.cancelled += 1;
        self.late(&call, &result(&call.number.to_string(), call.mark));
    }

    /// What comes after the end of a call reaches nobody.
    fn late(&mut self, call: &Call, text: &str) {
        if self.random.below(8) == 0 {
            let number = call.number.to_string();
            for text in [text, &progress(&number, call.mark), &question("1", &number, call.mark)] {
                assert_eq!(self.gateway.upstream_says(call.upstream, text), None, "{text}");
            }
            self.tally.late += 1;
        }
    }

    /// The upstream asks the client during a call; the answer finds the way back.
    fn question(&mut self, at: usize) {
        let call = &self.open[at];
        let id = QUESTIONS[self.random.below(QUESTIONS.len())];
        let during = call.number.to_string();
        self.asked[call.client] += 1;
        let ours = self.asked[call.client].to_string();
        let got = self.gateway.upstream_says(call.upstream, &question(id, &during, call.mark));
        assert_eq!(got, Some((call.client, question(&ours, &during, call.mark))));
        let other = (call.client + 1) % CLIENTS;
        if self.random.below(4) == 0 && self.asked[other] < self.asked[call.client] {
            assert_eq!(self.gateway.answer(other, &result(&ours, call.mark)), None, "nobody else can answer");
        }
        let got = self.gateway.answer(call.client, &result(&ours, call.mark));
        assert_eq!(got, Some((call.upstream, result(id, call.mark))));
        self.tally.questions += 1;
    }
}

fn result(id: &str, mark: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"of":"{mark}"}}}}"#)
}

fn progress(token: &str, mark: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1,"message":"{mark}"}}}}"#
    )
}

fn question(id: &str, during: &str, mark: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list","params":{{"during":{during},"of":"{mark}"}}}}"#)
}

#[test]
fn a_hundred_thousand_interleavings_never_cross() {
    let share = |worker: u64| {
        let mut tally = Tally::default();
        for seed in (worker..INTERLEAVINGS).step_by(WORKERS as usize) {
            World::new(seed, &mut tally).run(2 + (seed / WORKERS % 2) as usize);
        }
        tally
    };
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || share(worker))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no interleaving fails")).collect()
    });
    for Tally { interleavings, answers, out_of_order, progress, unwanted, cancelled, questions, late } in tallies {
        assert_eq!(interleavings, INTERLEAVINGS / WORKERS);
        for (what, count) in [
            ("answers", answers),
            ("answers out of order", out_of_order),
            ("progress", progress),
            ("unwanted progress", unwanted),
            ("cancellations", cancelled),
            ("questions", questions),
            ("late messages", late),
        ] {
            assert!(count > interleavings / 20, "{what}: {count} are too few to show anything");
        }
    }
}

/// An upstream that returns an id or token of another type, or one that nobody has, reaches nobody.
#[test]
fn ids_of_another_type_reach_nobody() {
    let mut gateway = Gateway::default();
    let call = r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"_meta":{"progressToken":"t"}}}"#;
    assert!(gateway.call(0, 0, call).contains(r#""id":1,"#));
    for id in ["\"1\"", "-1", "01x", "2", "18446744073709551617", "\"\"", "1.0", "1e0", "null"] {
        for text in [result(id, 0), progress(id, 0)] {
            if Envelope::parse(text.as_bytes()).is_ok() {
                assert_eq!(gateway.upstream_says(0, &text), None, "{text}");
            }
        }
    }
    assert_eq!(gateway.upstream_says(1, &result("1", 0)), None, "another upstream");
    assert_eq!(gateway.upstream_says(0, &progress("1", 0)), Some((0, progress("\"t\"", 0))));
    assert_eq!(gateway.upstream_says(0, &result("1", 0)), Some((0, result("\"x\"", 0))));
    assert_eq!(gateway.upstream_says(0, &result("1", 0)), None, "answered before");
}

/// A client that cancels an id of the other type, or another client's id, cancels nothing.
#[test]
fn only_the_own_call_is_cancelled() {
    let mut gateway = Gateway::default();
    let call = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#);
    let cancel =
        |id: &str| format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    for (client, id) in [(0, "1"), (0, "\"1\""), (1, "1")] {
        assert!(gateway.call(client, 0, &call(id)).contains(r#""params":{"_meta":{"progressToken":"#));
    }
    for (client, id) in [(1, "\"1\""), (2, "1"), (0, "2"), (0, "null"), (0, "-1")] {
        assert_eq!(gateway.cancel(client, &cancel(id)), None, "client {client}, id {id}");
    }
    assert_eq!(gateway.cancel(1, &cancel("1")), Some((0, cancel("3"))));
    assert_eq!(gateway.cancel(0, &cancel("\"\\u0031\"")), Some((0, cancel("2"))));
    assert_eq!(gateway.cancel(0, &cancel("1")), Some((0, cancel("1"))));
    assert!(gateway.calls.is_empty());
}
