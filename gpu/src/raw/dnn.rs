//! cuDNN: convolutions and their gradients, with a cache of plans and one workspace.

use std::collections::HashMap;
use std::os::raw::c_int;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use super::conv_key::{Algorithms, Candidate};
use super::dnn_status::check;
use super::driver::Context;
use super::functions::{AlgorithmChoice, DevicePtr, Dnn as Functions, Handle};
use super::library::Library;
use super::{Array, ConvKey, Direction, Precision};
use crate::{Error, Output, Result};

/// `CUDNN_TENSOR_NCHW` and `CUDNN_DATA_FLOAT`.
const NCHW: c_int = 0;
const FLOAT: c_int = 0;
/// `CUDNN_CROSS_CORRELATION`: the kernel is not flipped.
const CROSS_CORRELATION: c_int = 1;
/// `CUDNN_DEFAULT_MATH`, which permits TensorFloat-32 for float32 data, and `CUDNN_FMA_MATH`, which does not.
const DEFAULT_MATH: c_int = 0;
const FMA_MATH: c_int = 3;
/// `CUDNN_DETERMINISTIC`.
const DETERMINISTIC: c_int = 1;
/// Maximum number of algorithms that are requested from cuDNN for one direction.
const MAX_ALGORITHMS: usize = 10;
/// The share of the GPU's memory that an algorithm's workspace may take (one eighth).
const WORKSPACE_SHARE: usize = 8;
/// Largest workspace in bytes (1 GiB): the memory of a large GPU is for batches.
const MAX_WORKSPACE: usize = 1 << 30;

/// cuDNN on one stream.
pub(super) struct Dnn {
    functions: Functions,
    context: Arc<Context>,
    handle: Handle,
    precision: Precision,
    workspace_limit: usize,
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

/// The descriptors of a convolution, and the algorithms for each direction that was used.
struct Plan {
    input: Handle,
    kernel: Handle,
    output: Handle,
    convolution: Handle,
    algorithms: [Option<Algorithms>; 3],
}

impl Dnn {
    pub(super) fn open(library: &Library, context: &Arc<Context>, precision: Precision) -> Result<Dnn> {
        let functions = Functions::load(library)?;
        let workspace_limit = (context.memory()? / WORKSPACE_SHARE).min(MAX_WORKSPACE);
        let (stream, mut handle) = (context.stream()?, null_mut());
        // SAFETY: the function writes one handle.
        check("cudnnCreate", unsafe { (functions.cudnnCreate)(&mut handle) })?;
        // From here on, `drop` destroys the handle after a failure.
        let (context, state) = (context.clone(), Mutex::default());
        let dnn = Dnn { functions, context, handle, precision, workspace_limit, state };
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
        [input, kernel, output]: [&Array; 3],
        result: Output,
    ) -> Result<()> {
        let count = |sides: [i32; 4]| sides.into_iter().map(|side| side as usize).product();
        input.check("convolution", "input", count(key.input))?;
        kernel.check("convolution", "kernel", count(key.kernel))?;
        output.check("convolution", "output", count(key.output))?;
        self.context.stream()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { plans, workspace } = &mut *state;
        if !plans.contains_key(key) {
            plans.insert(*key, self.plan(key)?);
        }
        let plan = plans.get_mut(key).expect("the plan was just inserted");
        if plan.algorithms[direction as usize].is_none() {
            let algorithms = self.choose(plan, direction)?;
            plan.algorithms[direction as usize] = Some(algorithms);
        }
        loop {
            let algorithms =
                plan.algorithms[direction as usize].as_ref().expect("the algorithms were just chosen");
            let bytes = algorithms.workspace;
            let started = match self.grow(workspace, bytes) {
                Ok(scratch) => {
                    self.start(plan, direction, algorithms, scratch, [input, kernel, output], result)
                }
                Err(error) => Err(error),
            };
            let Err(error) = started else { return Ok(()) };
            let is_next = match &error {
                // Not supported: nothing was started.
                Error::Cuda { code: 3000..4000, .. } => true,
                // The result may be incomplete.
                Error::Cuda { code: 5000..6000, .. } => result == Output::Replace,
                _ => error.is_out_of_memory(),
            };
            if !is_next || !self.take_next(plan, direction) {
                return Err(error);
            }
        }
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
        [input, kernel, output]: [&Array; 3],
        result: Output,
    ) -> Result<()> {
        let (Candidate { number: algorithm, math }, bytes) = (algorithms.current, algorithms.workspace);
        self.set_math(plan, math)?;
        let (alpha, beta) = (1f32, result.beta());
        let (x, w, y) = (input.pointer(), kernel.pointer(), output.pointer());
        let (f, p, h) = (&self.functions, plan, self.handle);
        // SAFETY: the descriptors are of one key, and `convolve` checked the arrays for the sizes of the key. The
        // workspace has the size that cuDNN asked for.
        let (name, status) = unsafe {
            match direction {
                Direction::Forward => (
                    "cudnnConvolutionForward",
                    (f.cudnnConvolutionForward)(
                        h,
                        &alpha,
                        p.input,
                        x,
                        p.kernel,
                        w,
                        p.convolution,
                        algorithm,
                        scratch,
                        bytes,
                        &beta,
                        p.output,
                        y,
                    ),
                ),
                Direction::BackwardData => (
                    "cudnnConvolutionBackwardData",
                    (f.cudnnConvolutionBackwardData)(
                        h,
                        &alpha,
                        p.kernel,
                        w,
                        p.output,
                        y,
                        p.convolution,
                        algorithm,
                        scratch,
                        bytes,
                        &beta,
                        p.input,
                        x,
                    ),
                ),
                Direction::BackwardFilter => (
                    "cudnnConvolutionBackwardFilter",
                    (f.cudnnConvolutionBackwardFilter)(
                        h,
                        &alpha,
                        p.input,
                        x,
                        p.output,
                        y,
                        p.convolution,
                        algorithm,
                        scratch,
                        bytes,
                        &beta,
                        p.kernel,
                        w,
                    ),
                ),
            }
        };
        check(name, status)
    }

    /// Number of cached plans.
    pub(super) fn plans(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).plans.len()
    }

    fn plan(&self, key: &ConvKey) -> Result<Plan> {
        let f = &self.functions;
        let mut plan = Plan {
            input: null_mut(),
            kernel: null_mut(),
            output: null_mut(),
            convolution: null_mut(),
            algorithms: [None, None, None],
        };
        let ([n, c, h, w], [k, kc, kh, kw], [yn, yc, yh, yw]) = (key.input, key.kernel, key.output);
        let ([above, left], stride, dilation) = (key.padding, key.stride, key.dilation);
        // SAFETY: each descriptor is created before it is set.
        let created = unsafe {
            let mut status = (f.cudnnCreateTensorDescriptor)(&mut plan.input);
            let mut then = |next: c_int| status = if status == 0 { next } else { status };
            then((f.cudnnCreateTensorDescriptor)(&mut plan.output));
            then((f.cudnnCreateFilterDescriptor)(&mut plan.kernel));
            then((f.cudnnCreateConvolutionDescriptor)(&mut plan.convolution));
            status
        };
        let set = || -> Result<()> {
            check("cudnnCreateTensorDescriptor", created)?;
            // SAFETY: the descriptors were created above.
            unsafe {
                let name = "cudnnSetTensor4dDescriptor";
                check(name, (f.cudnnSetTensor4dDescriptor)(plan.input, NCHW, FLOAT, n, c, h, w))?;
                check(name, (f.cudnnSetTensor4dDescriptor)(plan.output, NCHW, FLOAT, yn, yc, yh, yw))?;
                let filter = (f.cudnnSetFilter4dDescriptor)(plan.kernel, FLOAT, NCHW, k, kc, kh, kw);
                check("cudnnSetFilter4dDescriptor", filter)?;
                let convolution = (f.cudnnSetConvolution2dDescriptor)(
                    plan.convolution,
                    above,
                    left,
                    stride,
                    stride,
                    dilation,
                    dilation,
                    CROSS_CORRELATION,
                    FLOAT,
                );
                check("cudnnSetConvolution2dDescriptor", convolution)?;
                let groups = (f.cudnnSetConvolutionGroupCount)(plan.convolution, key.groups);
                check("cudnnSetConvolutionGroupCount", groups)?;
                Ok(())
            }
        };
        match set() {
            Ok(()) => Ok(plan),
            Err(error) => {
                self.destroy(&plan);
                Err(error)
            }
        }
    }

    /// The deterministic algorithms of cuDNN's heuristic in its order, and the direction's fallback.
    fn choose(&self, plan: &Plan, direction: Direction) -> Result<Algorithms> {
        // Another direction may have left its own.
        self.set_math(plan, self.math())?;
        let (f, p, h) = (&self.functions, plan, self.handle);
        let mut choices = [AlgorithmChoice::default(); MAX_ALGORITHMS];
        let (most, mut found) = (MAX_ALGORITHMS as c_int, 0);
        // SAFETY: the descriptors exist, and `choices` has room for `most`.
        let (name, status) = unsafe {
            let out = choices.as_mut_ptr();
            match direction {
                Direction::Forward => (
                    "cudnnGetConvolutionForwardAlgorithm_v7",
                    (f.cudnnGetConvolutionForwardAlgorithm_v7)(
                        h,
                        p.input,
                        p.kernel,
                        p.convolution,
                        p.output,
                        most,
                        &mut found,
                        out,
                    ),
                ),
                Direction::BackwardData => (
                    "cudnnGetConvolutionBackwardDataAlgorithm_v7",
                    (f.cudnnGetConvolutionBackwardDataAlgorithm_v7)(
                        h,
                        p.kernel,
                        p.output,
                        p.convolution,
                        p.input,
                        most,
                        &mut found,
                        out,
                    ),
                ),
                Direction::BackwardFilter => (
                    "cudnnGetConvolutionBackwardFilterAlgorithm_v7",
                    (f.cudnnGetConvolutionBackwardFilterAlgorithm_v7)(
                        h,
                        p.input,
                        p.output,
                        p.convolution,
                        p.kernel,
                        most,
                        &mut found,
                        out,
                    ),
                ),
            }
        };
        check(name, status)?;
        let known = &choices[..(found.max(0) as usize).min(MAX_ALGORITHMS)];
        let is_right = |choice: &&AlgorithmChoice| choice.status == 0 && choice.determinism == DETERMINISTIC;
        let right = known.iter().filter(is_right).filter_map(|choice| {
            // With `FMA_MATH` in the descriptor no algorithm uses TensorFloat-32, whatever cuDNN calls its math type.
            let math = match self.precision {
                Precision::Float32 if !matches!(choice.math_type, DEFAULT_MATH | FMA_MATH) => return None,
                Precision::Float32 => FMA_MATH,
                Precision::TensorFloat32 => choice.math_type,
            };
            Some(Candidate { number: choice.algorithm, math })
        });
        let mut others: Vec<Candidate> = right.collect();
        let fallback = Candidate { number: direction.fallback(), math: self.math() };
        if !others.contains(&fallback) {
            others.push(fallback);
        }
        others.reverse();
        let mut algorithms = Algorithms { current: fallback, workspace: 0, others };
        if !self.advance(plan, direction, &mut algorithms) {
            algorithms.workspace = self.workspace(plan, direction, fallback)?;
        }
        Ok(algorithms)
    }

    /// Makes the next algorithm the current one. Returns whether there was one.
    fn take_next(&self, plan: &mut Plan, direction: Direction) -> bool {
        let Some(mut algorithms) = plan.algorithms[direction as usize].take() else { return false };
        let advanced = self.advance(plan, direction, &mut algorithms);
        plan.algorithms[direction as usize] = Some(algorithms);
        advanced
    }

    /// Makes the next algorithm whose workspace is within the limit the current one. Returns whether there was one.
    fn advance(&self, plan: &Plan, direction: Direction, algorithms: &mut Algorithms) -> bool {
        while let Some(next) = algorithms.others.pop() {
            // The workspace in the answer of the heuristic can be too small for some versions of cuDNN.
            if let Ok(bytes) = self.workspace(plan, direction, next)
                && bytes <= self.workspace_limit
            {
                (algorithms.current, algorithms.workspace) = (next, bytes);
                return true;
            }
        }
        false
    }

    /// The math type of the precision.
    fn math(&self) -> c_int {
        if self.precision == Precision::Float32 { FMA_MATH } else { DEFAULT_MATH }
    }

    fn set_math(&self, plan: &Plan, math: c_int) -> Result<()> {
        // SAFETY: the descriptor exists.
        let status = unsafe { (self.functions.cudnnSetConvolutionMathType)(plan.convolution, math) };
        check("cudnnSetConvolutionMathType", status)
    }

    /// The workspace of an algorithm, in bytes.
    fn workspace(&self, p: &Plan, direction: Direction, candidate: Candidate) -> Result<usize> {
        self.set_math(p, candidate.math)?;
        let algorithm = candidate.number;
        let (f, h, mut bytes) = (&self.functions, self.handle, 0);
        // SAFETY: the descriptors exist, and the function writes one integer.
        let (name, status) = unsafe {
            match direction {
                Direction::Forward => (
                    "cudnnGetConvolutionForwardWorkspaceSize",
                    (f.cudnnGetConvolutionForwardWorkspaceSize)(
                        h,
                        p.input,
                        p.kernel,
                        p.convolution,
                        p.output,
                        algorithm,
                        &mut bytes,
                    ),
                ),
                Direction::BackwardData => (
                    "cudnnGetConvolutionBackwardDataWorkspaceSize",
                    (f.cudnnGetConvolutionBackwardDataWorkspaceSize)(
                        h,
                        p.kernel,
                        p.output,
                        p.convolution,
                        p.input,
                        algorithm,
                        &mut bytes,
                    ),
                ),
                Direction::BackwardFilter => (
                    "cudnnGetConvolutionBackwardFilterWorkspaceSize",
                    (f.cudnnGetConvolutionBackwardFilterWorkspaceSize)(
                        h,
                        p.input,
                        p.output,
                        p.convolution,
                        p.kernel,
                        algorithm,
                        &mut bytes,
                    ),
                ),
            }
        };
        check(name, status)?;
        Ok(bytes)
    }

    fn destroy(&self, plan: &Plan) {
        let f = &self.functions;
        // SAFETY: the descriptors are null or were created, and are not used afterwards.
        unsafe {
            for descriptor in [plan.input, plan.output] {
                if !descriptor.is_null() {
                    (f.cudnnDestroyTensorDescriptor)(descriptor);
                }
            }
            if !plan.kernel.is_null() {
                (f.cudnnDestroyFilterDescriptor)(plan.kernel);
            }
            if !plan.convolution.is_null() {
                (f.cudnnDestroyConvolutionDescriptor)(plan.convolution);
            }
        }
    }
}

impl Drop for Dnn {
    fn drop(&mut self) {
        // The context may not be current in this thread. A failure means that it is lost.
        let _ = self.context.stream();
        let plans = std::mem::take(&mut self.state.get_mut().unwrap_or_else(PoisonError::into_inner).plans);
        plans.values().for_each(|plan| self.destroy(plan));
        // SAFETY: the handle is not used afterwards.
        unsafe { (self.functions.cudnnDestroy)(self.handle) };
    }
}
