//! The colours and font sizes of all charts. The colours are distinguishable for colour-blind readers
//! (Okabe and Ito 2008).
//!
//! Charts have no background, so everything on the page itself has a contrast of at least 3 on white and
//! on JupyterLab's dark `#111111`.

/// An sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rgb(pub(crate) u8, pub(crate) u8, pub(crate) u8);

impl std::fmt::Display for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rgb(r, g, b) = self;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

/// Colour of training values.
pub(crate) const BLUE: Rgb = Rgb(20, 122, 190);
/// Colour of validation values and highlights.
pub(crate) const VERMILION: Rgb = Rgb(213, 94, 0);
/// Text and lines on the background: a contrast of 4.3 on white and on `#111111`.
pub(crate) const INK: Rgb = Rgb(121, 121, 121);
/// Text inside light boxes.
pub(crate) const DARK_INK: Rgb = Rgb(34, 34, 34);
/// Edges of boxes without a particular state.
pub(crate) const NEUTRAL: Rgb = Rgb(130, 130, 130);
/// Colours of classes and compared items, in order.
pub(crate) const PALETTE: [Rgb; 7] = [
    BLUE,
    VERMILION,
    Rgb(0, 148, 108),
    Rgb(204, 101, 157),
    Rgb(184, 124, 0),
    Rgb(66, 150, 203),
    Rgb(110, 110, 110),
];
/// Font size of all text except titles, in pixels.
pub(crate) const TEXT: i32 = 13;
/// Font size of titles, in pixels.
pub(crate) const TITLE: i32 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(Rgb(r, g, b): Rgb) -> f64 {
        let linear = |value: u8| match f64::from(value) / 255.0 {
            low if low <= 0.04045 => low / 12.92,
            high => ((high + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    /// WCAG 2.2, success criterion 1.4.11: graphical objects need a contrast of 3.
    #[test]
    fn colours_have_contrast_on_light_and_dark_pages() {
        let contrast = |a: f64, b: f64| (a.max(b) + 0.05) / (a.min(b) + 0.05);
        for colour in PALETTE.into_iter().chain([INK, NEUTRAL]) {
            for page in [Rgb(255, 255, 255), Rgb(17, 17, 17)] {
                let found = contrast(luminance(colour), luminance(page));
                assert!(found >= 3.0, "{colour} on {page}: {found:.2}");
            }
        }
        for page in [Rgb(255, 255, 255), Rgb(17, 17, 17)] {
            assert!(contrast(luminance(INK), luminance(page)) >= 4.2);
        }
    }
}
