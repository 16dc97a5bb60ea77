//! A grid of images with captions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use candle_core::{DType, Tensor};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ImageFormat, RgbImage};

use super::{Bundle, Show, escape};
use crate::{Error, Result};

/// Side of an image as displayed, in pixels.
const SIDE: usize = 144;
/// Height of a one-line caption, in pixels.
const CAPTION: usize = 26;
/// Height of each further line of a caption, in pixels.
const LINE: usize = 16;
/// Space between images, in pixels.
const GAP: usize = 12;
/// Text colour that is readable on light and dark pages.
const TEXT_COLOUR: &str = "#797979";
/// Colour of the frame and caption of a marked image.
const MARK_COLOUR: &str = "#d55e00";
/// Number of images that fit into the width of a notebook.
const IMAGES_PER_ROW: usize = 5;

/// A grid of images, five per row, with a caption under each.
///
/// ```
/// use headstart::prelude::*;
/// let x = random_uniform((2, 3, 32, 32), 0.0, 255.0)?;
/// display(&ImageGrid::new(&x, &["cat 0.97", "dog 0.61"])?);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone)]
pub struct ImageGrid {
    svg: String,
    text: String,
}

impl ImageGrid {
    /// Creates a grid of images `[N, 3, height, width]`, red, green and blue from 0 to 255.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another shape; [`Error::Argument`] if there is not one caption per
    /// image, or a pixel is not finite.
    pub fn new(x: &Tensor, captions: &[impl AsRef<str>]) -> Result<ImageGrid> {
        ImageGrid::of(x, &captions.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &[])
    }

    /// Like [`ImageGrid::new`], with a red frame around the images whose `marks` are true.
    pub(crate) fn marked(x: &Tensor, captions: &[String], marks: &[bool]) -> Result<ImageGrid> {
        ImageGrid::of(x, &captions.iter().map(AsRef::as_ref).collect::<Vec<_>>(), marks)
    }

    fn of(x: &Tensor, captions: &[&str], marks: &[bool]) -> Result<ImageGrid> {
        let &[n, 3, height, width] = x.dims() else {
            return Err(Error::shape("images", "[N, 3, height, width]", x.dims(), ""));
        };
        if captions.len() != n {
            let (expected, found) = (format!("{n}, one for each image"), captions.len().to_string());
            return Err(Error::Argument { name: "captions", expected, found });
        }
        let rows = n.div_ceil(IMAGES_PER_ROW).max(1);
        let lines = captions.iter().map(|caption| caption.lines().count()).max().unwrap_or(1).max(1);
        // Wide images need less height.
        let side = if width > height { (SIDE * height / width).max(SIDE / 4) } else { SIDE };
        let row_height = side + CAPTION + GAP + (lines - 1) * LINE;
        let (sheet_width, sheet_height) = (IMAGES_PER_ROW.min(n).max(1) * (SIDE + GAP), rows * row_height);
        let text =
            captions.iter().enumerate().map(|(at, caption)| format!("{at}: {}", caption.replace('\n', ", ")));
        let text = text.collect::<Vec<_>>().join("\n");
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{sheet_width}\" height=\"{sheet_height}\" \
             viewBox=\"0 0 {sheet_width} {sheet_height}\" style=\"max-width:100%;height:auto\" \
             font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\" font-size=\"13\" \
             role=\"img\"><title>{}</title>",
            escape(&text)
        );
        // Channels last: NHWC.
        let pixels = x.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?;
        for (number, caption) in captions.iter().enumerate() {
            let (left, top) =
                (number % IMAGES_PER_ROW * (SIDE + GAP) + GAP / 2, number / IMAGES_PER_ROW * row_height);
            let values = pixels.get(number)?.flatten_all()?.to_vec1::<f32>()?;
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let found = format!("{value} in image {number}");
                return Err(Error::Argument { name: "images", expected: "finite pixels".into(), found });
            }
            let (kind, file) = encoded(values, height, width)?;
            svg += &format!(
                "<image x=\"{left}\" y=\"{}\" width=\"{SIDE}\" height=\"{side}\" href=\"data:image/{kind};base64,{}\"/>",
                top + GAP / 2,
                STANDARD.encode(file),
            );
            let is_marked = marks.get(number).copied().unwrap_or(false);
            if is_marked {
                svg += &format!(
                    "<rect x=\"{left}\" y=\"{}\" width=\"{SIDE}\" height=\"{side}\" fill=\"none\" \
                     stroke=\"{MARK_COLOUR}\" stroke-width=\"4\"/>",
                    top + GAP / 2
                );
            }
            let ink = if is_marked { MARK_COLOUR } else { TEXT_COLOUR };
            for (line, text) in caption.lines().enumerate() {
                svg += &format!(
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{ink}\">{}</text>",
                    left + SIDE / 2,
                    top + GAP / 2 + side + 17 + line * LINE,
                    escape(text)
                );
            }
        }
        Ok(ImageGrid { svg: svg + "</svg>", text })
    }
}

impl ImageGrid {
    /// Creates a grid of feature maps `[C, height, width]`. Each is scaled to its own range, from black
    /// for its smallest value to white for its largest.
    ///
    /// # Errors
    /// [`Error::Shape`] if `maps` has another shape.
    pub fn of_maps(maps: &Tensor) -> Result<ImageGrid> {
        let &[count, height, width] = maps.dims() else {
            return Err(Error::shape("feature maps", "[C, height, width]", maps.dims(), ""));
        };
        let rows = maps.flatten_from(1)?.to_dtype(DType::F32)?;
        let (min, max) = (rows.min_keepdim(1)?, rows.max_keepdim(1)?);
        let grey = rows.broadcast_sub(&min)?.broadcast_div(&((max - min)? + 1e-12)?)?;
        let grey = (grey * 255.0)?.reshape((count, 1, height, width))?;
        let captions: Vec<String> = (0..count).map(|map| format!("map {map}")).collect();
        ImageGrid::new(&grey.broadcast_as((count, 3, height, width))?, &captions)
    }
}

impl Show for ImageGrid {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.text.clone()), ("image/svg+xml".into(), self.svg.clone())]
    }
}

/// Encodes images `[N, 3, height, width]` from 0 to 255 as data URLs.
///
/// # Errors
/// [`Error::Shape`] if `x` has another shape.
pub(crate) fn thumbnails(x: &Tensor) -> Result<Vec<String>> {
    let url = |(kind, file)| format!("data:image/{kind};base64,{}", STANDARD.encode::<Vec<u8>>(file));
    Ok(encoded_images(x)?.into_iter().map(url).collect())
}

/// Encodes images `[N, 3, height, width]` from 0 to 255 as files, each with its type: `png` or `jpeg`.
///
/// # Errors
/// [`Error::Shape`] if `x` has another shape.
pub(crate) fn encoded_images(x: &Tensor) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let &[n, 3, height, width] = x.dims() else {
        return Err(Error::shape("images", "[N, 3, height, width]", x.dims(), ""));
    };
    let pixels = x.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?;
    (0..n)
        .map(|number| encoded(pixels.get(number)?.flatten_all()?.to_vec1::<f32>()?, height, width))
        .collect()
}

/// Encodes an image at no more than its display size, and returns it with its type. The format is PNG,
/// or JPEG if that takes less than half the space: photographs as PNG add megabytes to a notebook.
fn encoded(values: Vec<f32>, height: usize, width: usize) -> Result<(&'static str, Vec<u8>)> {
    // JPEG's quality, of 100: no visible artefacts at this size.
    const QUALITY: u8 = 92;
    let bytes = values.into_iter().map(|value| value.clamp(0.0, 255.0).round() as u8).collect();
    let image = RgbImage::from_raw(width as u32, height as u32, bytes).expect("three bytes for each pixel");
    let image = match height.max(width) > SIDE {
        // Twice the display size, for screens with high pixel density.
        true => image::DynamicImage::from(image)
            .resize(2 * SIDE as u32, 2 * SIDE as u32, FilterType::Triangle)
            .to_rgb8(),
        false => image,
    };
    let refuse = |error: image::ImageError| Error::Chart(error.to_string());
    let (mut png, mut jpeg) = (std::io::Cursor::new(Vec::new()), Vec::new());
    image.write_to(&mut png, ImageFormat::Png).map_err(refuse)?;
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY)).map_err(refuse)?;
    let png = png.into_inner();
    Ok(if 2 * jpeg.len() < png.len() { ("jpeg", jpeg) } else { ("png", png) })
}

super::debug_as_text!(ImageGrid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_its_escaped_caption() -> Result<()> {
        let x = crate::random_uniform((7, 3, 8, 6), -10.0, 300.0)?;
        let captions: Vec<String> = (0..7).map(|n| format!("<b>{n}</b>")).collect();
        let bundle = ImageGrid::new(&x, &captions)?.bundle();
        assert_eq!(bundle[1].1.matches("data:image/png;base64,iVBOR").count(), 7);
        assert!(bundle[1].1.contains("&lt;b&gt;6&lt;/b&gt;") && !bundle[1].1.contains("<b>"));
        assert!(bundle[0].1.contains("6: <b>6</b>"));
        Ok(())
    }

    #[test]
    fn feature_maps_are_scaled_separately() -> Result<()> {
        let maps = (crate::random_uniform((3, 4, 5), 0.0, 1.0)? * 1e-3)?;
        assert_eq!(ImageGrid::of_maps(&maps)?.bundle()[1].1.matches("<image").count(), 3);
        assert!(ImageGrid::of_maps(&maps.get(0)?).is_err());
        Ok(())
    }

    #[test]
    fn photographs_become_jpeg_and_drawings_png() -> Result<()> {
        let ramp: Vec<f32> = (0..128 * 128).map(|at| (at % 128) as f32 + (at * 37 % 11) as f32).collect();
        let soft =
            Tensor::from_vec(ramp, (1, 1, 128, 128), &crate::device())?.broadcast_as((1, 3, 128, 128))?;
        let flat = (soft.zeros_like()? + 200.0)?;
        let svg = |x: &Tensor| Ok::<_, Error>(ImageGrid::new(x, &[""])?.bundle()[1].1.clone());
        assert!(svg(&soft)?.contains("data:image/jpeg;base64,/9j/"));
        assert!(svg(&flat)?.contains("data:image/png;base64,iVBOR"));
        Ok(())
    }

    #[test]
    fn number_of_captions_must_match_images() -> Result<()> {
        let x = crate::random_uniform((2, 3, 8, 8), 0.0, 255.0)?;
        let problem = ImageGrid::new(&x, &["one"]).unwrap_err().to_string();
        assert!(problem.contains("captions") && problem.contains('2') && problem.contains('1'), "{problem}");
        assert!(
            ImageGrid::new(&x.get(0)?, &["one"]).unwrap_err().to_string().contains("[N, 3, height, width]")
        );
        Ok(())
    }
}
