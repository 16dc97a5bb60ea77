//! One look for all charts: colours that the colour-blind can tell apart (Okabe and Ito 2008),
//! on white, so that they are legible on a dark page too.

use plotters::style::RGBColor;

/// Training.
pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
/// Validation, and what is pointed at.
pub(super) const VERMILION: RGBColor = RGBColor(213, 94, 0);
/// Classes and things compared, in order.
pub(super) const PALETTE: [RGBColor; 7] = [
    BLUE,
    VERMILION,
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
/// Of a chart's title.
pub(super) const CAPTION: (&str, u32) = ("sans-serif", 16);
/// Of what is written into a chart.
pub(super) const LABEL: (&str, u32) = ("sans-serif", 14);
/// How strong the lines behind the data are.
pub(super) const MESH: f64 = 0.12;
