//! Resizing of images, as timm does it for evaluation.

use serde::{Deserialize, Serialize};

/// Interpolation with which images are resized, with antialiasing as in Pillow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// Linear in both directions.
    #[default]
    Bilinear,
    /// Cubic in both directions (Keys 1981, a = -0.5).
    Bicubic,
}

/// How images are resized and cropped for a network's weights: timm's `interpolation`, `crop_pct` and `crop_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resizing {
    pub(crate) interpolation: Interpolation,
    /// Fraction of the resized image's side that the crop retains, above 0 and at most 1.
    pub(crate) crop_pct: f64,
    /// Whether the aspect ratio is lost: crop mode `squash`. Otherwise the shorter side is resized and the centre
    /// cropped.
    pub(crate) squash: bool,
}

impl Resizing {
    /// The settings of timm's names. `None` if one of them is unknown.
    pub(crate) fn from_timm(interpolation: &str, crop_pct: f32, crop_mode: &str) -> Option<Resizing> {
        // The decimal as written: 0.6, not 0.60000002, which would give other sizes.
        let crop_pct: f64 = crop_pct.to_string().parse().ok()?;
        let interpolation = match interpolation {
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            _ => return None,
        };
        let squash = match crop_mode {
            "center" => false,
            "squash" => true,
            _ => return None,
        };
        let fits = crop_pct > 0.0 && crop_pct <= 1.0;
        fits.then_some(Resizing { interpolation, crop_pct, squash })
    }

    /// Height and width to which an image of the given height and width is resized, before its centre of `target` is
    /// cropped. Python's rounding, as in timm and torchvision.
    pub(crate) fn resized(&self, image: [usize; 2], target: [usize; 2]) -> [usize; 2] {
        let scaled = target.map(|side| (side as f64 / self.crop_pct).floor());
        if self.squash {
            return scaled.map(|side| side as usize);
        }
        let sides = image.map(|side| side as f64);
        if scaled[0] == scaled[1] {
            let short = sides[0].min(sides[1]);
            return sides
                .map(|side| if side == short { scaled[0] } else { scaled[0] * side / short } as usize);
        }
        let ratio = (sides[0] / scaled[0]).min(sides[1] / scaled[1]);
        sides.map(|side| (side / ratio).round_ties_even() as usize)
    }
}

/// First row or column of a centred crop: torchvision's `round((size - crop) / 2)`.
pub(crate) fn crop_start(size: usize, crop: usize) -> usize {
    (size.saturating_sub(crop) as f64 / 2.0).round_ties_even() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_match_timm() {
        let timm = |crop_pct| Resizing::from_timm("bicubic", crop_pct, "center").unwrap();
        // Height and width that torchvision computes.
        assert_eq!(timm(0.875).resized([480, 640], [224, 224]), [256, 341]);
        assert_eq!(timm(0.95).resized([101, 57], [96, 96]), [178, 101]);
        assert_eq!(timm(1.0).resized([50, 50], [64, 64]), [64, 64]);
        assert_eq!(timm(0.6).resized([96, 96], [96, 96]), [160, 160]);
        let squash = Resizing { squash: true, ..timm(0.9) };
        assert_eq!(squash.resized([480, 640], [224, 224]), [248, 248]);
        assert_eq!((crop_start(341, 224), crop_start(235, 224), crop_start(10, 20)), (58, 6, 0));
        assert_eq!(Resizing::from_timm("nearest", 0.9, "center"), None);
        assert_eq!(Resizing::from_timm("bilinear", f32::NAN, "center"), None);
        assert_eq!(Resizing::from_timm("bilinear", 0.9, "border"), None);
    }
}
