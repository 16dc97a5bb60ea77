//! The experiments of the lessons that take longer than a lesson may.
//!
//! ```sh
//! cargo run --release --example course -- learning-curve 10   # seeds; also depth, fine-tuning
//! ```
//!
//! Each experiment appends one line a run to its `.csv` file beside this program, and skips the runs that are there, so
//! that it can be stopped and continued. The lessons draw these files; `tests/notebooks` compares both.
//! `search` prints how the settings for training from scratch were chosen.

mod depth;
mod fine_tuning;
mod learning_curve;
mod table;
mod task;

fn main() -> headstart::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seeds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    match arguments.first().map(String::as_str) {
        Some("search") => learning_curve::search(),
        Some("learning-curve") => learning_curve::run(seeds),
        Some("depth") => depth::run(seeds),
        Some("fine-tuning") => fine_tuning::run(seeds),
        _ => {
            eprintln!("expected search, learning-curve, depth or fine-tuning, and a number of seeds");
            std::process::exit(2);
        }
    }
}
