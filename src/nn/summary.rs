//! Summary table of a model.

use std::collections::HashMap;
use std::fmt;

use super::{Model, Param};
use crate::display::{Bundle, Show, escape};

/// Result of [`Model::summary`], shown as a table in the notebook and the terminal.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The model's name.
    pub model: String,
    /// One row per layer; a nested model is one row.
    pub rows: Vec<Row>,
    /// Number of weights and moving statistics: Keras's "Total params".
    pub total: usize,
    /// Number of weights without statistics, as PyTorch and papers count parameters.
    pub weights: usize,
    /// Number of trainable weights.
    pub trainable: usize,
    /// Number of moving means and variances of batch normalisation, which have no gradient.
    pub statistics: usize,
    /// Number of batch normalisation layers with trainable weights that stay in inference mode because they were
    /// frozen before: see [`Model::unfreeze_statistics`].
    pub frozen_statistics: usize,
}

/// One layer of a [`Summary`].
#[derive(Clone, Debug)]
pub struct Row {
    /// Index in Keras's `model.layers`, as `unfreeze_from` and `freeze_until` take it. A layer that Keras's network does
    /// not have has the index of the one before it.
    pub number: usize,
    /// The layer's name.
    pub name: String,
    /// Type of the layer.
    pub kind: &'static str,
    /// Output shape, without the batch dimension.
    pub output_shape: Vec<usize>,
    /// Number of weights.
    pub weights: usize,
    /// Number of moving statistics.
    pub statistics: usize,
    /// Number of trainable weights.
    pub trainable: usize,
}

impl Row {
    /// `trainable`, `frozen`, `partly`, or empty for a layer without weights.
    pub fn state(&self) -> &'static str {
        match (self.weights, self.trainable) {
            (0, _) => "",
            (_, 0) => "frozen",
            (weights, trainable) if weights == trainable => "trainable",
            _ => "partly",
        }
    }

    pub(crate) fn cells(&self) -> [String; 5] {
        let sizes: String = self.output_shape.iter().map(|n| format!(", {n}")).collect();
        [
            self.number.to_string(),
            format!("{} ({})", self.name, self.kind),
            format!("(None{sizes})"),
            thousands(self.weights + self.statistics),
            self.state().to_owned(),
        ]
    }
}

impl Summary {
    /// Column headers.
    pub(crate) const HEADS: [&'static str; 5] = ["#", "Layer (type)", "Output Shape", "Param #", "State"];

    /// The rows by index, as Keras prints them.
    pub(crate) fn in_order(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.number);
        rows
    }

    /// The lines below the table.
    pub(crate) fn totals(&self) -> Vec<String> {
        let mut lines = vec![
            format!("Total params: {}", thousands(self.total)),
            format!("Trainable params: {}", thousands(self.trainable)),
            format!("Non-trainable params: {}", thousands(self.total - self.trainable)),
        ];
        if self.statistics > 0 {
            lines.push(format!("Of these, moving statistics: {}", thousands(self.statistics)));
        }
        if self.frozen_statistics > 0 {
            let plural = if self.frozen_statistics == 1 { "layer keeps" } else { "layers keep" };
            lines.push(format!(
                "Batch normalisation: {} trainable {plural} using moving statistics (`unfreeze_statistics`)",
                self.frozen_statistics
            ));
        }
        lines
    }
}

impl Model {
    /// Returns a table of layers, output shapes, parameter counts, and which parameters are trainable.
    pub fn summary(&self) -> Summary {
        let numbers: HashMap<usize, usize> =
            self.numbered_layers().into_iter().map(|(number, index)| (index, number)).collect();
        // A single input is not shown; of several inputs, each is.
        let first = usize::from(self.input_nodes().len() == 1);
        let rows: Vec<Row> = (first..self.nodes().len())
            .map(|index| {
                let node = &self.nodes()[index];
                let params = node.layer.params();
                Row {
                    number: numbers.get(&index).copied().unwrap_or_default(),
                    name: node.name.clone(),
                    kind: node.layer.kind(),
                    output_shape: node.layer.output_shape().to_vec(),
                    weights: count(&params, |param| !param.is_statistic()),
                    statistics: count(&params, Param::is_statistic),
                    trainable: count(&params, Param::is_trainable),
                }
            })
            .collect();
        // A layer that occurs several times counts once.
        let params = self.params();
        Summary {
            model: self.name().to_owned(),
            total: count(&params, |_| true),
            weights: count(&params, |param| !param.is_statistic()),
            trainable: count(&params, Param::is_trainable),
            statistics: count(&params, Param::is_statistic),
            frozen_statistics: self
                .layers()
                .iter()
                .filter(|(_, layer)| keeps_statistics(&layer.params()))
                .count(),
            rows,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<[String; 5]> = self.in_order().into_iter().map(Row::cells).collect();
        let width = |column: usize| {
            let longest = cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
            longest.max(Self::HEADS[column].len())
        };
        let [n, a, b, c, d] = [width(0), width(1), width(2), width(3), width(4)];
        let line = "─".repeat(n + a + b + c + d + 8);
        writeln!(f, "Model: \"{}\"\n{line}", self.model)?;
        let [number, name, shape, weights, state] = Self::HEADS;
        writeln!(f, "{number:>n$}  {name:a$}  {shape:b$}  {weights:>c$}  {state}\n{line}")?;
        for [number, name, shape, weights, state] in &cells {
            let row = format!("{number:>n$}  {name:a$}  {shape:b$}  {weights:>c$}  {state}");
            writeln!(f, "{}", row.trim_end())?;
        }
        write!(f, "{line}\n{}", self.totals().join("\n"))
    }
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
        vec![("text/plain".into(), self.to_string()), ("text/html".into(), html)]
    }
}

impl Show for Model {
    fn bundle(&self) -> Bundle {
        self.summary().bundle()
    }
}

/// Whether a layer has trainable weights and statistics in inference mode.
pub(crate) fn keeps_statistics(params: &[Param]) -> bool {
    params.iter().any(Param::is_trainable) && params.iter().any(Param::is_in_inference_mode)
}

fn count(params: &[Param], which: impl Fn(&Param) -> bool) -> usize {
    params.iter().filter(|param| which(param)).map(Param::count).sum()
}

/// Formats `14714688` as `14,714,688`.
pub(crate) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
    groups.join(",")
}
