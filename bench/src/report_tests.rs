//! The verdict, from made-up samples.

use super::*;
use crate::sample::CpuPerCall;
use crate::wire::Era;

fn measured(connections: usize, via: Via, round: u32, cpu_us: f64) -> Measured {
    let sample = Sample {
        calls: 100,
        calls_per_second: 1000.0,
        proxy_cpu: (via != Via::Direct).then_some(CpuPerCall { clock_us: cpu_us, stat_us: cpu_us }),
        ..Sample::default()
    };
    Measured { cell: Cell { era: Era::Legacy, payload: 200, connections }, via, round, sample }
}

/// Two cells: ratios 2, 3, 2.5 and 1, 1, 4.
fn run() -> Vec<Measured> {
    let mut all = vec![measured(1, Via::Direct, 0, 0.0), measured(32, Via::Direct, 0, 0.0)];
    for (connections, pairs) in
        [(1, [(20.0, 10.0), (60.0, 20.0), (25.0, 10.0)]), (32, [(5.0, 5.0), (6.0, 6.0), (8.0, 2.0)])]
    {
        for (round, (gateway, nginx)) in (0..).zip(pairs) {
            all.push(measured(connections, Via::Gateway, round, gateway));
            all.push(measured(connections, Via::Nginx, round, nginx));
        }
    }
    all
}

#[test]
fn the_ratio_is_the_median_of_neighbours() {
    let report = Report::new(&run(), Some(2.5));
    let ratios: Vec<_> = report.rows.iter().map(|row| row.ratio).collect();
    assert_eq!(ratios, [Some(2.5), Some(1.0)]);
    assert_eq!((report.ratio_median, report.ratio_worst), (Some(1.75), Some(2.5)));
    assert!(report.is_good());
    assert!(!Report::new(&run(), Some(2.4)).is_good());
}

#[test]
fn errors_and_holes_spoil_a_run() {
    let mut with_error = run();
    with_error[3].sample.errors = 1;
    let report = Report::new(&with_error, None);
    assert_eq!((report.errors, report.holes), (1, 0));
    assert!(!report.is_good());

    let mut with_hole = run();
    with_hole.retain(|one| one.cell.connections != 32 || one.via != Via::Nginx);
    let report = Report::new(&with_hole, None);
    assert_eq!((report.errors, report.holes), (0, 1));
    assert!(!report.is_good());
    assert!(!Report::new(&[], None).is_good());
}

#[test]
fn a_run_without_gateway_has_no_ratio_and_is_good() {
    let mut without = run();
    without.retain(|one| one.via != Via::Gateway);
    let report = Report::new(&without, Some(0.1));
    assert_eq!(report.ratio_worst, None);
    assert!(report.is_good());
    assert!(report.to_string().contains("good"));
}
