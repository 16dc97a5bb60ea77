//! Draws the learning curve for the README and prints its values for the lesson.

use std::collections::BTreeMap;

use headstart::prelude::*;
use headstart::{Error, Result};

/// Accuracies of one training method by number of images.
pub type Curve = BTreeMap<usize, Vec<f64>>;

/// Reads the results, prints mean and standard deviation for each size, and writes the figure.
pub fn run(path: &str) -> Result<()> {
    let [transfer, scratch] = curves()?;
    let points = |curve: &Curve| {
        let rows: Vec<(f64, f64, f64)> = curve.iter().map(|(size, runs)| summary(*size, runs)).collect();
        rows
    };
    for (row, runs) in points(&scratch).iter().zip(scratch.values()) {
        println!("scratch {row:.4?}, {} seeds", runs.len());
    }
    for (row, runs) in points(&transfer).iter().zip(transfer.values()) {
        println!("transfer {row:.4?}, {} seeds", runs.len());
    }
    Lines::new("Cats against dogs: test accuracy by number of training images", "training images", "accuracy")
        .log_x()
        .x_ticks(transfer.keys().map(|size| *size as f64))
        .line("transfer", points(&transfer))
        .line("from scratch", points(&scratch))
        .reference("chance", 0.5)
        .plot()?
        .save(path)
}

/// Reads the results of transfer and of training from scratch.
pub fn curves() -> Result<[Curve; 2]> {
    let source = format!("{}/examples/course/learning_curve.csv", env!("CARGO_MANIFEST_DIR"));
    let text =
        std::fs::read_to_string(&source).map_err(|error| Error::Io { path: source.into(), source: error })?;
    Ok(["transfer", "scratch"].map(|way| curve(&text, way)))
}

fn curve(text: &str, way: &str) -> Curve {
    let mut curve = Curve::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        if let [name, size, _, accuracy, _] = fields.as_slice()
            && *name == way
            && let (Ok(size), Ok(accuracy)) = (size.parse(), accuracy.parse())
        {
            curve.entry(size).or_default().push(accuracy);
        }
    }
    curve
}

/// Number of images, mean and standard deviation of the accuracy.
pub fn summary(size: usize, runs: &[f64]) -> (f64, f64, f64) {
    let n = runs.len() as f64;
    let mean = runs.iter().sum::<f64>() / n;
    let squares: f64 = runs.iter().map(|run| (run - mean).powi(2)).sum();
    (size as f64, mean, if runs.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}
