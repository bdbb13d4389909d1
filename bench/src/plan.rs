//! The matrix of a run, and the order in which its cells are measured.

use serde::Serialize;

use crate::cli::RunOptions;
use crate::wire::Era;

/// What a call goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    Gateway,
    Nginx,
    /// Nothing: generator to upstream, for reference.
    Direct,
}

/// One point of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    pub(crate) era: Era,
    pub(crate) payload: usize,
    pub(crate) connections: usize,
}

/// All cells of one era, in the order of the table.
pub(crate) fn cells(options: &RunOptions, era: Era) -> Vec<Cell> {
    let pairs = options
        .payloads
        .iter()
        .flat_map(|&payload| options.connections.iter().map(move |&connections| Cell { era, payload, connections }));
    pairs.collect()
}

/// Who is measured in a round, in which order. Gateway and nginx stand side by side and change places every round, so
/// that neither a drift of the machine nor the order favours one; the reference needs only one round.
pub(crate) fn order(round: u32, with_gateway: bool) -> Vec<Via> {
    let mut order = match (with_gateway, round % 2) {
        (false, _) => vec![Via::Nginx],
        (true, 0) => vec![Via::Gateway, Via::Nginx],
        (true, _) => vec![Via::Nginx, Via::Gateway],
    };
    if round == 0 {
        order.push(Via::Direct);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_and_nginx_change_places() {
        assert_eq!(order(0, true), [Via::Gateway, Via::Nginx, Via::Direct]);
        assert_eq!(order(1, true), [Via::Nginx, Via::Gateway]);
        assert_eq!(order(2, true), [Via::Gateway, Via::Nginx]);
        assert_eq!(order(1, false), [Via::Nginx]);
    }
}
