//! Draws the README's first figure, on a light and on a dark page: a program, its network, the learning curve, and
//! predictions. Everything in it comes from a run of the program in the figure and from `learning_curve.csv`.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headstart::Result;
use headstart::candle_core::DType;
use headstart::data::CATS_AND_DOGS;
use headstart::nn::Summary;
use headstart::prelude::*;
use headstart::random::seeded;

use crate::figure::{Curve, curves, summary};
use crate::task::SIDE;

const WIDTH: i32 = 1200;
const HEIGHT: i32 = 630;
/// The lines that [`trained`] executes.
const PROGRAM: [&str; 5] = [
    "let base = Vgg16::new(Weights::Demo).include_top(false).build()?;",
    "base.freeze();",
    "let mut model = sequential![&base, Flatten, Dense::new(1).activation(Sigmoid)]?;",
    "model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);",
    "model.fit((&x, &y), Fit::epochs(20).batch_size(16))?;",
];
const KEYWORDS: [&str; 2] = ["let", "mut"];
const TRAINING: usize = 100;
const TEST: usize = 1000;
const SHOWN: usize = 4;

/// Colours of one figure.
struct Theme {
    page: &'static str,
    box_: &'static str,
    text: &'static str,
    faint: &'static str,
    keyword: &'static str,
    blue: &'static str,
    orange: &'static str,
}

const LIGHT: Theme = Theme {
    page: "#ffffff",
    box_: "#f3f5f8",
    text: "#222222",
    faint: "#6a6a6a",
    keyword: "#8a3ea8",
    blue: "#147abe",
    orange: "#c25400",
};
const DARK: Theme = Theme {
    page: "#0d1117",
    box_: "#161b22",
    text: "#e6edf3",
    faint: "#9aa4ae",
    keyword: "#d2a8ff",
    blue: "#58a6ff",
    orange: "#ff9a4d",
};

/// Writes `hero-light.svg` and `hero-dark.svg` into a folder.
pub fn run(folder: &str) -> Result<()> {
    let (x, y, _) = drawn(TRAINING, 1)?;
    let (x_test, y_test, images) = drawn(TEST, 2)?;
    let (base, model) = trained(&x, &y)?;
    let accuracy = model.evaluate(&x_test, &y_test)?["accuracy"];
    let predictions = model.predict(&x_test.narrow(0, 0, SHOWN)?)?;
    let shown: Vec<(String, String)> = predictions
        .classes()
        .into_iter()
        .zip(predictions.confidences())
        .zip(images)
        .map(|((class, confidence), image)| {
            let name = CATS_AND_DOGS[class].name.trim_end_matches('s');
            (image, format!("{name} {:.0} %", 100.0 * confidence))
        })
        .collect();
    println!("accuracy {accuracy:.3}; {:?}", shown.iter().map(|(_, caption)| caption).collect::<Vec<_>>());
    let blocks = blocks(&base, &model);
    for (name, theme) in [("light", LIGHT), ("dark", DARK)] {
        let svg = figure(&theme, &blocks, &curves()?, accuracy, &shown);
        let path = format!("{folder}/hero-{name}.svg");
        std::fs::write(&path, svg).map_err(|source| headstart::Error::Io { path: path.into(), source })?;
    }
    Ok(())
}

/// Executes the program of the figure.
fn trained(x: &Tensor, y: &Tensor) -> Result<(Model, Model)> {
    set_random_seed(1);
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    base.freeze();
    let mut model = sequential![&base, Flatten, Dense::new(1).activation(Sigmoid)]?;
    model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
    model.fit((x, y), Fit::epochs(20).batch_size(16).verbose(false).chart(false))?;
    Ok((base, model))
}

/// Preprocessed images of cats and dogs in turn, their labels, and the first images as data URLs.
fn drawn(count: usize, seed: u64) -> Result<(Tensor, Tensor, Vec<String>)> {
    let mut random = seeded((1 << 44) + seed);
    let (mut pixels, mut addresses) = (Vec::new(), Vec::new());
    for at in 0..count {
        let image = CATS_AND_DOGS[at % 2].draw(SIDE as u32, &mut random);
        for channel in 0..3 {
            pixels.extend(image.pixels().map(|pixel| f32::from(pixel[channel])));
        }
        if at < SHOWN {
            let mut file = Cursor::new(Vec::new());
            image.write_to(&mut file, image::ImageFormat::Png).expect("an image in memory is written");
            addresses.push(format!("data:image/png;base64,{}", STANDARD.encode(file.into_inner())));
        }
    }
    let x = preprocess_input(&Tensor::from_vec(pixels, (count, 3, SIDE, SIDE), &device())?)?;
    let labels: Vec<f32> = (0..count).map(|at| (at % 2) as f32).collect();
    Ok((x.to_dtype(DType::F32)?, Tensor::from_vec(labels, count, &device())?, addresses))
}

/// Name, number of weights and number of trainable weights of each block of the base, and of the head.
fn blocks(base: &Model, model: &Model) -> Vec<(String, usize, usize)> {
    let mut blocks: Vec<(String, usize, usize)> = Vec::new();
    for row in base.summary().rows.iter().filter(|row| row.weights > 0) {
        let name = row.name.split('_').next().unwrap_or_default().replace("block", "block ");
        match blocks.last_mut() {
            Some(last) if last.0 == name => *last = (name, last.1 + row.weights, last.2 + row.trainable),
            _ => blocks.push((name, row.weights, row.trainable)),
        }
    }
    let head = |of: &Summary, base: &Summary| (of.weights - base.weights, of.trainable - base.trainable);
    let (weights, trainable) = head(&model.summary(), &base.summary());
    blocks.push(("new head".to_owned(), weights, trainable));
    blocks
}

fn figure(
    theme: &Theme,
    blocks: &[(String, usize, usize)],
    curves: &[Curve; 2],
    accuracy: f64,
    shown: &[(String, String)],
) -> String {
    let Theme { page, box_, text, faint, keyword, blue, orange } = theme;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\" font-size=\"20\" role=\"img\">\
         <title>Five lines of Rust that train a new head on a frozen VGG16, the network, the accuracy by number of training \
         images with transfer and from scratch, and four predictions</title>\
         <defs><pattern id=\"frozen\" width=\"9\" height=\"9\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <rect width=\"9\" height=\"9\" fill=\"{box_}\"/><line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"9\" stroke=\"{blue}\" \
         stroke-opacity=\"0.7\" stroke-width=\"3\"/></pattern></defs>\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"{page}\"/>\
         <rect x=\"30\" y=\"30\" width=\"1140\" height=\"206\" rx=\"10\" fill=\"{box_}\"/>"
    );
    for (at, line) in PROGRAM.iter().enumerate() {
        let coloured: Vec<String> = line
            .split(' ')
            .map(|word| match KEYWORDS.contains(&word) {
                true => format!("<tspan fill=\"{keyword}\">{word}</tspan>"),
                false => word.replace('&', "&amp;"),
            })
            .collect();
        svg += &format!(
            "<text x=\"54\" y=\"{}\" fill=\"{text}\" font-size=\"21\" xml:space=\"preserve\" \
             font-family=\"Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace\">{}</text>",
            72 + 36 * at,
            coloured.join(" ")
        );
    }
    let titled = |x: i32, title: &str| {
        format!("<text x=\"{x}\" y=\"280\" fill=\"{text}\" font-weight=\"bold\">{title}</text>")
    };
    svg += &titled(30, "weights: frozen VGG16, new head");
    for (at, (name, weights, trainable)) in blocks.iter().enumerate() {
        let (y, fill) = (302 + 50 * at as i32, if *trainable == 0 { "url(#frozen)" } else { orange });
        let width = 60 + 20 * at as i32;
        svg += &format!(
            "<rect x=\"30\" y=\"{y}\" width=\"{width}\" height=\"38\" rx=\"5\" fill=\"{fill}\" stroke=\"{}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{faint}\">{name}: {}</text>",
            if *trainable == 0 { blue } else { orange },
            30 + width + 14,
            y + 26,
            with_commas(*weights)
        );
    }
    let seeds = curves.iter().flat_map(|curve| curve.values()).map(Vec::len).min().unwrap_or(0);
    svg += &titled(390, &format!("accuracy by number of images, {seeds} seeds"));
    svg += &curve_panel(theme, curves);
    svg += &titled(860, &format!("{accuracy:.2} on {TEST} new images"));
    for (at, (image, caption)) in shown.iter().enumerate() {
        let (x, y) = (860 + 164 * (at as i32 % 2), 300 + 156 * (at as i32 / 2));
        svg += &format!(
            "<image x=\"{x}\" y=\"{y}\" width=\"122\" height=\"122\" href=\"{image}\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{text}\">{caption}</text>",
            x + 61,
            y + 146
        );
    }
    svg + "</svg>\n"
}

/// The learning curve with bands of one standard deviation.
fn curve_panel(theme: &Theme, curves: &[Curve; 2]) -> String {
    let Theme { faint, blue, orange, .. } = theme;
    let (left, right, top, bottom) = (450.0, 720.0, 304.0, 566.0);
    let at = |size: f64, accuracy: f64| {
        let x = left + (right - left) * (size.log10() - 1.0) / 2.0;
        format!("{x:.1},{:.1}", bottom - (bottom - top) * (accuracy - 0.4) / 0.6)
    };
    let mut svg = String::new();
    for tick in [0.4, 0.6, 0.8, 1.0] {
        let y = bottom - (bottom - top) * (tick - 0.4) / 0.6;
        svg += &format!(
            "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{faint}\" stroke-opacity=\"0.35\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{faint}\">{tick:.1}</text>",
            left - 10.0,
            y + 7.0
        );
    }
    for size in [10, 100, 1000] {
        let x = left + (right - left) * (f64::from(size).log10() - 1.0) / 2.0;
        svg += &format!(
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"{faint}\">{size}</text>",
            bottom + 28.0
        );
    }
    for ((name, colour), curve) in [("transfer", blue), ("from scratch", orange)].into_iter().zip(curves) {
        let points: Vec<(f64, f64, f64)> = curve.iter().map(|(size, runs)| summary(*size, runs)).collect();
        let above = points.iter().map(|(size, mean, spread)| at(*size, mean + spread));
        let below = points.iter().rev().map(|(size, mean, spread)| at(*size, mean - spread));
        let band: Vec<String> = above.chain(below).collect();
        let line: Vec<String> = points.iter().map(|(size, mean, _)| at(*size, *mean)).collect();
        svg += &format!(
            "<polygon points=\"{}\" fill=\"{colour}\" fill-opacity=\"0.25\"/>\
             <polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"3.5\"/>",
            band.join(" "),
            line.join(" ")
        );
        // The names stand in free places of the plot area: below the upper and below the lower curve.
        let (x, y) = if name == "transfer" { (left + 12.0, 372.0) } else { (left + 140.0, 512.0) };
        svg += &format!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" font-weight=\"bold\">{name}</text>");
    }
    svg
}

fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
