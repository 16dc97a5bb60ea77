//! The C functions of CUDA that the crate calls, as declared in the headers of CUDA 13.0 and cuDNN 9.
#![allow(non_snake_case)]

use std::os::raw::{c_char, c_int, c_uint, c_void};

use super::Library;
use crate::Result;

/// A pointer to an object of a library: context, stream, module, descriptor.
pub(super) type Handle = *mut c_void;
/// An address in the GPU's memory.
pub(super) type DevicePtr = u64;

/// Declares a table of functions that return a status, and the function that fills it from a library.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident { $($name:ident($($argument:ty),*);)+ }) => {
        $(#[$doc])*
        pub(super) struct $table {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> c_int,)+
        }

        impl $table {
            pub(super) fn load(library: &Library) -> Result<$table> {
                Ok($table {
                    $($name: {
                        let address = library.address(stringify!($name))?;
                        // SAFETY: the declaration is that of the library's header, and the address is not null.
                        unsafe {
                            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> c_int>(address)
                        }
                    },)+
                })
            }
        }
    };
}

functions! {
    /// The driver.
    Driver {
        cuInit(c_uint);
        cuDeviceGetCount(*mut c_int);
        cuDeviceGet(*mut c_int, c_int);
        cuDeviceGetName(*mut c_char, c_int, c_int);
        cuDeviceGetAttribute(*mut c_int, c_int, c_int);
        cuDeviceTotalMem_v2(*mut usize, c_int);
        cuDevicePrimaryCtxRetain(*mut Handle, c_int);
        cuDevicePrimaryCtxRelease_v2(c_int);
        cuCtxSetCurrent(Handle);
        cuStreamCreate(*mut Handle, c_uint);
        cuStreamSynchronize(Handle);
        cuStreamWaitEvent(Handle, Handle, c_uint);
        cuStreamDestroy_v2(Handle);
        cuDeviceGetDefaultMemPool(*mut Handle, c_int);
        cuMemPoolSetAttribute(Handle, c_int, *mut c_void);
        cuMemGetInfo_v2(*mut usize, *mut usize);
        cuMemAlloc_v2(*mut DevicePtr, usize);
        cuMemFree_v2(DevicePtr);
        cuMemAllocAsync(*mut DevicePtr, usize, Handle);
        cuMemFreeAsync(DevicePtr, Handle);
        cuMemcpyHtoDAsync_v2(DevicePtr, *const c_void, usize, Handle);
        cuMemcpyDtoHAsync_v2(*mut c_void, DevicePtr, usize, Handle);
        cuMemcpyDtoDAsync_v2(DevicePtr, DevicePtr, usize, Handle);
        cuMemsetD32Async(DevicePtr, c_uint, usize, Handle);
        cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
        cuMemFreeHost(*mut c_void);
        cuEventCreate(*mut Handle, c_uint);
        cuEventRecord(Handle, Handle);
        cuEventSynchronize(Handle);
        cuEventQuery(Handle);
        cuEventDestroy_v2(Handle);
        cuModuleLoadData(*mut Handle, *const c_void);
        cuModuleGetFunction(*mut Handle, Handle, *const c_char);
        cuLaunchKernel(
            Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
        );
        cuGetErrorString(c_int, *mut *const c_char);
    }
}

/// How cuDNN would compute a convolution: `cudnnConvolutionFwdAlgoPerf_t` and those of the two gradients, which have
/// the same layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AlgorithmChoice {
    pub(super) algorithm: c_int,
    pub(super) status: c_int,
    pub(super) time: f32,
    pub(super) memory: usize,
    pub(super) determinism: c_int,
    pub(super) math_type: c_int,
    pub(super) reserved: [c_int; 3],
}

functions! {
    /// cuDNN.
    Dnn {
        cudnnCreate(*mut Handle);
        cudnnDestroy(Handle);
        cudnnSetStream(Handle, Handle);
        cudnnCreateTensorDescriptor(*mut Handle);
        cudnnDestroyTensorDescriptor(Handle);
        cudnnSetTensor4dDescriptor(Handle, c_int, c_int, c_int, c_int, c_int, c_int);
        cudnnCreateFilterDescriptor(*mut Handle);
        cudnnDestroyFilterDescriptor(Handle);
        cudnnSetFilter4dDescriptor(Handle, c_int, c_int, c_int, c_int, c_int, c_int);
        cudnnCreateConvolutionDescriptor(*mut Handle);
        cudnnDestroyConvolutionDescriptor(Handle);
        cudnnSetConvolution2dDescriptor(Handle, c_int, c_int, c_int, c_int, c_int, c_int, c_int, c_int);
        cudnnSetConvolutionMathType(Handle, c_int);
        cudnnSetConvolutionGroupCount(Handle, c_int);
        cudnnGetConvolutionForwardAlgorithm_v7(
            Handle, Handle, Handle, Handle, Handle, c_int, *mut c_int, *mut AlgorithmChoice
        );
        cudnnGetConvolutionBackwardDataAlgorithm_v7(
            Handle, Handle, Handle, Handle, Handle, c_int, *mut c_int, *mut AlgorithmChoice
        );
        cudnnGetConvolutionBackwardFilterAlgorithm_v7(
            Handle, Handle, Handle, Handle, Handle, c_int, *mut c_int, *mut AlgorithmChoice
        );
        cudnnGetConvolutionForwardWorkspaceSize(Handle, Handle, Handle, Handle, Handle, c_int, *mut usize);
        cudnnGetConvolutionBackwardDataWorkspaceSize(Handle, Handle, Handle, Handle, Handle, c_int, *mut usize);
        cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle, Handle, Handle, Handle, Handle, c_int, *mut usize);
        cudnnConvolutionForward(
            Handle, *const f32, Handle, DevicePtr, Handle, DevicePtr, Handle, c_int, DevicePtr, usize, *const f32, Handle,
            DevicePtr
        );
        cudnnConvolutionBackwardData(
            Handle, *const f32, Handle, DevicePtr, Handle, DevicePtr, Handle, c_int, DevicePtr, usize, *const f32, Handle,
            DevicePtr
        );
        cudnnConvolutionBackwardFilter(
            Handle, *const f32, Handle, DevicePtr, Handle, DevicePtr, Handle, c_int, DevicePtr, usize, *const f32, Handle,
            DevicePtr
        );
    }
}

functions! {
    /// cuBLAS.
    Blas {
        cublasCreate_v2(*mut Handle);
        cublasDestroy_v2(Handle);
        cublasSetStream_v2(Handle, Handle);
        cublasSetWorkspace_v2(Handle, DevicePtr, usize);
        cublasSetMathMode(Handle, c_int);
        cublasSgemm_v2(
            Handle, c_int, c_int, c_int, c_int, c_int, *const f32, DevicePtr, c_int, DevicePtr, c_int, *const f32,
            DevicePtr, c_int
        );
    }
}

functions! {
    /// NVRTC, the compiler.
    Nvrtc {
        nvrtcCreateProgram(
            *mut Handle, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char
        );
        nvrtcCompileProgram(Handle, c_int, *const *const c_char);
        nvrtcGetCUBINSize(Handle, *mut usize);
        nvrtcGetCUBIN(Handle, *mut c_char);
        nvrtcGetPTXSize(Handle, *mut usize);
        nvrtcGetPTX(Handle, *mut c_char);
        nvrtcGetProgramLogSize(Handle, *mut usize);
        nvrtcGetProgramLog(Handle, *mut c_char);
        nvrtcDestroyProgram(*mut Handle);
    }
}
