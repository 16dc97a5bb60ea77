//! cuDNN: convolutions and their gradients, with a cache of plans and one workspace.

use std::collections::HashMap;
use std::os::raw::c_int;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use super::conv_key::Algorithm;
use super::dnn_status::check;
use super::driver::Context;
use super::functions::{AlgorithmChoice, Dnn as Functions, Handle};
use super::library::Library;
use super::{Array, ConvKey, Direction, Precision};
use crate::{Output, Result};

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

/// cuDNN on one stream.
pub(super) struct Dnn {
    functions: Functions,
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

/// The descriptors of a convolution, and the algorithm with its workspace for each direction that was used.
struct Plan {
    input: Handle,
    kernel: Handle,
    output: Handle,
    convolution: Handle,
    algorithms: [Option<Algorithm>; 3],
}

impl Dnn {
    pub(super) fn open(library: &Library, context: &Context, precision: Precision) -> Result<Dnn> {
        let functions = Functions::load(library)?;
        let (stream, mut handle) = (context.stream()?, null_mut());
        // SAFETY: the function writes one handle; the stream is of the current context.
        unsafe {
            check("cudnnCreate", (functions.cudnnCreate)(&mut handle))?;
            check("cudnnSetStream", (functions.cudnnSetStream)(handle, stream))?;
        }
        let workspace_limit = context.memory()? / WORKSPACE_SHARE;
        Ok(Dnn { functions, handle, precision, workspace_limit, state: Mutex::default() })
    }

    /// Computes one direction. `operands` are input, kernel and output, or their gradients; the result is the one that
    /// the direction computes.
    pub(super) fn convolve(
        &self,
        context: &Arc<Context>,
        key: &ConvKey,
        direction: Direction,
        [input, kernel, output]: [&Array; 3],
        result: Output,
    ) -> Result<()> {
        let count = |sides: [i32; 4]| sides.into_iter().map(|side| side as usize).product();
        input.check("convolution", "input", count(key.input))?;
        kernel.check("convolution", "kernel", count(key.kernel))?;
        output.check("convolution", "output", count(key.output))?;
        context.stream()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { plans, workspace } = &mut *state;
        if !plans.contains_key(key) {
            plans.insert(*key, self.plan(key)?);
        }
        let plan = plans.get_mut(key).expect("the plan was just inserted");
        let Algorithm { number: algorithm, bytes, math } = match plan.algorithms[direction as usize] {
            Some(known) => known,
            None => *plan.algorithms[direction as usize].insert(self.choose(plan, direction)?),
        };
        if workspace.as_ref().map_or(0, Array::bytes) < bytes {
            // Frees the old workspace first.
            *workspace = None;
            *workspace = Some(Array::allocate(context, bytes.div_ceil(4))?);
        }
        let scratch = workspace.as_ref().map_or(0, Array::pointer);
        self.set_math(plan, math)?;
        let (alpha, beta) = (1f32, result.beta());
        let (x, w, y) = (input.pointer(), kernel.pointer(), output.pointer());
        let (f, p, h) = (&self.functions, &*plan, self.handle);
        // SAFETY: the descriptors are of this key, and the arrays have at least the sizes of the key (checked above).
        // The workspace has the size that cuDNN asked for.
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
            algorithms: [None; 3],
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

    /// The first deterministic algorithm of cuDNN's heuristic whose workspace is within the limit.
    fn choose(&self, plan: &Plan, direction: Direction) -> Result<Algorithm> {
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
        for choice in known.iter().filter(is_right) {
            // With `FMA_MATH` in the descriptor no algorithm uses TensorFloat-32, whatever cuDNN calls its math type.
            let math = match self.precision {
                Precision::Float32 if !matches!(choice.math_type, DEFAULT_MATH | FMA_MATH) => continue,
                Precision::Float32 => FMA_MATH,
                Precision::TensorFloat32 => choice.math_type,
            };
            self.set_math(plan, math)?;
            // The workspace in the answer can be too small for some versions of cuDNN.
            if let Ok(bytes) = self.workspace(plan, direction, choice.algorithm)
                && bytes <= self.workspace_limit
            {
                return Ok(Algorithm { number: choice.algorithm, bytes, math });
            }
        }
        let (number, math) = (direction.fallback(), self.math());
        self.set_math(plan, math)?;
        Ok(Algorithm { number, bytes: self.workspace(plan, direction, number)?, math })
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
    fn workspace(&self, p: &Plan, direction: Direction, algorithm: c_int) -> Result<usize> {
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
        let plans = std::mem::take(&mut self.state.get_mut().unwrap_or_else(PoisonError::into_inner).plans);
        plans.values().for_each(|plan| self.destroy(plan));
        // SAFETY: the handle is not used afterwards.
        unsafe { (self.functions.cudnnDestroy)(self.handle) };
    }
}
