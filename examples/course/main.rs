//! Experiments of the lessons that take too long for a notebook.
//!
//! ```sh
//! cargo run --release --example course -- learning-curve 0 10   # first seed, end; also depth, fine-tuning, little-data
//! ```
//!
//! Each experiment appends one line per run to its `.csv` file in this folder and skips existing runs, so it can be
//! stopped and continued. The lessons plot these files; `tests/notebooks` compares both. `search` prints the comparison
//! that determined the settings for training from scratch; `figure` and `hero` draw the README's figures.

mod depth;
mod figure;
mod fine_tuning;
mod hero;
mod learning_curve;
mod little_data;
mod table;
mod task;

fn main() -> headstart::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
    let seeds = number(1).unwrap_or(0)..number(2).unwrap_or(5);
    match arguments.first().map(String::as_str) {
        Some("search") => learning_curve::search(),
        Some("learning-curve") => learning_curve::run(seeds),
        Some("depth") => depth::run(seeds),
        Some("fine-tuning") => fine_tuning::run(seeds),
        Some("little-data") => little_data::run(seeds),
        Some("figure") => {
            figure::run(arguments.get(1).map_or("notebooks/learning_curve.svg", String::as_str))
        }
        Some("hero") => hero::run(arguments.get(1).map_or("notebooks", String::as_str)),
        _ => {
            eprintln!(
                "expected search; learning-curve, depth, fine-tuning or little-data, and seeds; or figure or hero, and a path"
            );
            std::process::exit(2);
        }
    }
}
