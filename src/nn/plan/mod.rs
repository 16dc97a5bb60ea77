//! Execution plans: the steps of a forward pass.
//!
//! A model is compiled once for each combination of freezing state, mode, device and requested outputs. A forward pass
//! then only walks the steps of its plan. [`compile`] decides which layers are fused, where feature maps change their
//! layout, and when a value is freed. [`run`] executes the steps; [`display`] shows them.

mod compile;
mod display;
mod run;

use std::sync::{Arc, Mutex, PoisonError};

use super::{Mode, Model, Param, conv, merge, norm};
use crate::Result;

pub use display::{Plan, PlanStep};

/// Maximum number of cached plans of a model (8: a few modes, outputs and split points). Beyond it, the least
/// recently used plan is dropped.
const MAX_PLANS: usize = 8;

/// A request for a plan: the nodes that are given and the nodes that are requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) mode: Mode,
    /// Nodes whose outputs are given: the inputs, or a split point.
    pub(super) given: Vec<usize>,
    /// Nodes whose outputs are requested.
    pub(super) requested: Vec<usize>,
    /// Whether the requested layer omits its last activation.
    pub(super) is_linear: bool,
    /// Whether a given value requires a gradient.
    pub(super) requires_gradient: bool,
    /// Whether the values take the CPU path.
    pub(super) on_cpu: bool,
}

/// The steps for a request, valid for one freezing state.
struct ExecutionPlan {
    request: Request,
    /// Each parameter, with its state when the plan was compiled.
    states: Vec<(Param, FreezingState)>,
    steps: Vec<Step>,
}

/// Whether a parameter is trainable, in inference mode, and adapted.
type FreezingState = (bool, bool, bool);

fn freezing_state(param: &Param) -> FreezingState {
    (param.is_trainable(), param.is_in_inference_mode(), param.is_adapted())
}

/// One step of a plan: computes the output of the last of its nodes.
struct Step {
    operation: Operation,
    /// Nodes whose layers the step runs, in order. Empty for a change of layout.
    nodes: Vec<usize>,
    /// Nodes whose outputs the step reads.
    inputs: Vec<usize>,
    /// Nodes whose outputs no later step reads.
    frees: Vec<usize>,
}

/// How a step computes its output.
enum Operation {
    /// Changes the layout of a channels-last value to NCHW.
    ToNchw,
    /// Runs a layer by itself.
    Layer,
    /// Runs a layer without its last activation.
    Linear,
    /// Runs a convolution without gradients, fused with the layers after it.
    Convolution(FusedConvolution),
    /// Runs a batch normalisation with batch statistics, fused with the ReLU after it.
    NormRelu(Arc<norm::Built>),
    /// Adds two values, fused with the ReLU after it.
    AddRelu(Arc<merge::Sum>),
}

/// A convolution with the layers that are fused with it.
struct FusedConvolution {
    conv: Arc<conv::Built>,
    norm: Option<Arc<norm::Built>>,
    /// Node whose output is added.
    residual: Option<usize>,
    relu: bool,
}

/// The compiled plans of a model, most recently used last.
#[derive(Default)]
pub(super) struct PlanCache(Mutex<Vec<Arc<ExecutionPlan>>>);

impl ExecutionPlan {
    fn compile(model: &Model, request: Request) -> Result<ExecutionPlan> {
        let states = model.params().into_iter().map(|param| {
            let state = freezing_state(&param);
            (param, state)
        });
        let states = states.collect();
        let steps = compile::compile(model, &request)?;
        Ok(ExecutionPlan { request, states, steps })
    }

    /// Whether the plan is for this request and the current freezing state.
    fn suits(&self, request: &Request) -> bool {
        self.request == *request && self.states.iter().all(|(param, state)| freezing_state(param) == *state)
    }
}

impl PlanCache {
    /// The plan for a request, compiled if it is not cached.
    fn get(&self, model: &Model, request: Request) -> Result<Arc<ExecutionPlan>> {
        let plans = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut plans = plans();
            if let Some(position) = plans.iter().rposition(|plan| plan.suits(&request)) {
                let plan = plans.remove(position);
                plans.push(plan.clone());
                return Ok(plan);
            }
        }
        let plan = Arc::new(ExecutionPlan::compile(model, request)?);
        // Another thread may have changed the freezing state meanwhile.
        if !plan.suits(&plan.request) {
            return Ok(plan);
        }
        let mut plans = plans();
        // A plan for another freezing state is out of date.
        plans.retain(|known| known.request != plan.request);
        if plans.len() == MAX_PLANS {
            plans.remove(0);
        }
        plans.push(plan.clone());
        Ok(plan)
    }
}
