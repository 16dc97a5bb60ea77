//! The steps of a forward pass, and the cache of a model's plans. Module [`plan`](super::plan) compiles and runs them.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Mode, Param, conv, merge, norm};
use crate::Result;

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
pub(super) struct ExecutionPlan {
    pub(super) request: Request,
    /// Each parameter, with its state before the plan was compiled.
    pub(super) states: Vec<(Param, FreezingState)>,
    pub(super) steps: Vec<Step>,
    /// The node with the largest output of a sample among the last nodes of the steps.
    pub(super) largest: Option<usize>,
}

/// Whether a parameter is trainable, is in inference mode, and has an adapter.
type FreezingState = (bool, bool, bool);

pub(super) fn freezing_state(param: &Param) -> FreezingState {
    (param.is_trainable(), param.is_in_inference_mode(), param.is_adapted())
}

/// One step of a plan: computes the output of the last of its nodes.
pub(super) struct Step {
    pub(super) operation: Operation,
    /// Nodes whose layers the step runs, in order. Empty for a change of layout.
    pub(super) nodes: Vec<usize>,
    /// Nodes whose outputs the step reads.
    pub(super) inputs: Vec<usize>,
    /// Nodes whose outputs no later step reads.
    pub(super) frees: Vec<usize>,
}

/// How a step computes its output.
pub(super) enum Operation {
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
pub(super) struct FusedConvolution {
    pub(super) conv: Arc<conv::Built>,
    pub(super) norm: Option<Arc<norm::Built>>,
    /// Node whose output is added.
    pub(super) residual: Option<usize>,
    pub(super) relu: bool,
}

/// The compiled plans of a model, most recently used last.
#[derive(Default)]
pub(super) struct PlanCache(Mutex<Vec<Arc<ExecutionPlan>>>);

impl ExecutionPlan {
    /// Whether the plan is for this request and the current freezing state.
    fn suits(&self, request: &Request) -> bool {
        self.request == *request && self.states.iter().all(|(param, state)| freezing_state(param) == *state)
    }
}

impl PlanCache {
    /// The plan for a request, compiled if it is not cached.
    pub(super) fn get(
        &self,
        request: Request,
        compile: impl FnOnce(Request) -> Result<ExecutionPlan>,
    ) -> Result<Arc<ExecutionPlan>> {
        let plans = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut plans = plans();
            if let Some(position) = plans.iter().rposition(|plan| plan.suits(&request)) {
                let plan = plans.remove(position);
                plans.push(plan.clone());
                return Ok(plan);
            }
        }
        let plan = Arc::new(compile(request)?);
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
