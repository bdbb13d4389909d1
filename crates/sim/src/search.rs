//! Runs many seeds: to see that all hold, or to find the one that shows a defect.

use crate::{Defect, Options, Report, run};

/// A defect that was looked for.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which.
    pub defect: Defect,
    /// The run that shows it, if there is one.
    pub report: Option<Report>,
    /// How many seeds were tried.
    pub tried: u64,
}

/// Looks for the first seed from `first` on that shows a defect.
pub fn find(defect: Defect, first: u64, seeds: u64) -> Found {
    for tried in 1..=seeds {
        let report = run(&Options::of_seed(first + tried - 1).with_defect(Some(defect)));
        if report.violation.is_some() {
            return Found { defect, report: Some(report), tried };
        }
    }
    Found { defect, report: None, tried: seeds }
}

/// The command that repeats a run.
pub fn command(options: &Options) -> String {
    let mut command = format!("enfilade-sim run --seed {} --seeds 1", options.seed);
    let usual = Options::of_seed(options.seed);
    if options.nodes != usual.nodes {
        command += &format!(" --nodes {}", options.nodes);
    }
    if options.scenario != usual.scenario {
        command += &format!(" --scenario {}", options.scenario);
    }
    if let Some(defect) = options.defect {
        command += &format!(" --defect {defect}");
    }
    command + " --trace"
}
