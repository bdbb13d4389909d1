//! `enfilade-sim`: runs seeds, and looks for seeded defects.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use enfilade_sim::{Defect, Options, Report, Scenario, Stats, run, search};

#[derive(Parser)]
#[command(about = "The cluster in a deterministic world: one seed, one trace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run seeds and check the invariants; exits 1 at the first one that falls.
    Run(RunArgs),
    /// Look for each seeded defect; exits 1 if one is not found.
    Defects(DefectsArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A defect to seed.
    #[arg(long)]
    defect: Option<Defect>,
    /// How many nodes, instead of what the seed says.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: Option<u8>,
    /// What goes wrong, instead of what the seed says: chance, guard:N, or move:STEP:HIT.
    #[arg(long)]
    scenario: Option<Scenario>,
    /// Print every line of the trace.
    #[arg(long)]
    trace: bool,
    /// Go on after a violation and count them.
    #[arg(long)]
    keep_going: bool,
}

#[derive(clap::Args)]
struct DefectsArgs {
    /// Most seeds to try for each.
    #[arg(long, default_value_t = 400)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this one.
    #[arg(long)]
    defect: Option<Defect>,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run_seeds(&args),
        Command::Defects(args) => find_defects(&args),
    }
}

fn run_seeds(args: &RunArgs) -> ExitCode {
    let began = Instant::now();
    let mut stats = Stats::default();
    let mut violations = 0;
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let usual = Options::of_seed(seed);
        let report = run(&Options {
            nodes: args.nodes.map_or(usual.nodes, usize::from),
            scenario: args.scenario.unwrap_or(usual.scenario),
            defect: args.defect,
            trace: args.trace,
            seed,
        });
        stats.add(&report.stats);
        if report.violation.is_some() {
            violations += 1;
            print_violation(&report);
            if !args.keep_going {
                break;
            }
        } else if args.seeds == 1 {
            println!("seed {seed}: trace {:016x}", report.trace_hash);
        }
    }
    for line in stats.lines() {
        println!("{line}");
    }
    println!("{violations} violations, {:.1} s", began.elapsed().as_secs_f64());
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn print_violation(report: &Report) {
    let Some(violation) = &report.violation else { return };
    for line in &report.lines {
        println!("  {line}");
    }
    println!("seed {} ({}, {} nodes)", report.options.seed, report.options.scenario, report.options.nodes);
    println!("violated: {}: {}", violation.invariant, violation.what);
    println!("repeat:   {}", search::command(&report.options));
}

fn find_defects(args: &DefectsArgs) -> ExitCode {
    println!("{:<26} {:>6} {:>6}  {:<32} scenario", "defect", "seed", "tried", "invariant that fell");
    let mut all = true;
    for defect in Defect::ALL.into_iter().filter(|defect| args.defect.is_none_or(|only| only == *defect)) {
        let found = search::find(defect, args.seed, args.seeds);
        let Some((report, violation)) = found.report.as_ref().and_then(|r| Some((r, r.violation.as_ref()?))) else {
            all = false;
            println!("{defect:<26} {:>6} {:>6}  not found", "-", found.tried);
            continue;
        };
        let (seed, scenario) = (report.options.seed, report.options.scenario);
        println!("{defect:<26} {seed:>6} {:>6}  {:<32} {scenario}", found.tried, violation.invariant);
    }
    if all { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
