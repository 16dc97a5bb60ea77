//! An execution plan as a table.

use std::fmt;

use super::compile::compile;
use crate::Result;
use crate::device::{device, device_takes_cpu_path};
use crate::display::{Bundle, Show, escape};
use crate::nn::execution_plan::{Operation, Request, Step};
use crate::nn::model::ancestors;
use crate::nn::{Mode, Model, Param};

/// The steps of a forward pass: the result of [`Model::plan`], shown as a table in the notebook and the terminal.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model's name.
    pub model: String,
    /// The mode of the forward pass.
    pub mode: Mode,
    /// The steps, in order. Those of a nested model follow its own step.
    pub steps: Vec<PlanStep>,
}

/// One step of a [`Plan`].
#[derive(Clone, Debug)]
pub struct PlanStep {
    /// What the step computes: `Conv2D + BatchNormalization + ReLU`, `to NCHW`, …
    pub operation: String,
    /// The layers that the step runs, as paths. Several layers are fused.
    pub layers: Vec<String>,
    /// The layers whose outputs the step reads, as paths.
    pub inputs: Vec<String>,
    /// The layers whose outputs no later step reads. Their memory is freed.
    pub frees: Vec<String>,
}

impl Model {
    /// Returns the steps of a forward pass in inference mode. A step shows which layers are fused, where the layout of
    /// feature maps changes, and which values are freed. See [`Model::plan_for`] for training.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let model = sequential![
    ///     Input::new((3, 32, 32)),
    ///     Conv2D::new(8, 3),
    ///     BatchNormalization::default(),
    ///     Relu,
    ///     Flatten,
    ///     Dense::new(2).activation(Softmax),
    /// ]?;
    /// let plan = model.plan()?;
    /// println!("{plan}");
    /// # if headstart::device().is_cpu() && std::env::var_os("HEADSTART_TEST_DEVICE_PATH").is_none() {
    /// assert_eq!(plan.steps[0].operation, "Conv2D + BatchNormalization + ReLU");
    /// # }
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// Errors of the device.
    pub fn plan(&self) -> Result<Plan> {
        self.plan_for(Mode::Inference)
    }

    /// Returns the steps of a forward pass in a mode, for the current freezing of layers. In training, a layer that
    /// requires a gradient is not fused with a convolution.
    ///
    /// # Errors
    /// As [`Model::plan`].
    pub fn plan_for(&self, mode: Mode) -> Result<Plan> {
        let mut steps = Vec::new();
        self.add_plan_steps(mode, false, "", &mut steps)?;
        Ok(Plan { model: self.name().to_owned(), mode, steps })
    }

    /// Adds the steps of this model, whose layers have the path `prefix`.
    fn add_plan_steps(
        &self,
        mode: Mode,
        requires_gradient: bool,
        prefix: &str,
        steps: &mut Vec<PlanStep>,
    ) -> Result<()> {
        let request = Request {
            mode,
            given: self.input_nodes().to_vec(),
            requested: self.outputs().iter().map(|output| output.node).collect(),
            is_linear: false,
            requires_gradient,
            on_cpu: device_takes_cpu_path(&device()),
        };
        let plan = compile(self, request)?;
        for step in &plan.steps {
            let name = |node: &usize| format!("{prefix}{}", self.nodes()[*node].name);
            let names = |nodes: &[usize]| nodes.iter().map(name).collect::<Vec<String>>();
            steps.push(PlanStep {
                operation: self.operation_name(step),
                layers: names(&step.nodes),
                inputs: names(&step.inputs),
                frees: names(&step.frees),
            });
            let Some(node) = step.nodes.first() else { continue };
            if let Some(model) = self.nodes()[*node].layer.model() {
                let requires_gradient =
                    requires_gradient || mode == Mode::Training && self.has_trainable_before(*node);
                model.add_plan_steps(mode, requires_gradient, &format!("{}/", name(node)), steps)?;
            }
        }
        Ok(())
    }

    /// Whether a trainable layer leads to a node.
    fn has_trainable_before(&self, node: usize) -> bool {
        let leads = ancestors(self.nodes(), self.nodes()[node].inputs());
        let mut before = self.nodes().iter().zip(leads).filter(|(_, leads)| *leads);
        before.any(|(node, _)| node.layer.params().iter().any(Param::is_trainable))
    }

    fn operation_name(&self, step: &Step) -> String {
        let kind = |node: &usize| self.nodes()[*node].layer.kind();
        let (first, relu) = (step.nodes.first().map_or("", kind), " + ReLU");
        match &step.operation {
            Operation::ToNchw => "to NCHW".to_owned(),
            Operation::Layer | Operation::Linear => first.to_owned(),
            Operation::NormRelu(_) | Operation::AddRelu(_) => format!("{first}{relu}"),
            Operation::Convolution(fused) => {
                let mut name = first.to_owned();
                if fused.norm.is_some() {
                    name += " + BatchNormalization";
                }
                if fused.residual.is_some() {
                    name += " + Add";
                }
                if fused.relu || fused.conv.has_relu() {
                    name += relu;
                }
                name
            }
        }
    }
}

impl Plan {
    const HEADS: [&'static str; 5] = ["#", "Operation", "Layers", "Inputs", "Frees"];

    /// The line above the table.
    fn title(&self) -> String {
        let mode = match self.mode {
            Mode::Training => "training",
            Mode::Inference => "inference",
        };
        let layers: usize = self.steps.iter().map(|step| step.layers.len()).sum();
        format!("Plan of \"{}\" in {mode} mode: {} steps for {layers} layers", self.model, self.steps.len())
    }

    fn rows(&self) -> Vec<[String; 5]> {
        let row = |(index, step): (usize, &PlanStep)| {
            let PlanStep { operation, layers, inputs, frees } = step;
            [
                (index + 1).to_string(),
                operation.clone(),
                layers.join(", "),
                inputs.join(", "),
                frees.join(", "),
            ]
        };
        self.steps.iter().enumerate().map(row).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = |column: usize| {
            let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            longest.max(Self::HEADS[column].len())
        };
        let [n, a, b, c, d] = [width(0), width(1), width(2), width(3), width(4)];
        let line = "─".repeat(n + a + b + c + d + 8);
        writeln!(f, "{}\n{line}", self.title())?;
        let heads = Self::HEADS.map(str::to_owned);
        for (index, [number, operation, layers, inputs, frees]) in
            std::iter::once(&heads).chain(&rows).enumerate()
        {
            let row = format!("{number:>n$}  {operation:a$}  {layers:b$}  {inputs:c$}  {frees}");
            writeln!(f, "{}", row.trim_end())?;
            if index == 0 {
                writeln!(f, "{line}")?;
            }
        }
        f.write_str(&line)
    }
}

impl Show for Plan {
    fn bundle(&self) -> Bundle {
        let row = |tag: &str, cells: &[String; 5]| {
            let cell = |text: &String| format!("<{tag} style=\"text-align:left\">{}</{tag}>", escape(text));
            format!("<tr>{}</tr>", cells.iter().map(cell).collect::<String>())
        };
        let body: String = self.rows().iter().map(|cells| row("td", cells)).collect();
        let head = row("th", &Self::HEADS.map(str::to_owned));
        let html = format!("<p>{}</p><table>{head}{body}</table>", escape(&self.title()));
        vec![("text/plain".into(), self.to_string()), ("text/html".into(), html)]
    }
}
