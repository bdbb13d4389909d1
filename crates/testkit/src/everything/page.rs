//! Splits a list into pages; the cursor is the offset of the next item.

use rmcp::ErrorData;
use rmcp::model::PaginatedRequestParams;

/// One page of `items` and the cursor of the next one.
pub(super) fn page<T>(
    items: Vec<T>,
    request: Option<PaginatedRequestParams>,
    page_size: Option<usize>,
) -> Result<(Vec<T>, Option<String>), ErrorData> {
    let start = match request.and_then(|r| r.cursor) {
        None => 0,
        Some(cursor) => cursor
            .parse::<usize>()
            .ok()
            .filter(|start| *start < items.len())
            .ok_or_else(|| ErrorData::invalid_params("unknown cursor", None))?,
    };
    let size = page_size.unwrap_or(usize::MAX).max(1);
    let total = items.len();
    let taken: Vec<T> = items.into_iter().skip(start).take(size).collect();
    let end = start + taken.len();
    Ok((taken, (end < total).then(|| end.to_string())))
}

#[cfg(test)]
mod tests {
    use super::page;
    use rmcp::model::PaginatedRequestParams;

    fn at(cursor: &str) -> Option<PaginatedRequestParams> {
        Some(PaginatedRequestParams::default().with_cursor(Some(cursor.to_owned())))
    }

    #[test]
    fn pages_cover_the_list_once() {
        let (first, next) = page(vec![1, 2, 3], None, Some(2)).expect("first page");
        assert_eq!((first, next.as_deref()), (vec![1, 2], Some("2")));
        let (second, next) = page(vec![1, 2, 3], at("2"), Some(2)).expect("second page");
        assert_eq!((second, next), (vec![3], None));
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        assert!(page(vec![1], at("x"), Some(1)).is_err());
        assert!(page(vec![1], at("1"), Some(1)).is_err());
    }
}
