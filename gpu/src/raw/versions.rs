//! Versions of the libraries, which decide whether they fit each other.

use std::os::raw::{c_int, c_void};

use super::Library;

type Result<T> = std::result::Result<T, String>;

/// `MAJOR_VERSION` of `libraryPropertyType`.
const MAJOR_VERSION: c_int = 0;

/// The version of a cuDNN.
pub(crate) struct DnnVersion {
    /// Its own version: `[9, 12]`.
    pub(crate) cudnn: [i32; 2],
    /// The major version of the CUDA that it is for.
    pub(crate) cuda: i32,
}

/// The latest CUDA that a driver supports: `[13, 0]`.
pub(crate) fn driver_version(library: &Library) -> Result<[i32; 2]> {
    let address = address(library, "cuDriverGetVersion")?;
    let mut version = 0;
    // SAFETY: the type is that of cuda.h. The function writes one integer, and needs no `cuInit`.
    let status = unsafe {
        let function = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int) -> c_int>(address);
        function(&mut version)
    };
    check(status)?;
    Ok([version / 1000, version % 1000 / 10])
}

/// The major version of the CUDA that an NVRTC is from.
pub(crate) fn nvrtc_major(library: &Library) -> Result<i32> {
    let address = address(library, "nvrtcVersion")?;
    let [mut major, mut minor] = [0; 2];
    // SAFETY: the type is that of nvrtc.h. The function writes two integers.
    let status = unsafe {
        type Function = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
        let function = std::mem::transmute::<*mut c_void, Function>(address);
        function(&mut major, &mut minor)
    };
    check(status).map(|()| major)
}

/// The major version of a cuBLAS, which is that of its CUDA.
pub(crate) fn blas_major(library: &Library) -> Result<i32> {
    let address = address(library, "cublasGetProperty")?;
    let mut major = 0;
    // SAFETY: the type is that of cublas_api.h, in which the first argument is an enumeration. The function writes one
    // integer.
    let status = unsafe {
        type Function = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;
        let function = std::mem::transmute::<*mut c_void, Function>(address);
        function(MAJOR_VERSION, &mut major)
    };
    check(status).map(|()| major)
}

/// The version of a cuDNN. Before cuDNN 9, a major version was 1000 instead of 10000.
pub(crate) fn dnn_version(library: &Library) -> Result<DnnVersion> {
    let number = |name| -> Result<i32> {
        let address = address(library, name)?;
        // SAFETY: both functions have this type in cudnn_graph.h.
        let number = unsafe {
            let function = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> usize>(address);
            function()
        };
        i32::try_from(number).map_err(|_| format!("has the unknown version {number}"))
    };
    let (version, cuda) = (number("cudnnGetVersion")?, number("cudnnGetCudartVersion")?);
    let scale = if version < 10_000 { 1000 } else { 10_000 };
    Ok(DnnVersion { cudnn: [version / scale, version % scale / 100], cuda: cuda / 1000 })
}

fn address(library: &Library, name: &str) -> Result<*mut c_void> {
    library.address(name).map_err(|_| format!("has no function {name}"))
}

fn check(status: c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(format!("does not report its version (status {status})")) }
}
