//! A few seeds of every kind hold, each twice with the same trace; defects that show at once are found.
//! `make sim` runs many more, `make sim-defects` looks for all defects.

use enfilade_sim::{Defect, Options, Report, Scenario, run, search};

fn assert_holds(report: &Report) {
    let violation = report.violation.as_ref().map(|violation| format!("{}: {}", violation.invariant, violation.what));
    assert!(
        violation.is_none(),
        "{}\n{}\nrepeat: {}",
        report.lines.join("\n"),
        violation.unwrap_or_default(),
        search::command(&report.options)
    );
}

#[test]
fn a_calm_run_loses_nothing() {
    // A guard that is never reached: only a drain and its end happen.
    let report = run(&Options { scenario: Scenario::GuardPause(1_000_000), ..Options::of_seed(1) });
    assert_holds(&report);
    let stats = &report.stats;
    assert!(stats.moves[1] > 0, "slots moved");
    assert_eq!(stats.outcomes[0], stats.calls, "every call has its result, also while slots move");
    assert_eq!(stats.executions, stats.calls, "each ran once");
}

#[test]
fn seeds_hold() {
    for seed in 1..=12 {
        assert_holds(&run(&Options::of_seed(seed)));
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [1, 2, 4] {
        let (first, second) = (run(&Options::of_seed(seed)), run(&Options::of_seed(seed)));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.stats.steps, second.stats.steps);
    }
    assert_ne!(run(&Options::of_seed(1)).trace_hash, run(&Options::of_seed(2)).trace_hash);
}

#[test]
fn defects_are_found() {
    // Those that the first seeds show; the others take more time than a unit test has.
    for defect in [Defect::NoFence, Defect::BytesBeforeCopy, Defect::UnsafeReplayed, Defect::TermUnchecked] {
        assert!(search::find(defect, 1, 10).report.is_some(), "{defect}");
    }
}

#[test]
fn a_report_names_the_command_that_repeats_it() {
    let options = Options::of_seed(9).with_defect(Some(Defect::NoFence));
    assert_eq!(search::command(&options), "enfilade-sim run --seed 9 --seeds 1 --defect no-fence --trace");
    let options = Options { scenario: Scenario::move_fault(3), nodes: 5, ..options };
    let command = search::command(&options);
    let scenario = options.scenario.to_string();
    assert!(command.contains("--nodes 5") && command.contains(&scenario), "{command}");
    assert_eq!(scenario.parse(), Ok(options.scenario), "what a report prints can be given back");
}
