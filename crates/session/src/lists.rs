//! The lists of one upstream: fetched whole, page by page, and kept as long as the upstream says.

use crate::ask::{self, AskError};
use enfilade_mcp::param_headers::ParamHeaders;
use enfilade_mcp::{Era, error::code, json, method::Method};
use enfilade_upstream::{CallError, Peer};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Most pages that one list may have; more is a loop.
const PAGES_MAX: usize = 1_000;
/// Longest time that a list is kept, whatever its upstream says.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most bytes of one upstream's list.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The four lists of an MCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ListKind {
    Tools,
    Resources,
    Templates,
    Prompts,
}

impl ListKind {
    pub(crate) const ALL: [Self; 4] = [Self::Tools, Self::Resources, Self::Templates, Self::Prompts];

    pub(crate) fn of(method: Method) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::Tools => Method::ToolsList,
            Self::Resources => Method::ResourcesList,
            Self::Templates => Method::TemplatesList,
            Self::Prompts => Method::PromptsList,
        }
    }

    /// The member of the result that holds the items.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Prompts => "prompts",
        }
    }

    /// The member of an item that names it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// The capability without which the list is empty.
    pub(crate) fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources | Self::Templates => "resources",
            Self::Prompts => "prompts",
        }
    }

    /// The notification that says it changed.
    pub(crate) fn changed(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Resources | Self::Templates => "notifications/resources/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
        }
    }

    /// The lists that a notification is about.
    pub(crate) fn changed_by(notification: &str) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |kind| kind.changed() == notification)
    }
}

/// One tool, resource, template or prompt.
#[derive(Debug)]
pub(crate) struct Item {
    /// The JSON text as the upstream gave it.
    pub(crate) text: String,
    /// Its name or URI as the upstream knows it.
    pub(crate) key: String,
    /// Arguments that must be mirrored into headers (tools).
    pub(crate) headers: ParamHeaders,
}

/// A whole list of one upstream.
#[derive(Debug)]
pub(crate) struct List {
    /// Differs for every list that was fetched; zero for that of an upstream which has none.
    pub(crate) stamp: u64,
    /// The era of the upstream that gave it.
    pub(crate) era: Era,
    pub(crate) items: Vec<Item>,
    /// Where each item is, by its key; the first of several with one key.
    places: HashMap<String, usize>,
    /// Names of items that were left out because their definition is not valid.
    pub(crate) refused: HashSet<String>,
    /// How long it is fresh; zero when the upstream says that it is stale at once.
    pub(crate) ttl: Duration,
    /// Until when the upstream says that it is fresh; none where the upstream cannot say so (legacy).
    pub(crate) fresh_until: Option<Instant>,
    /// True when it is for one principal only, or nobody said that it is not.
    pub(crate) private: bool,
}

static STAMP: AtomicU64 = AtomicU64::new(1);

impl List {
    /// The list of an upstream that does not declare such lists: the same at every time.
    pub(crate) fn none(era: Era, ttl: Duration) -> Self {
        let (items, places, refused) = (Vec::new(), HashMap::new(), HashSet::new());
        Self { stamp: 0, era, items, places, refused, ttl, fresh_until: None, private: false }
    }

    fn new(era: Era, ttl: Duration) -> Self {
        let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
        Self { stamp, private: era == Era::Legacy, ..Self::none(era, ttl) }
    }

    fn push(&mut self, item: Item) {
        self.places.entry(item.key.clone()).or_insert(self.items.len());
        self.items.push(item);
    }

    pub(crate) fn item(&self, key: &str) -> Option<&Item> {
        self.items.get(*self.places.get(key)?)
    }
}

/// Where a list comes from.
pub(crate) struct Source<'a> {
    pub(crate) peer: &'a dyn Peer,
    pub(crate) era: Era,
    /// What a modern request declares, a JSON object.
    pub(crate) capabilities: &'a str,
    /// How long a list is fresh when the upstream does not say.
    pub(crate) default_ttl: Duration,
    /// How long each page may take.
    pub(crate) within: Duration,
    /// Its name, for logs.
    pub(crate) upstream: &'a str,
}

/// Fetches every page of a list.
pub(crate) async fn fetch(kind: ListKind, source: &Source<'_>) -> Result<Arc<List>, AskError> {
    let &Source { peer, era, default_ttl, within, upstream, .. } = source;
    let mut list = List::new(era, default_ttl);
    let mut ttl: Option<Duration> = None;
    let mut cursor: Option<String> = None;
    let mut bytes = 0;
    for _ in 0..PAGES_MAX {
        let members = cursor.as_ref().map(|cursor| format!(r#""cursor":{cursor}"#)).unwrap_or_default();
        let params = ask::params_of(era, &members, source.capabilities);
        let result = match ask::ask(peer, kind.method().as_str(), &params, None, within).await {
            Err(error) if error.code() == Some(code::METHOD_NOT_FOUND) => return Ok(Arc::new(list)),
            result => result?,
        };
        bytes += result.len();
        if bytes > LIST_BYTES_MAX {
            return Err(CallError::TooLarge.into());
        }
        // Least `ttlMs` of all pages; private when any page is (2026-07-28 caching).
        if let Some(ttl_ms) = json::get(&result, "ttlMs").and_then(|ttl| ttl.parse().ok()) {
            let page = Duration::from_millis(ttl_ms).min(TTL_MAX);
            let least = ttl.map_or(page, |ttl| ttl.min(page));
            ttl = Some(least);
            list.ttl = least;
            list.fresh_until = Some(Instant::now() + least);
        }
        list.private |= json::get(&result, "cacheScope") == Some("\"private\"");
        for text in json::elements(json::get(&result, kind.member()).unwrap_or("[]")) {
            match read_item(kind, era, text) {
                Ok(item) => list.push(item),
                Err(why) => {
                    tracing::warn!(upstream, list = kind.member(), why, "left out of the list");
                    list.refused.extend(json::get(text, kind.key()).and_then(json::string).map(Into::into));
                }
            }
        }
        cursor = json::get(&result, "nextCursor").filter(|cursor| cursor.starts_with('"')).map(str::to_owned);
        if cursor.is_none() {
            return Ok(Arc::new(list));
        }
    }
    Err(CallError::Protocol("the list has more than 1,000 pages").into())
}

fn read_item(kind: ListKind, era: Era, text: &str) -> Result<Item, String> {
    let key = json::get(text, kind.key()).and_then(json::string).ok_or("it has no name")?.into_owned();
    let headers = match (kind, era) {
        (ListKind::Tools, Era::Modern) => ParamHeaders::from_tool(text).map_err(|why| format!("{key:?}: {why}"))?,
        _ => ParamHeaders::default(),
    };
    Ok(Item { text: text.to_owned(), key, headers })
}
