//! How the library's own values look on the page.

use super::{Bundle, Show, escape};
use crate::Result;
use crate::chart::Chart;
use crate::data::Images;
use crate::explain::{ClassificationReport, ConfusionMatrix, Embedding};
use crate::models::Decoded;
use crate::nn::{Model, Summary};
use crate::train::{History, LearningRateCurve, Predictions, Recovered, Scores};

fn with_html(text: String, html: String) -> Bundle {
    vec![("text/plain".into(), text), ("text/html".into(), html)]
}

impl Show for Summary {
    fn bundle(&self) -> Bundle {
        let cell = |tag: &str, text: &str, side: &str| {
            format!("<{tag} style=\"text-align:{side}\">{}</{tag}>", escape(text))
        };
        let row = |tag: &str, cells: &[&str]| {
            let cells = cells.iter().zip(["right", "left", "left", "right", "left"]);
            format!("<tr>{}</tr>", cells.map(|(text, side)| cell(tag, text, side)).collect::<String>())
        };
        let body: String = self
            .in_order()
            .into_iter()
            .map(|r| row("td", &r.cells().each_ref().map(|c| c.as_str())))
            .collect();
        let html = format!(
            "<p>Model: <b>{}</b></p><table>{}{body}</table><p>{}</p>",
            escape(&self.model),
            row("th", &Summary::HEADS),
            self.totals().join("<br>")
        );
        with_html(self.to_string(), html)
    }
}

impl Show for Model {
    fn bundle(&self) -> Bundle {
        self.summary().bundle()
    }
}

impl Show for Chart {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.text().into()), ("image/svg+xml".into(), self.svg().into())]
    }
}

fn of_chart(chart: Result<Chart>) -> Bundle {
    match chart {
        Ok(chart) => chart.bundle(),
        Err(error) => vec![("text/plain".into(), error.to_string())],
    }
}

impl Show for History {
    fn bundle(&self) -> Bundle {
        of_chart(self.plot())
    }
}

impl Show for LearningRateCurve {
    fn bundle(&self) -> Bundle {
        of_chart(self.plot())
    }
}

impl Show for Embedding {
    fn bundle(&self) -> Bundle {
        of_chart(self.plot())
    }
}

impl Show for ConfusionMatrix {
    fn bundle(&self) -> Bundle {
        self.plot().bundle()
    }
}

impl Show for ClassificationReport {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.to_string())]
    }
}

impl Show for Predictions {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.to_string())]
    }
}

impl Show for Scores {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.to_string())]
    }
}

impl Show for Decoded {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.to_string())]
    }
}

impl Show for Recovered {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.to_string())]
    }
}

/// A last expression that moves a variable is shown by evcxr as `Debug` has it, and `dbg!` in a cell too:
/// then the text, not the numbers behind the picture.
macro_rules! debug_as_text {
    ($($type:ty),*) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(super::plain(&self.bundle()))
            }
        })*
    };
}

debug_as_text!(Chart, Embedding, History, LearningRateCurve, super::Pictures);

impl Show for Images {
    fn bundle(&self) -> Bundle {
        let text = format!("{} pictures of {}", self.len(), self.class_names.join(", "));
        match self.sheet() {
            Ok(sheet) => sheet
                .bundle()
                .into_iter()
                .map(|(mime, content)| match mime.as_str() {
                    "text/plain" => (mime, text.clone()),
                    _ => (mime, content),
                })
                .collect(),
            Err(error) => vec![("text/plain".into(), format!("{text}; {error}"))],
        }
    }
}
