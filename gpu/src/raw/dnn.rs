//! cuDNN: convolutions and their gradients, with a cache of plans and one workspace.

use std::collections::HashMap;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dnn_plan::{Algorithms, Candidate, Choice, Plan};
use super::dnn_status::{check, is_unsupported, unsupported};
use super::driver::Context;
use super::functions::{DevicePtr, Dnn as Functions, Handle};
use super::library::Library;
use super::{Array, ConvKey, Direction, Element};
use crate::{Error, Output, Precision, Result};

/// The share of the GPU's memory that an algorithm's workspace may take (one eighth).
const WORKSPACE_SHARE: usize = 8;
/// Largest workspace in bytes (1 GiB): the memory of a large GPU is for batches.
const MAX_WORKSPACE: usize = 1 << 30;

/// cuDNN on one stream.
pub(super) struct Dnn {
    pub(super) functions: Functions,
    pub(super) handle: Handle,
    pub(super) workspace_limit: usize,
    context: Arc<Context>,
    state: Mutex<State>,
}

// SAFETY: cuDNN's functions may be called from any thread; `state` is locked during calls with the handle.
unsafe impl Send for Dnn {}
// SAFETY: as above.
unsafe impl Sync for Dnn {}

#[derive(Default)]
struct State {
    plans: HashMap<ConvKey, Plan>,
    /// Shared by all convolutions, which run one after another.
    workspace: Option<Array>,
}

impl Dnn {
    pub(super) fn open(library: &Library, context: &Arc<Context>) -> Result<Dnn> {
        let functions = Functions::load(library)?;
        let workspace_limit = (context.memory()? / WORKSPACE_SHARE).min(MAX_WORKSPACE);
        let (stream, mut handle) = (context.stream()?, null_mut());
        // SAFETY: the function writes one handle.
        check("cudnnCreate", unsafe { (functions.cudnnCreate)(&mut handle) })?;
        // From here on, `drop` destroys the handle after a failure.
        let (context, state) = (context.clone(), Mutex::default());
        let dnn = Dnn { functions, context, handle, workspace_limit, state };
        // SAFETY: the stream is of the current context.
        check("cudnnSetStream", unsafe { (dnn.functions.cudnnSetStream)(handle, stream) })?;
        Ok(dnn)
    }

    /// Computes one direction. `operands` are input, kernel and output, or their gradients; the result is the one that
    /// the direction computes.
    ///
    /// If an algorithm fails or the memory is too full for its workspace, the next one takes its place.
    pub(super) fn convolve(
        &self,
        key: &ConvKey,
        direction: Direction,
        operands: [&Array; 3],
        result: Output,
    ) -> Result<()> {
        let element = if key.precision == Precision::BFloat16 { Element::BFloat16 } else { Element::Float32 };
        let sizes = [key.input, key.kernel, key.output]
            .map(|sides| sides.into_iter().map(|side| side as usize).product::<usize>());
        for ((operand, name), size) in operands.iter().zip(["input", "kernel", "output"]).zip(sizes) {
            operand.check_element("convolution", element)?;
            operand.check("convolution", name, size)?;
        }
        self.context.stream()?;
        let mut state = self.lock();
        let (plan, workspace) = self.planned(&mut state, key, direction)?;
        loop {
            let Choice::Algorithms(algorithms) = &plan.choices[direction as usize] else {
                return Err(unsupported());
            };
            let scratch = self.grow(workspace, algorithms.workspace);
            let started = scratch
                .and_then(|scratch| self.start(plan, direction, algorithms, scratch, operands, result));
            let Err(error) = started else { return Ok(()) };
            let is_next = match &error {
                // Not supported: nothing was started.
                error if is_unsupported(error) => true,
                // The result may be incomplete.
                Error::Cuda { code: 5000..6000, .. } => result == Output::Replace,
                _ => error.is_out_of_memory(),
            };
            if !is_next || !self.take_next(plan, direction) {
                if is_unsupported(&error) {
                    plan.choices[direction as usize] = Choice::Unsupported;
                }
                return Err(error);
            }
        }
    }

    /// Whether cuDNN has an algorithm for a direction. Starts nothing on the GPU. cuDNN is asked once for each key.
    pub(super) fn is_supported(&self, key: &ConvKey, direction: Direction) -> Result<bool> {
        self.context.stream()?;
        let mut state = self.lock();
        let (plan, _) = self.planned(&mut state, key, direction)?;
        Ok(matches!(plan.choices[direction as usize], Choice::Algorithms(_)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan of a key, with the choice for a direction, and the workspace.
    fn planned<'a>(
        &self,
        state: &'a mut State,
        key: &ConvKey,
        direction: Direction,
    ) -> Result<(&'a mut Plan, &'a mut Option<Array>)> {
        let State { plans, workspace } = state;
        if !plans.contains_key(key) {
            plans.insert(*key, Plan::new(&self.functions, key)?);
        }
        let plan = plans.get_mut(key).expect("the plan was just inserted");
        if let Choice::Unknown = plan.choices[direction as usize] {
            plan.choices[direction as usize] = match self.choose(plan, direction) {
                Ok(algorithms) => Choice::Algorithms(algorithms),
                Err(error) if is_unsupported(&error) => Choice::Unsupported,
                Err(error) => return Err(error),
            };
        }
        Ok((plan, workspace))
    }

    /// Makes the workspace at least `bytes` bytes long. Returns its address.
    fn grow(&self, workspace: &mut Option<Array>, bytes: usize) -> Result<DevicePtr> {
        if workspace.as_ref().map_or(0, Array::bytes) < bytes {
            // Frees the old workspace first.
            *workspace = None;
            *workspace = Some(Array::allocate(&self.context, bytes.div_ceil(4))?);
        }
        Ok(workspace.as_ref().map_or(0, Array::pointer))
    }

    /// Starts the current algorithm of a direction.
    fn start(
        &self,
        plan: &Plan,
        direction: Direction,
        algorithms: &Algorithms,
        scratch: DevicePtr,
        operands: [&Array; 3],
        output: Output,
    ) -> Result<()> {
        let (Candidate { number: algorithm, math }, bytes) = (algorithms.current, algorithms.workspace);
        self.set_math(plan, math)?;
        let f = &self.functions;
        let (name, convolve) = match direction {
            Direction::Forward => ("cudnnConvolutionForward", f.cudnnConvolutionForward),
            Direction::BackwardData => ("cudnnConvolutionBackwardData", f.cudnnConvolutionBackwardData),
            Direction::BackwardFilter => ("cudnnConvolutionBackwardFilter", f.cudnnConvolutionBackwardFilter),
        };
        let (alpha, beta) = (1f32, output.beta());
        let [a, b, result] = plan.operands(direction);
        let [a_values, b_values, results] = direction.order().map(|operand| operands[operand].pointer());
        // SAFETY: the descriptors are of one key, and `convolve` checked the arrays for the sizes of the key. The
        // workspace has the size that cuDNN asked for.
        let status = unsafe {
            convolve(
                self.handle,
                &alpha,
                a,
                a_values,
                b,
                b_values,
                plan.convolution,
                algorithm,
                scratch,
                bytes,
                &beta,
                result,
                results,
            )
        };
        check(name, status)
    }
}

impl Drop for Dnn {
    fn drop(&mut self) {
        // The context may not be current in this thread. A failure means that it is lost.
        let _ = self.context.stream();
        let plans = std::mem::take(&mut self.state.get_mut().unwrap_or_else(PoisonError::into_inner).plans);
        plans.values().for_each(|plan| plan.destroy(&self.functions));
        // SAFETY: the handle is not used afterwards.
        unsafe { (self.functions.cudnnDestroy)(self.handle) };
    }
}
