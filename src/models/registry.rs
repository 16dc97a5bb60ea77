//! The table of all networks, from `weights/models.toml`.

use std::ops::Index;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::display::{Bundle, Show, escape};
use crate::{Error, Result};

const TABLE: &str = include_str!("../../weights/models.toml");

/// A network that [`Network::named`](super::Network::named) builds, and its default weights.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Name, as in timm: `convnext_tiny`.
    pub name: String,
    /// Name in Keras, if it has the network: `ConvNeXtTiny`.
    pub keras: Option<String>,
    /// Number of weights, with the top of 1000 classes; without a top if the default weights have none.
    pub parameters: usize,
    /// Default height and width of the images.
    pub side: usize,
    /// Repository of the default weights on the Hugging Face Hub.
    pub repository: String,
    /// Mean of the pixels, from 0 to 1, per RGB channel, which preprocessing subtracts.
    pub mean: [f32; 3],
    /// Standard deviation of the pixels, by which preprocessing divides.
    pub deviation: [f32; 3],
    /// Interpolation with which the images of the training were resized.
    pub interpolation: String,
    /// Fraction of a resized image's side that is kept by cropping.
    pub crop: f32,
    /// Licence of the default weights.
    pub licence: String,
    /// Published top-1 accuracy on ImageNet's validation images, in percent. DINOv2's weights have no top: theirs is that
    /// of a linear classifier on the frozen features. `None`: not published.
    pub top1: Option<f32>,
    /// Height and width of the images for that accuracy.
    pub top1_side: Option<usize>,
}

/// The table of all networks: rows by name or number.
#[derive(Clone, Copy, Debug)]
pub struct Models(&'static [ModelInfo]);

#[derive(Deserialize)]
struct File {
    models: Vec<ModelInfo>,
}

/// All networks that [`Network::named`](super::Network::named) builds, with their default weights.
///
/// ```
/// use headstart::models::models;
/// assert_eq!(models()["resnet50"].parameters, 25_557_032);
/// let small = models().iter().filter(|model| model.parameters < 6_000_000);
/// println!("{}", small.map(|model| model.name.as_str()).collect::<Vec<_>>().join(", "));
/// ```
pub fn models() -> Models {
    static ALL: OnceLock<Vec<ModelInfo>> = OnceLock::new();
    Models(ALL.get_or_init(|| toml::from_str::<File>(TABLE).expect("tests read the table").models))
}

impl Models {
    /// The networks, by family.
    pub fn iter(&self) -> std::slice::Iter<'static, ModelInfo> {
        self.0.iter()
    }

    /// The network with this name, of timm or of Keras.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none.
    pub fn get(&self, name: &str) -> Result<&'static ModelInfo> {
        let is_it = |model: &&ModelInfo| model.name == name || model.keras.as_deref() == Some(name);
        self.0.iter().find(is_it).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|model| model.name.as_str()).collect();
            let expected = format!("one of {}", names.join(", "));
            Error::Argument { name: "network", expected, found: name.to_owned() }
        })
    }

    fn rows(&self) -> Vec<[String; 6]> {
        let row = |model: &ModelInfo| {
            [
                model.name.clone(),
                format!("{:.1}", model.parameters as f64 / 1e6),
                model.side.to_string(),
                model.top1.map_or_else(|| "–".into(), |top1| format!("{top1:.1}")),
                model.licence.clone(),
                model.repository.clone(),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

const HEADINGS: [&str; 6] = ["network", "million weights", "image side", "top-1 (%)", "licence", "weights"];

impl std::fmt::Display for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.rows();
        let heading = HEADINGS.map(String::from);
        let lines: Vec<&[String; 6]> = std::iter::once(&heading).chain(&rows).collect();
        let widths: [usize; 6] =
            std::array::from_fn(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0));
        for line in lines {
            let cells: Vec<String> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

impl Show for Models {
    fn bundle(&self) -> Bundle {
        let cells = |cells: &[String], tag: &str| -> String {
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
        };
        let rows: String = self.rows().iter().map(|row| format!("<tr>{}</tr>", cells(row, "td"))).collect();
        let heading = cells(&HEADINGS.map(String::from), "th");
        let html = format!("<table><thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table>");
        vec![("text/html".into(), html), ("text/plain".into(), self.to_string())]
    }
}

impl Index<&str> for Models {
    type Output = ModelInfo;

    /// # Panics
    /// If there is no network with this name; [`Models::get`] returns an error instead.
    fn index(&self, name: &str) -> &ModelInfo {
        self.get(name).unwrap_or_else(|error| panic!("{error}"))
    }
}
