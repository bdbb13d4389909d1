//! `completion/complete`: fixed words by prefix.

use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompleteResult, CompletionInfo};

const WORDS: [&str; 6] = ["paris", "park", "party", "test", "test1", "test2"];

/// The words that begin with what the user typed.
pub(super) fn complete(request: &CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    let values: Vec<String> =
        WORDS.iter().filter(|word| word.starts_with(&request.argument.value)).map(|word| (*word).to_owned()).collect();
    CompletionInfo::with_all_values(values).map(CompleteResult::new).map_err(|e| ErrorData::internal_error(e, None))
}
