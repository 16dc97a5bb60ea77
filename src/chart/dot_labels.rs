//! Names beside dots, placed so that they overlap neither other names nor other dots.

use super::svg::{Anchor, LINE, Svg, widest};
use super::theme::Rgb;

/// Distance between the centre of a dot and its name, in pixels.
const GAP: f64 = 9.0;

/// A dot with its name.
pub(super) struct Dot {
    /// The centre, in pixels.
    pub(super) at: (f64, f64),
    pub(super) colour: Rgb,
    pub(super) name: String,
}

/// A rectangle in pixels: left, top, right, bottom.
type Area = [f64; 4];

fn overlap(a: &Area, b: &Area) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// The possible positions of a name: right of its dot, left, above, below.
fn positions((x, y): (f64, f64), width: f64) -> [(Anchor, Area); 4] {
    let height = f64::from(LINE);
    let middle = y - height / 2.0;
    [
        (Anchor::Start, [x + GAP, middle, x + GAP + width, middle + height]),
        (Anchor::End, [x - GAP - width, middle, x - GAP, middle + height]),
        (Anchor::Middle, [x - width / 2.0, y - GAP - height, x + width / 2.0, y - GAP]),
        (Anchor::Middle, [x - width / 2.0, y + GAP, x + width / 2.0, y + GAP + height]),
    ]
}

/// Writes the name of each dot at the first position that is free and inside `frame`. If there is none, the name is right
/// of the dot.
pub(super) fn write_beside(svg: &mut Svg, frame: Area, dots: &[Dot]) {
    let around = |dot: &Dot| [dot.at.0 - GAP, dot.at.1 - GAP, dot.at.0 + GAP, dot.at.1 + GAP].map(f64::round);
    // Each area with the number of its dot. A name has no number.
    let mut taken: Vec<(usize, Area)> = dots.iter().map(around).enumerate().collect();
    for (number, dot) in dots.iter().enumerate() {
        let width = widest([dot.name.as_str()], true);
        let positions = positions(dot.at, width);
        let is_free = |(_, area): &&(Anchor, Area)| {
            let inside =
                area[0] >= frame[0] && area[1] >= frame[1] && area[2] <= frame[2] && area[3] <= frame[3];
            inside && !taken.iter().any(|(owner, other)| *owner != number && overlap(area, other))
        };
        let &(anchor, area) = positions.iter().find(is_free).unwrap_or(&positions[0]);
        let x = match anchor {
            Anchor::Start => area[0],
            Anchor::Middle => (area[0] + area[2]) / 2.0,
            Anchor::End => area[2],
        };
        svg.coloured((x, area[3] - 4.0), anchor, dot.colour, &dot.name);
        taken.push((usize::MAX, area));
    }
}

#[cfg(test)]
mod tests {
    use super::super::theme::INK;
    use super::*;

    #[test]
    fn names_of_dots_stay_inside_and_apart() {
        let dot = |x: f64, y: f64, name: &str| Dot { at: (x, y), colour: INK, name: name.into() };
        let dots = [
            dot(100.0, 100.0, "first"),
            dot(130.0, 100.0, "second"),
            dot(495.0, 100.0, "at the right end"),
            dot(100.0, 104.0, "close"),
        ];
        let mut svg = Svg::new();
        write_beside(&mut svg, [60.0, 20.0, 500.0, 300.0], &dots);
        let text = svg.finish((1, 1), "");
        let anchors: Vec<&str> =
            text.split("text-anchor=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        // The second dot is right of the first; the last name does not fit right of the third dot.
        assert_eq!(anchors[1..3], ["start", "end"], "{text}");
        assert_ne!(anchors[0], "start", "{text}");
    }
}
