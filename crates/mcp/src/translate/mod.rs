//! The bridge for plain calls, lists and reads: what one message must lose or gain to be understood in the other era, or
//! in an older revision (BRIDGE.md rules 10, 13, 14 and the table's first rows).
//!
//! All functions work on texts. `edit_*` and `result_*` add edits to a caller's [`crate::Splice`], so that ids, names and
//! tokens change in the same pass; the others return a new text, or nothing when the old one will do. Within one pass the
//! caller must not set members of `params`, of a result, or of their `_meta` itself: two additions to an empty object
//! would not know of each other.

mod contents;
mod edit;
mod errors;
mod requests;
mod results;
mod uris;

pub use contents::contents_to_version;
pub use errors::{ErrorOutcome, error_to_legacy, error_to_modern};
pub use requests::{ClientMeta, edit_progress_token, edit_request_to_legacy, edit_request_to_modern};
pub use results::{result_to_legacy, result_to_modern, schema_to_legacy};
pub use uris::{edit_uris, map_error_uri, map_item_uris, map_uris};
