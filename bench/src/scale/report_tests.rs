//! The verdict, from made-up samples.

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
use crate::cluster::Net;
use crate::sample::{CpuPerCall, Sample};

fn options(more: &[&str]) -> ScaleOptions {
    let words = ["enfilade-bench", "scale", "--gateway", "enfilade", "--nodes", "1,2,3"];
    match Cli::parse_from(words.iter().chain(more)).command {
        Command::Scale(options) => options,
        _ => panic!("another command"),
    }
}

fn measured(nodes: usize, kind: Kind, class: Class, round: u32, cpu_us: f64) -> Measured {
    let cpu = CpuPerCall { clock_us: cpu_us, stat_us: cpu_us };
    let sample = Sample { calls: 100, calls_per_second: 1000.0, proxy_cpu: Some(cpu), ..Sample::default() };
    // 10 us of each call are the nodes' idle work.
    let idle_cores = if class == Class::Nginx { Vec::new() } else { vec![0.01 / nodes as f64; nodes] };
    Measured { nodes, kind, class, round, net: Net { idle_cores, sample } }
}

/// Local calls take 20, 20 and 22 us, forwarded ones 24 and 30, nginx 10; the second round everything twice.
fn run() -> Vec<Measured> {
    let mut all = Vec::new();
    for (round, factor) in [(0, 1.0), (1, 2.0)] {
        for kind in KINDS {
            for (nodes, local, forwarded) in [(1, 20.0, None), (2, 20.0, Some(24.0)), (3, 22.0, Some(30.0))] {
                all.push(measured(nodes, kind, Class::Local, round, local * factor + 10.0));
                all.extend(forwarded.map(|us| measured(nodes, kind, Class::Forwarded, round, us * factor + 10.0)));
                all.push(measured(nodes, kind, Class::Nginx, round, 10.0 * factor));
            }
        }
    }
    all
}

#[test]
fn classes_stand_beside_their_smallest_cluster_net_of_idle() {
    let report = Report::new(&run(), &options(&[]));
    assert!(report.is_good(), "{report}");
    let row = &report.rows[2];
    let (local, forwarded) = (row.local.expect("local"), row.forwarded.expect("forwarded"));
    let close = |is: f64, should: f64| assert!((is - should).abs() < 1e-6, "{is} instead of {should}");
    close(local.cpu_us, 33.0);
    close(local.lowest_us, 22.0);
    close(local.highest_us, 44.0);
    close(local.idle_us, 10.0);
    close(local.to_smallest, 1.1);
    close(forwarded.to_smallest, 1.25);
    close(row.local_to_nginx.expect("a ratio"), 2.2);
    close(row.forwarded_to_local.expect("a ratio"), 30.0 / 22.0);
    for kind in KINDS {
        let of = |class| report.flat.iter().filter(move |one| one.kind == kind && one.class == class);
        let local: Vec<&Flat> = of(Class::Local).collect();
        let [two, three] = local[..] else { panic!("{:?}", report.flat) };
        assert_eq!((two.smallest, two.nodes, three.smallest, three.nodes), (1, 2, 1, 3));
        close(two.to_smallest, 1.0);
        close(three.to_smallest, 1.1);
        let forwarded: Vec<&Flat> = of(Class::Forwarded).collect();
        let [three] = forwarded[..] else { panic!("{:?}", report.flat) };
        assert_eq!((three.smallest, three.nodes), (2, 3));
        close(three.to_smallest, 1.25);
        close(three.nginx.expect("nginx"), 1.0);
    }
    assert!(report.rows[0].forwarded.is_none(), "nobody to forward to");
}

#[test]
fn each_limit_is_held_against_every_size() {
    for (limit, fine, too_low) in
        [("--flat-max", "0.26", "0.24"), ("--nginx-ratio-max", "2.3", "2.1"), ("--ratio-max", "1.4", "1.3")]
    {
        assert!(Report::new(&run(), &options(&[limit, fine])).is_good(), "{limit} {fine}");
        let report = Report::new(&run(), &options(&[limit, too_low]));
        assert!(!report.is_good() && report.to_string().contains("above a limit"), "{limit} {too_low}");
    }
    let text = Report::new(&run(), &options(&["--flat-max", "0.24"])).to_string();
    let lines = |of: &str, above: bool| {
        text.lines()
            .filter(|line| line.contains(of) && line.contains("->") && line.ends_with("above the limit") == above)
            .count()
    };
    assert_eq!((lines("forwarded", true), lines("local", false)), (KINDS.len(), KINDS.len()), "each class: {text}");
}

#[test]
fn errors_and_holes_spoil_a_run() {
    let mut with_error = run();
    with_error[3].net.sample.errors = 1;
    assert!(!Report::new(&with_error, &options(&[])).is_good());
    let mut with_hole = run();
    with_hole.retain(|one| one.nodes != 3 || one.class != Class::Forwarded);
    assert!(!Report::new(&with_hole, &options(&[])).is_good());
}

#[test]
fn what_as_many_nginx_cost_more_is_the_machines() {
    let mut run = run();
    // 15 us alone; 16 of two, and 18 of three.
    for one in run.iter_mut().filter(|one| one.nodes > 1 && one.class == Class::Nginx && one.kind == Kind::Rate) {
        let clock_us = if one.nodes == 2 { 16.0 } else { 18.0 };
        one.net.sample.proxy_cpu = Some(CpuPerCall { clock_us, stat_us: clock_us });
    }
    let report = Report::new(&run, &options(&[]));
    let of = |kind, class, nodes| {
        let is = |one: &&Flat| one.kind == kind && one.class == class && one.nodes == nodes;
        *report.flat.iter().find(is).expect("a figure")
    };
    // From the same smallest size: forwarded calls begin with two nodes.
    for (class, to_smallest, nginx) in [(Class::Local, 1.1, 18.0 / 15.0), (Class::Forwarded, 1.25, 18.0 / 16.0)] {
        let one = of(Kind::Rate, class, 3);
        for (is, should) in [
            (one.to_smallest, to_smallest),
            (one.nginx.expect("nginx"), nginx),
            (one.to_nginx.expect("a ratio"), to_smallest / nginx),
        ] {
            assert!((is - should).abs() < 1e-6, "{one:?}");
        }
        let other = of(Kind::Closed, class, 3);
        assert!((other.to_nginx.expect("a ratio") - to_smallest).abs() < 1e-6, "{other:?}");
    }
}
