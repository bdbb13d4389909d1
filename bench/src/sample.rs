//! What one measured cell says; it travels as JSON from the `load` process to the conductor and into the results.

use serde::{Deserialize, Serialize};

/// CPU microseconds per call of one party.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct CpuPerCall {
    /// From the process CPU clock (nanoseconds): the figure that counts.
    pub(crate) clock_us: f64,
    /// From `/proc/PID/stat` (ticks of 10 ms): a cross-check.
    pub(crate) stat_us: f64,
}

/// One measured interval.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) calls: u64,
    /// Failed steps of the whole cell, opening, warm-up and closing included.
    pub(crate) errors: u64,
    /// The first few of them, in words.
    pub(crate) error_texts: Vec<String>,
    pub(crate) seconds: f64,
    pub(crate) calls_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Absent when there is no proxy.
    pub(crate) proxy_cpu: Option<CpuPerCall>,
    pub(crate) upstream_cpu: Option<CpuPerCall>,
    pub(crate) generator_cpu: Option<CpuPerCall>,
    /// Cores that everything else on the machine kept busy meanwhile; much of it makes the sample doubtful.
    pub(crate) others_cores: f64,
    /// Cores' worth of time that the hypervisor took away.
    pub(crate) stolen_cores: f64,
}

impl Sample {
    /// A cell that could not be measured at all.
    pub(crate) fn failed(text: String) -> Self {
        Self { errors: 1, error_texts: vec![text], ..Self::default() }
    }

    /// Whether its figures may be used.
    pub(crate) fn is_good(&self) -> bool {
        self.errors == 0 && self.calls > 0
    }
}
