//! The time and the memory that something takes, as `tests/bench/compare.py` reads it.

use std::time::Instant;

const SECONDS: f64 = 4.0;
/// So often something quick is done.
pub const OFTEN: usize = 5;

/// Does it again and again, so often at least; the seconds of each time but the first, which warms up.
pub fn times(least: usize, mut step: impl FnMut() -> headstart::Result<()>) -> headstart::Result<Vec<f64>> {
    step()?;
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < least || begin.elapsed().as_secs_f64() < SECONDS {
        let begin = Instant::now();
        step()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// The median, and the peak memory in MB.
pub fn print(mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    println!("{:.4} {:.0}", times[times.len() / 2], peak_memory());
}

/// In MB, where the system tells.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1e3
}
