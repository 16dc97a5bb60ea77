//! Pictures drawn by the program, for a first lesson without any file of one's own.

use std::path::Path;

use image::{Rgb, RgbImage};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::write_whole;
use crate::{Error, Result, random};

/// Draws `per_class` pictures each of `discs` and `stripes` as PNG files into two folders of
/// `path`: discs of many sizes, stripes of many widths and directions, in any colours, with noise.
///
/// # Errors
/// [`Error::Io`] if a folder or file cannot be written.
pub fn draw_pictures(path: impl AsRef<Path>, per_class: usize, side: u32, seed: u64) -> Result<()> {
    let mut random = random::seeded(seed);
    for (class, is_inside) in [("discs", disc as Drawing), ("stripes", stripes as Drawing)] {
        let folder = path.as_ref().join(class);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        for number in 0..per_class {
            let picture = draw(side, is_inside, &mut random);
            let mut file = std::io::Cursor::new(Vec::new());
            picture.write_to(&mut file, image::ImageFormat::Png).expect("a picture in memory is written");
            write_whole(&folder.join(format!("{number:03}.png")), &file.into_inner())?;
        }
    }
    Ok(())
}

/// Draws its own measures, and gives whether a point, each coordinate from -1 to 1, is inside.
type Drawing = fn(&mut ChaCha8Rng) -> Box<dyn Fn(f32, f32) -> bool>;

fn disc(random: &mut ChaCha8Rng) -> Box<dyn Fn(f32, f32) -> bool> {
    let (x0, y0) = (random.random_range(-0.4..0.4), random.random_range(-0.4..0.4f32));
    let radius = random.random_range(0.25..0.6f32);
    Box::new(move |x, y| (x - x0).hypot(y - y0) < radius)
}

fn stripes(random: &mut ChaCha8Rng) -> Box<dyn Fn(f32, f32) -> bool> {
    let (sin, cos) = random.random_range(0.0..std::f32::consts::PI).sin_cos();
    let (waves, phase) = (random.random_range(5.0..14.0), random.random_range(0.0..6.0));
    Box::new(move |x, y| ((x * cos + y * sin) * waves + phase).sin() > 0.0)
}

fn draw(side: u32, drawing: Drawing, random: &mut ChaCha8Rng) -> RgbImage {
    let color = |random: &mut ChaCha8Rng| [0; 3].map(|_: i32| random.random_range(30.0..225.0f32));
    let back = color(random);
    let front = loop {
        let front = color(random);
        if front.iter().zip(back).map(|(a, b)| (a - b).abs()).sum::<f32>() > 150.0 {
            break front;
        }
    };
    let is_inside = drawing(random);
    let point = |pixel: u32| pixel as f32 / side as f32 * 2.0 - 1.0;
    RgbImage::from_fn(side, side, |x, y| {
        let base = if is_inside(point(x), point(y)) { front } else { back };
        Rgb(base.map(|value| (value + random.random_range(-20.0..20.0)).clamp(0.0, 255.0) as u8))
    })
}
