//! Whom a message from a process is for (BRIDGE.md rule 6). Pure: calls in flight and a message in, a direction out.

use crate::peer::CallError;
use crate::queue::{Class, Queue};
use crate::wire::{self, Sort};
use enfilade_mcp::Id;
use std::collections::HashMap;
use std::sync::Arc;

/// The calls in flight on one process.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    calls: HashMap<u64, Entry>,
    /// Progress token to call.
    tokens: HashMap<u64, u64>,
    ended: bool,
}

#[derive(Debug)]
struct Entry {
    queue: Arc<Queue>,
    progress_token: Option<u64>,
    /// `subscriptions/listen` runs for long, and what belongs to it says so.
    is_subscription: bool,
    /// The process may have read the request.
    written: bool,
}

/// Where a message goes.
#[derive(Debug)]
pub(crate) enum Direction {
    /// To a call.
    Call(Arc<Queue>, Class),
    /// To whoever listens to what the process says of its own accord.
    Listener(Class),
    /// Nowhere; this is written back.
    Back(String),
    /// Nowhere.
    Nowhere,
}

impl Routes {
    /// A call begins; nothing when the process has ended.
    pub(crate) fn begin(&mut self, id: u64, progress_token: Option<u64>, method: &str) -> Option<Arc<Queue>> {
        if self.ended {
            return None;
        }
        let queue = Arc::new(Queue::default());
        let is_subscription = method == "subscriptions/listen";
        self.calls.insert(id, Entry { queue: queue.clone(), progress_token, is_subscription, written: false });
        self.tokens.extend(progress_token.map(|token| (token, id)));
        Some(queue)
    }

    /// The request is about to be written.
    pub(crate) fn written(&mut self, id: u64) {
        if let Some(entry) = self.calls.get_mut(&id) {
            entry.written = true;
        }
    }

    /// A call is over, or not wanted any more.
    pub(crate) fn end(&mut self, id: u64) -> Option<Arc<Queue>> {
        let entry = self.calls.remove(&id)?;
        if let Some(token) = entry.progress_token {
            self.tokens.remove(&token);
        }
        Some(entry.queue)
    }

    /// The process has ended: so do all its calls.
    pub(crate) fn end_all(&mut self) {
        self.ended = true;
        self.tokens.clear();
        for (_, entry) in self.calls.drain() {
            entry.queue.end(Some(if entry.written { CallError::Lost } else { CallError::Gone }));
        }
    }

    /// An answer over the limit came: the call that it was for ends.
    pub(crate) fn too_large(&mut self, head: &[u8]) -> bool {
        let id = wire::id_in_head(head).or_else(|| self.only().map(|(id, _)| id));
        let queue = id.and_then(|id| self.end(id));
        queue.inspect(|queue| queue.end(Some(CallError::TooLarge))).is_some()
    }

    /// Where `text` goes.
    pub(crate) fn direct(&mut self, text: &str, has_listener: bool) -> Direction {
        match wire::sort(text) {
            Sort::Response(id) => match id.and_then(|id| self.end(id)) {
                Some(queue) => Direction::Call(queue, Class::Response),
                None => Direction::Nowhere,
            },
            Sort::Request { id, method } => self.request(&id, &method, has_listener),
            Sort::Notification { method, params } => self.notification(&method, params, has_listener),
            Sort::Nothing => Direction::Nowhere,
        }
    }

    fn request(&self, id: &Id, method: &str, has_listener: bool) -> Direction {
        if method == "ping" {
            return Direction::Back(wire::pong(id));
        }
        match self.only() {
            Some((_, entry)) => Direction::Call(entry.queue.clone(), Class::Request),
            None if has_listener && self.calls.is_empty() => Direction::Listener(Class::Request),
            None => Direction::Back(wire::refusal(id)),
        }
    }

    fn notification(&self, method: &str, params: Option<&str>, has_listener: bool) -> Direction {
        let to = |id: Option<u64>| id.and_then(|id| self.calls.get(&id)).map(|entry| entry.queue.clone());
        if method == "notifications/progress" {
            let id = wire::progress_token(params).and_then(|token| self.tokens.get(&token).copied());
            return to(id).map_or(Direction::Nowhere, |queue| Direction::Call(queue, Class::Notification));
        }
        if let Some(id) = wire::subscription(params) {
            return to(Some(id)).map_or(Direction::Nowhere, |queue| Direction::Call(queue, Class::Notification));
        }
        // News about the server belongs to no call, unless nobody else would hear it.
        let is_news = method.ends_with("/list_changed") || method == "notifications/resources/updated";
        match self.only() {
            Some((_, entry)) if !(is_news && has_listener) => Direction::Call(entry.queue.clone(), Class::Notification),
            _ => Direction::Listener(Class::Notification),
        }
    }

    /// The call in flight, if there is exactly one.
    fn only(&self) -> Option<(u64, &Entry)> {
        let mut calls = self.calls.iter().filter(|(_, entry)| !entry.is_subscription);
        let (id, entry) = calls.next()?;
        calls.next().is_none().then_some((*id, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What became of a message: the class and the number of the call (1 or 2), `own`, what is written back, or nothing.
    fn direct(routes: &mut Routes, queues: &[&Arc<Queue>], text: &str, has_listener: bool) -> String {
        match routes.direct(text, has_listener) {
            Direction::Call(queue, class) => {
                let number = queues.iter().position(|other| Arc::ptr_eq(other, &queue)).map_or(0, |index| index + 1);
                format!("{class:?} {number}")
            }
            Direction::Listener(class) => format!("own {class:?}"),
            Direction::Back(text) => text,
            Direction::Nowhere => "nowhere".to_owned(),
        }
    }

    const ASK: &str = r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#;
    const LOG: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
    const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

    #[test]
    fn without_calls() {
        let mut routes = Routes::default();
        assert!(direct(&mut routes, &[], ASK, false).contains("-32603"));
        assert_eq!(direct(&mut routes, &[], ASK, true), "own Request");
        assert_eq!(direct(&mut routes, &[], LOG, false), "own Notification");
        let pong = r#"{"jsonrpc":"2.0","id":4,"result":{}}"#;
        assert_eq!(direct(&mut routes, &[], r#"{"jsonrpc":"2.0","id":4,"method":"ping"}"#, true), pong);
        assert_eq!(direct(&mut routes, &[], r#"{"jsonrpc":"2.0","id":4,"result":{}}"#, true), "nowhere");
        assert_eq!(direct(&mut routes, &[], "Listening on stdio", true), "nowhere");
    }

    #[test]
    fn with_one_call_everything_is_its() {
        let mut routes = Routes::default();
        let one = routes.begin(7, Some(70), "tools/call").unwrap();
        let _listen = routes.begin(8, None, "subscriptions/listen").unwrap();
        let mut to = |text: &str, has_listener| direct(&mut routes, &[&one], text, has_listener);
        assert_eq!(to(ASK, true), "Request 1");
        assert_eq!(to(LOG, true), "Notification 1");
        assert_eq!(to(CHANGED, false), "Notification 1");
        assert_eq!(to(CHANGED, true), "own Notification");
    }

    #[test]
    fn with_two_calls_only_what_names_its_call() {
        let mut routes = Routes::default();
        let one = routes.begin(7, Some(70), "tools/call").unwrap();
        let two = routes.begin(8, Some(80), "tools/call").unwrap();
        let mut to = |text: &str| direct(&mut routes, &[&one, &two], text, true);
        assert!(to(ASK).contains("-32603"));
        assert_eq!(to(LOG), "own Notification");
        let progress = |token| format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token}}}}}"#);
        assert_eq!(to(&progress(80)), "Notification 2");
        assert_eq!(to(&progress(90)), "nowhere");
        let of = r#"{"method":"x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}"#;
        assert_eq!(to(of), "Notification 1");
        assert_eq!(to(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#), "Response 2");
        assert_eq!(to(&progress(80)), "nowhere");
        assert_eq!(to(ASK), "Request 1");
    }

    proptest! {
        /// Calls begin and end in any order, and whatever names one of them reaches it and no other (P6).
        #[test]
        fn nothing_reaches_another_call(steps in prop::collection::vec((0u8..4, 0u64..6), 0..400)) {
            let mut routes = Routes::default();
            let mut open: std::collections::BTreeMap<u64, Arc<Queue>> = Default::default();
            let mut next = 0;
            for (step, pick) in steps {
                let picked = open.keys().nth(pick as usize % open.len().max(1)).copied();
                match (step, picked) {
                    (0, _) | (_, None) => {
                        next += 1;
                        open.insert(next, routes.begin(next, Some(next + 1000), "tools/call").unwrap());
                    }
                    (1, Some(id)) => {
                        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
                        let Direction::Call(queue, Class::Response) = routes.direct(&text, true) else { panic!("lost") };
                        prop_assert!(Arc::ptr_eq(&queue, &open[&id]));
                        prop_assert!(matches!(routes.direct(&text, true), Direction::Nowhere), "twice");
                        open.remove(&id);
                    }
                    (2, Some(id)) => {
                        let token = id + 1000;
                        let text = format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token}}}}}"#);
                        let Direction::Call(queue, Class::Notification) = routes.direct(&text, true) else { panic!("lost") };
                        prop_assert!(Arc::ptr_eq(&queue, &open[&id]));
                    }
                    (_, Some(id)) => {
                        routes.end(id);
                        open.remove(&id);
                        let token = id + 1000;
                        let text = format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token}}}}}"#);
                        prop_assert!(matches!(routes.direct(&text, true), Direction::Nowhere));
                    }
                }
                prop_assert_eq!(routes.calls.len(), open.len());
                prop_assert_eq!(routes.tokens.len(), open.len());
            }
        }
    }

    #[tokio::test]
    async fn an_exit_ends_calls_by_whether_they_were_written() {
        let mut routes = Routes::default();
        let (one, two) = (routes.begin(1, None, "a").unwrap(), routes.begin(2, None, "a").unwrap());
        routes.written(1);
        routes.end_all();
        assert_eq!(one.pop().await.unwrap().unwrap_err(), CallError::Lost);
        assert_eq!(two.pop().await.unwrap().unwrap_err(), CallError::Gone);
        assert!(routes.begin(3, None, "a").is_none());
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_ends_its_call() {
        let mut routes = Routes::default();
        let (one, two) = (routes.begin(1, None, "a").unwrap(), routes.begin(2, None, "a").unwrap());
        assert!(!routes.too_large(br#"{"result":"aaaa"#));
        assert!(routes.too_large(br#"{"jsonrpc":"2.0","id":2,"result":"aaaa"#));
        assert_eq!(two.pop().await.unwrap().unwrap_err(), CallError::TooLarge);
        assert!(routes.too_large(br#"{"result":"aaaa"#));
        assert_eq!(one.pop().await.unwrap().unwrap_err(), CallError::TooLarge);
    }
}
