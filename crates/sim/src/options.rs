//! What a run is made of.

use crate::defect::Defect;
use crate::scenario::Scenario;

/// The options of one run. Equal options give equal traces.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// A fault of the protocol, to see that it is found.
    pub defect: Option<Defect>,
    /// Prints every line of the trace.
    pub trace: bool,
    /// What goes wrong, and when.
    pub scenario: Scenario,
}

impl Options {
    /// The run that a seed stands for: its number of nodes and its scenario follow from it.
    pub fn of_seed(seed: u64) -> Options {
        Options { seed, nodes: 3 + (seed % 3) as usize, defect: None, trace: false, scenario: Scenario::of_seed(seed) }
    }

    /// The same with a defect.
    #[must_use]
    pub fn with_defect(self, defect: Option<Defect>) -> Options {
        Options { defect, ..self }
    }

    pub(crate) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}
