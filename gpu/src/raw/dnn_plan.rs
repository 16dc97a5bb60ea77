//! The plan of a convolution: cuDNN's descriptors, and the algorithms of each direction.

use std::os::raw::c_int;
use std::ptr::null_mut;

use super::dnn_status::check;
use super::functions::{Dnn as Functions, Handle};
use super::{ConvKey, Direction};
use crate::{Precision, Result};

/// `CUDNN_TENSOR_NCHW` and `CUDNN_TENSOR_NHWC`.
const NCHW: c_int = 0;
const NHWC: c_int = 1;
/// `CUDNN_DATA_FLOAT` and `CUDNN_DATA_BFLOAT16`.
const FLOAT: c_int = 0;
const BFLOAT16: c_int = 9;
/// `CUDNN_CROSS_CORRELATION`: the kernel is not flipped.
const CROSS_CORRELATION: c_int = 1;

/// The descriptors of a convolution, and the choice for each direction.
pub(super) struct Plan {
    pub(super) precision: Precision,
    input: Handle,
    kernel: Handle,
    output: Handle,
    pub(super) convolution: Handle,
    pub(super) choices: [Choice; 3],
}

/// What is known about a direction.
pub(super) enum Choice {
    /// cuDNN was not asked yet.
    Unknown,
    Algorithms(Algorithms),
    /// cuDNN has no algorithm.
    Unsupported,
}

/// The algorithms of one direction.
pub(super) struct Algorithms {
    pub(super) current: Candidate,
    /// The workspace of the current one, in bytes.
    pub(super) workspace: usize,
    /// The others, from the last choice to the next.
    pub(super) others: Vec<Candidate>,
}

/// An algorithm, and the math type with which cuDNN offers it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) number: c_int,
    pub(super) math: c_int,
}

impl Plan {
    /// Creates the descriptors for a key.
    pub(super) fn new(f: &Functions, key: &ConvKey) -> Result<Plan> {
        let mut plan = Plan {
            precision: key.precision,
            input: null_mut(),
            kernel: null_mut(),
            output: null_mut(),
            convolution: null_mut(),
            choices: [Choice::Unknown, Choice::Unknown, Choice::Unknown],
        };
        // SAFETY: each function writes one handle.
        let created = unsafe {
            let mut status = (f.cudnnCreateTensorDescriptor)(&mut plan.input);
            let mut then = |next: c_int| status = if status == 0 { next } else { status };
            then((f.cudnnCreateTensorDescriptor)(&mut plan.output));
            then((f.cudnnCreateFilterDescriptor)(&mut plan.kernel));
            then((f.cudnnCreateConvolutionDescriptor)(&mut plan.convolution));
            status
        };
        match check("cudnnCreateTensorDescriptor", created).and_then(|()| plan.set(f, key)) {
            Ok(()) => Ok(plan),
            Err(error) => {
                plan.destroy(f);
                Err(error)
            }
        }
    }

    /// Sets the descriptors.
    fn set(&self, f: &Functions, key: &ConvKey) -> Result<()> {
        let ([n, c, h, w], [k, kc, kh, kw], [yn, yc, yh, yw]) = (key.input, key.kernel, key.output);
        let ([above, left], stride, dilation) = (key.padding, key.stride, key.dilation);
        let (layout, value) = match key.precision {
            Precision::BFloat16 => (NHWC, BFLOAT16),
            Precision::Float32 | Precision::TensorFloat32 => (NCHW, FLOAT),
        };
        // SAFETY: the descriptors were created.
        unsafe {
            let name = "cudnnSetTensor4dDescriptor";
            check(name, (f.cudnnSetTensor4dDescriptor)(self.input, layout, value, n, c, h, w))?;
            check(name, (f.cudnnSetTensor4dDescriptor)(self.output, layout, value, yn, yc, yh, yw))?;
            let filter = (f.cudnnSetFilter4dDescriptor)(self.kernel, value, layout, k, kc, kh, kw);
            check("cudnnSetFilter4dDescriptor", filter)?;
            let convolution = (f.cudnnSetConvolution2dDescriptor)(
                self.convolution,
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
            let groups = (f.cudnnSetConvolutionGroupCount)(self.convolution, key.groups);
            check("cudnnSetConvolutionGroupCount", groups)
        }
    }

    /// The descriptors of the operands, in the order of cuDNN's arguments.
    pub(super) fn operands(&self, direction: Direction) -> [Handle; 3] {
        direction.order().map(|operand| [self.input, self.kernel, self.output][operand])
    }

    /// Destroys the descriptors.
    pub(super) fn destroy(&self, f: &Functions) {
        // SAFETY: the descriptors are null or were created, and are not used afterwards.
        unsafe {
            for descriptor in [self.input, self.output] {
                if !descriptor.is_null() {
                    (f.cudnnDestroyTensorDescriptor)(descriptor);
                }
            }
            if !self.kernel.is_null() {
                (f.cudnnDestroyFilterDescriptor)(self.kernel);
            }
            if !self.convolution.is_null() {
                (f.cudnnDestroyConvolutionDescriptor)(self.convolution);
            }
        }
    }
}
