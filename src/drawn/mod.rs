//! Generated images: for tutorials without data files, and for the pretraining of the demo weights.
//!
//! Each image shows one subject in a random pose on a random background, with other shapes, lighting and
//! noise. The demo weights were trained to classify [`SOURCES`]. Cats, dogs and related animals are not
//! among them.

mod animals;
mod canvas;
mod face;
mod portrait;
mod things;

use std::ops::Range;
use std::path::Path;

use image::RgbImage;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::check::check;
use crate::files::write_whole;
use crate::{Error, Result, random};
use animals::Animal;
use canvas::{Canvas, any_colour, mix, near};

/// Largest side of a demo image in pixels. The drawings have no finer detail.
const MAX_SIDE: u32 = 4096;
/// File with the number of images per class that the last call drew into a folder.
const RECORD: &str = ".demo-images";

/// A kind of object that can be drawn.
#[derive(Clone, Copy)]
pub struct Subject {
    /// The name of the subject.
    pub name: &'static str,
    painter: Painter,
}

#[derive(Clone, Copy)]
enum Painter {
    Animal(Animal),
    Thing(fn(&mut Canvas, &mut ChaCha8Rng)),
}

const fn animal(name: &'static str, traits: Animal) -> Subject {
    Subject { name, painter: Painter::Animal(traits) }
}

const fn thing(name: &'static str, paint: fn(&mut Canvas, &mut ChaCha8Rng)) -> Subject {
    Subject { name, painter: Painter::Thing(paint) }
}

/// The classes of the pretraining of the demo weights, in the order of their outputs.
pub const SOURCES: [Subject; 31] = [
    animal("rabbit", animals::rabbit),
    animal("bear", animals::bear),
    animal("panda", animals::panda),
    animal("koala", animals::koala),
    animal("mouse", animals::mouse),
    animal("squirrel", animals::squirrel),
    animal("pig", animals::pig),
    animal("cow", animals::cow),
    animal("sheep", animals::sheep),
    animal("goat", animals::goat),
    animal("deer", animals::deer),
    animal("horse", animals::horse),
    animal("kangaroo", animals::kangaroo),
    animal("monkey", animals::monkey),
    animal("elephant", animals::elephant),
    animal("owl", animals::owl),
    animal("bird", animals::bird),
    animal("hedgehog", animals::hedgehog),
    thing("car", things::car),
    thing("boat", things::boat),
    thing("house", things::house),
    thing("tree", things::tree),
    thing("flower", things::flower),
    thing("cup", things::cup),
    thing("fish", things::fish),
    thing("butterfly", things::butterfly),
    thing("star", things::star),
    thing("stripes", things::stripes),
    thing("checks", things::checks),
    thing("spiral", things::spiral),
    thing("dots", things::dots),
];

/// The classes of the tutorial, which the pretraining of the demo weights did not contain.
pub const CATS_AND_DOGS: [Subject; 2] = [animal("cats", animals::cat), animal("dogs", animals::dog)];

impl Subject {
    /// Draws an image of `side` by `side` pixels.
    pub fn draw(&self, side: u32, random: &mut ChaCha8Rng) -> RgbImage {
        let mut canvas = Canvas::new(side);
        let ground = any_colour(random);
        canvas.background(ground, near(ground, 0.25, random), random);
        for _ in 0..random.random_range(0..6) {
            clutter(&mut canvas, mix(any_colour(random), ground, 0.35), random);
        }
        let size = random.random_range(0.45..0.72);
        let stretch = random.random_range(0.9..1.1);
        let at = (random.random_range(-0.2..0.2), random.random_range(-0.12..0.25));
        let mirror = if random.random_bool(0.5) { -1.0 } else { 1.0 };
        let turn = random.random_range(-22.0..22.0);
        canvas.posed(at, turn, (mirror * size * stretch, size / stretch), |canvas| match self.painter {
            Painter::Animal(traits) => traits(random).paint(canvas, random),
            Painter::Thing(paint) => paint(canvas, random),
        });
        if random.random_bool(0.25) {
            let edge = (one_side(random) * random.random_range(0.7..1.0), random.random_range(-0.9..0.9));
            let cover = any_colour(random);
            canvas.posed(edge, 0.0, (0.6, 0.6), |canvas| clutter(canvas, cover, random));
        }
        canvas.light(random);
        canvas.finish(random.random_range(2.0..22.0), random)
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn one_side(random: &mut ChaCha8Rng) -> f32 {
    if random.random_bool(0.5) { -1.0 } else { 1.0 }
}

/// Draws a random shape as a distraction.
fn clutter(canvas: &mut Canvas, colour: canvas::Colour, random: &mut ChaCha8Rng) {
    let mut place = || (random.random_range(-1.0..1.0), random.random_range(-1.0..1.0f32));
    let (a, b, c) = (place(), place(), place());
    let size = (random.random_range(0.08..0.4), random.random_range(0.08..0.4));
    match random.random_range(0..4) {
        0 => canvas.ellipse(a, size, random.random_range(0.0..180.0), colour),
        1 => canvas.polygon(&[a, (a.0 + size.0, a.1 + b.1 * 0.4), (a.0 + c.0 * 0.4, a.1 + size.1)], colour),
        2 => canvas.line(&[a, b, c], random.random_range(0.03..0.12), colour),
        _ => canvas
            .polygon(&[a, (a.0 + size.0, a.1), (a.0 + size.0, a.1 + size.1), (a.0, a.1 + size.1)], colour),
    }
}

/// Draws `per_class` images each of `cats` and `dogs`, `side` by `side` pixels, as PNG files into two
/// folders in `path`. The same seed gives the same images. If an earlier call drew more of them, the others are removed.
///
/// # Errors
/// [`Error::Argument`] if `per_class` is 0, or `side` is not from 1 to 4096; [`Error::Io`] if a folder or file
/// cannot be written.
pub fn draw_demo_images(path: impl AsRef<Path>, per_class: usize, side: u32, seed: u64) -> Result<()> {
    draw_into(path.as_ref(), per_class, side, seed)
}

fn draw_into(path: &Path, per_class: usize, side: u32, seed: u64) -> Result<()> {
    check("per_class", per_class, per_class > 0, "at least 1")?;
    let expected = format!("from 1 to {MAX_SIDE} pixels");
    check("side", side, (1..=MAX_SIDE).contains(&side), &expected)?;
    let mut random = random::seeded(seed);
    let record = path.join(RECORD);
    let earlier = std::fs::read_to_string(&record).ok().and_then(|text| text.trim().parse().ok());
    let earlier: usize = earlier.unwrap_or_default();
    std::fs::create_dir_all(path).map_err(Error::io(path))?;
    // If the drawing is interrupted, the next call still knows all images.
    write_whole(&record, per_class.max(earlier).to_string().as_bytes())?;
    for subject in CATS_AND_DOGS {
        let folder = path.join(subject.name);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        for number in 0..per_class {
            let image = subject.draw(side, &mut random);
            let mut file = std::io::Cursor::new(Vec::new());
            image.write_to(&mut file, image::ImageFormat::Png).expect("an image in memory is written");
            write_whole(&folder.join(name_of(number)), &file.into_inner())?;
        }
        remove_drawings(&folder, per_class..earlier)?;
    }
    write_whole(&record, per_class.to_string().as_bytes())
}

fn name_of(number: usize) -> String {
    format!("{number:03}.png")
}

/// Removes the drawings with these numbers from the folder of a class.
fn remove_drawings(folder: &Path, numbers: Range<usize>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_suffix(".png").and_then(|digits| digits.parse::<usize>().ok());
        if number.is_some_and(|number| numbers.contains(&number) && name == name_of(number)) {
            std::fs::remove_file(entry.path()).map_err(Error::io(entry.path()))?;
        }
    }
    Ok(())
}
