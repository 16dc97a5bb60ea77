//! Measures time and memory in the output format that `tests/bench/compare.py` reads.

use std::time::Instant;

/// Minimum duration of the measurement of a task, in seconds.
const MIN_SECONDS: f64 = 4.0;
/// Minimum number of runs of a fast task.
pub const MIN_RUNS: usize = 5;

/// Runs `step` at least `least` times and for at least four seconds. Returns the seconds of each run, without a first
/// warm-up run.
pub fn times(least: usize, mut step: impl FnMut() -> headstart::Result<()>) -> headstart::Result<Vec<f64>> {
    step()?;
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < least || begin.elapsed().as_secs_f64() < MIN_SECONDS {
        let begin = Instant::now();
        step()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// Prints the median time in seconds and the peak memory in MB.
pub fn print(mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    println!("{:.4} {:.0}", times[times.len() / 2], peak_memory());
}

/// Peak memory in MB; NaN where `/proc` is not available.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1e3
}
