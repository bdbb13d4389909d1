//! The raw results: one JSON file per run, named by date and commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::environment::Environment;

/// Raised when a field changes its meaning.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct ResultFile<'a, P, S, M> {
    format: u32,
    /// UTC, `YYYY-MM-DDThh:mm:ssZ`, at the end of the run.
    finished: String,
    good: bool,
    environment: &'a Environment,
    parameters: &'a P,
    summary: &'a S,
    samples: &'a [M],
}

/// What a run says of itself, in the file's name and its content.
pub(crate) struct Run<'a> {
    /// Put before the date; empty for the comparison with nginx.
    pub(crate) prefix: &'static str,
    pub(crate) folder: &'a Path,
    pub(crate) environment: &'a Environment,
    pub(crate) good: bool,
}

/// Writes the file; a second run on the same day with the same commit replaces the first.
pub(crate) fn write<P: Serialize, S: Serialize, M: Serialize>(
    run: &Run<'_>,
    parameters: &P,
    summary: &S,
    samples: &[M],
) -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (date, time) = utc(seconds);
    let content = ResultFile {
        format: FORMAT,
        finished: format!("{date}T{time}Z"),
        good: run.good,
        environment: run.environment,
        parameters,
        summary,
        samples,
    };
    let file = run.folder.join(format!("{}{date}-{}.json", run.prefix, run.environment.commit));
    fs::create_dir_all(run.folder)?;
    let json = serde_json::to_vec_pretty(&content)?;
    fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Date and time of a Unix time. Years are counted from March, so that the leap day is the last of its year.
fn utc(seconds: u64) -> (String, String) {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let time = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    (format!("{year:04}-{month:02}-{day:02}"), time)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn unix_times_become_dates() {
        let cases = [
            (0, "1970-01-01", "00:00:00"),
            (951_782_399, "2000-02-28", "23:59:59"),
            (951_782_400, "2000-02-29", "00:00:00"),
            (1_735_689_599, "2024-12-31", "23:59:59"),
            (1_795_266_377, "2026-11-21", "13:06:17"),
        ];
        for (seconds, date, time) in cases {
            assert_eq!(utc(seconds), (date.to_owned(), time.to_owned()), "{seconds}");
        }
    }
}
