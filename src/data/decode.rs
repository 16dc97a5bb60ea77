//! Decoding of image files to resized RGB values.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage, Rgba};
use rayon::prelude::*;

use crate::nn::{Interpolation, Resizing, crop_start};
use crate::{Error, Result};

/// Number of images decoded between two checks for an interrupt.
pub(super) const CHUNK: usize = 64;

/// How an image file is decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decoding {
    /// Height and width after resizing.
    pub(crate) size: (usize, usize),
    /// Whether the image is rotated and mirrored according to its EXIF orientation.
    pub(crate) exif_orientation: bool,
    /// How the image is resized and cropped. `None`: it is resized bilinearly, and its aspect ratio is lost.
    pub(crate) resizing: Option<Resizing>,
}

/// Largest side of a resized image before it is cropped (65,536 pixels).
const MAX_RESIZED: usize = 1 << 16;

impl Decoding {
    /// Decoding to `(height, width)`, with EXIF orientation applied.
    pub(crate) fn new(size: (usize, usize)) -> Decoding {
        Decoding { size, exif_orientation: true, resizing: None }
    }

    /// Decodes an image to `[3, height, width]`, red, green and blue from 0 to 255.
    pub(crate) fn decode(self, path: &Path) -> Result<Vec<f32>> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let refuse = |reason: String| Error::Image { path: path.to_owned(), reason };
        let image = read(&bytes, self.exif_orientation).map_err(refuse)?;
        let (height, width) = self.size;
        let (across, down) = image.dimensions();
        let whole = Image::from_vec_u8(across, down, image.into_raw(), PixelType::U8x3)
            .map_err(|error| refuse(error.to_string()))?;
        let (down, across) = (down as usize, across as usize);
        let [rows, columns] = self
            .resizing
            .map_or([height, width], |resizing| resizing.resized([down, across], [height, width]));
        if rows.max(columns) > MAX_RESIZED {
            return Err(refuse(format!("its sides, {across} by {down} pixels, are too different")));
        }
        let mut scaled = Image::new(columns as u32, rows as u32, PixelType::U8x3);
        let filter = match self.resizing.map(|resizing| resizing.interpolation).unwrap_or_default() {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        let mut resizer = Resizer::new();
        let mut resize = |from: &Image, to: &mut Image| {
            let failed =
                |error| refuse(format!("it cannot be scaled to {height} by {width} pixels: {error}"));
            resizer.resize(from, to, &options).map_err(failed)
        };
        if self.resizing.is_some() {
            // Horizontally first, as in Pillow: both passes clamp bicubic values to 0 and 255.
            let mut narrow = Image::new(columns as u32, down as u32, PixelType::U8x3);
            resize(&whole, &mut narrow)?;
            resize(&narrow, &mut scaled)?;
        } else {
            resize(&whole, &mut scaled)?;
        }
        let mut values = vec![0f32; 3 * height * width];
        let (top, left) = (crop_start(rows, height), crop_start(columns, width));
        for (channel, map) in values.chunks_exact_mut(height * width).enumerate() {
            let lines = scaled.buffer().chunks_exact(3 * columns).skip(top);
            for (row, line) in map.chunks_exact_mut(width).zip(lines) {
                let pixels = line.chunks_exact(3).skip(left);
                row.iter_mut().zip(pixels).for_each(|(value, pixel)| *value = f32::from(pixel[channel]));
            }
        }
        Ok(values)
    }
}

/// Decodes the content of a file. The format is detected from the content, not from the file's name.
fn read(bytes: &[u8], exif_orientation: bool) -> Result<RgbImage, String> {
    let refuse = |found: &str| format!("expected a JPEG, PNG, WebP, BMP, GIF or TIFF file, found {found}");
    if let Some(found) = not_an_image(bytes) {
        return Err(refuse(found));
    }
    let format = image::guess_format(bytes).map_err(|_| refuse("content of an unknown kind"))?;
    if !format.reading_enabled() {
        return Err(refuse(&format!("{format:?}")));
    }
    match format {
        ImageFormat::Jpeg => check_jpeg_end(bytes)?,
        ImageFormat::WebP => check_riff_length(bytes)?,
        _ => {}
    }
    let decode = || -> image::ImageResult<DynamicImage> {
        let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
        // A file with a false size in its header must not fill the memory.
        Limits::default().reserve(decoder.total_bytes())?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        if exif_orientation {
            image.apply_orientation(orientation);
        }
        Ok(image)
    };
    Ok(on_white(decode().map_err(|error| error.to_string())?))
}

/// Describes content that is often found in place of an image.
fn not_an_image(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(4..12).unwrap_or_default();
    let start = bytes.trim_ascii_start();
    match bytes {
        [] => Some("an empty file"),
        _ if bytes.iter().all(|byte| *byte == 0) => Some("only zeros"),
        _ if brand.starts_with(b"ftypavi") => Some("AVIF; convert it to JPEG or PNG"),
        _ if [&b"ftyphei"[..], b"ftyphev", b"ftypmif"].iter().any(|heif| brand.starts_with(heif)) => {
            Some("HEIC, as iPhones write it; convert it to JPEG or PNG")
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            Some("a Git LFS pointer; fetch the file with `git lfs pull`")
        }
        _ if [&b"<!DOCTYPE"[..], b"<!doctype", b"<html", b"<HTML"]
            .iter()
            .any(|tag| start.starts_with(tag)) =>
        {
            Some("a web page; download the image itself")
        }
        _ if start.starts_with(b"<svg") || start.starts_with(b"<?xml") => {
            Some("SVG or another XML text; convert it to PNG")
        }
        _ => None,
    }
}

/// Returns an error for a JPEG without an end marker after its last scan. Such a file is truncated, and
/// the decoder would fill the rest with grey. Pillow refuses these files too.
fn check_jpeg_end(bytes: &[u8]) -> Result<(), String> {
    const END: u8 = 0xD9;
    let mut at = 2;
    while let Some(next) = bytes.get(at..).and_then(next_marker) {
        at += next;
        match bytes[at + 1] {
            END => return Ok(()),
            // SOI and TEM markers have no length field.
            0xD8 | 0x01 => at += 2,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else { break };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
    Err(format!("the JPEG is cut off: it has no end marker within its {} bytes", bytes.len()))
}

/// Returns the position of the next marker: 0xFF followed by a byte that is not a stuffed zero, a
/// restart marker or a fill byte.
fn next_marker(bytes: &[u8]) -> Option<usize> {
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
    bytes.windows(2).position(is_marker)
}

/// Returns an error for a WebP file that is shorter than its header states.
fn check_riff_length(bytes: &[u8]) -> Result<(), String> {
    let length = bytes.get(4..8).map_or(0, |four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let expected = u64::from(length) + 8;
    match expected > bytes.len() as u64 {
        true => Err(format!("the WebP is cut off: expected {expected} bytes, found {}", bytes.len())),
        false => Ok(()),
    }
}

pub(super) fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let Rgba([red, green, blue, opacity]) = *image.get_pixel(x, y);
        let opacity = f32::from(opacity) / 255.0;
        let mixed = |value: u8| (f32::from(value) * opacity + 255.0 * (1.0 - opacity)).round() as u8;
        Rgb([red, green, blue].map(mixed))
    })
}

/// Decodes images to `[3, height, width]`, in parallel.
pub(super) fn decode_all(paths: &[PathBuf], decoding: Decoding) -> Result<Vec<Vec<f32>>> {
    paths.par_iter().map(|path| decoding.decode(path)).collect()
}
