//! CUDA's libraries for machines without a GPU: the driver, cuDNN, cuBLAS and NVRTC, compiled from the C++ in this folder.
//! They execute everything on the host's memory.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use headstart_gpu::{Gpu, KERNELS, Libraries, Precision, SOURCE};

/// Each library: its file, and its source.
const LIBRARIES: [(&str, &str); 4] = [
    ("libcuda.so.1", include_str!("cuda.cpp")),
    ("libcudnn.so.9", include_str!("cudnn.cpp")),
    ("libcublas.so.13", include_str!("cublas.cpp")),
    ("libnvrtc.so.13", include_str!("nvrtc.cpp")),
];

/// Files that their sources include.
const HEADERS: [(&str, &str); 2] =
    [("driver.h", include_str!("driver.h")), ("blocks.h", include_str!("blocks.h"))];

/// The folder with the libraries, compiled on the first call and whenever a source changes.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        (SOURCE, LIBRARIES, HEADERS).hash(&mut hasher);
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = root.join(format!("fake-cuda-{:016x}", hasher.finish()));
        if !folder.exists() {
            // Another test may compile at the same time: the first rename counts.
            let partial = root.join(format!("fake-cuda-{}", std::process::id()));
            compile(&partial);
            if std::fs::rename(&partial, &folder).is_err() {
                let _ = std::fs::remove_dir_all(&partial);
            }
        }
        assert!(folder.exists(), "{} was not made", folder.display());
        folder
    })
}

fn compile(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    // The kernels, as the C++ compiler takes them: `extern "C"` is repeated by `__global__`'s users only.
    std::fs::write(folder.join("kernels.inc"), SOURCE).unwrap();
    let table: String = KERNELS.iter().map(|name| format!("KERNEL({name})\n")).collect();
    std::fs::write(folder.join("table.inc"), table).unwrap();
    for (file, text) in HEADERS {
        std::fs::write(folder.join(file), text).unwrap();
    }
    for (file, source) in LIBRARIES {
        let path = folder.join(file).with_extension("cpp");
        std::fs::write(&path, source).unwrap();
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-ffp-contract=off", "-o"]);
        let status = compiler.arg(folder.join(file)).arg(&path).arg("-ldl").status();
        assert!(status.expect("a C++ compiler").success(), "{file} does not compile");
    }
}

/// Whether the tests run on this machine's GPU instead (`HEADSTART_TEST_GPU=real`): see tests/gpu.
pub fn is_real() -> bool {
    std::env::var_os("HEADSTART_TEST_GPU").is_some_and(|value| value == "real")
}

/// A GPU of the fake driver.
#[allow(dead_code, reason = "not every test opens one")]
pub fn open(precision: Precision) -> Gpu {
    let libraries = if is_real() { Libraries::from_system() } else { libraries() };
    Gpu::open(0, &libraries, precision).expect("a GPU")
}

/// The fake libraries.
#[allow(dead_code, reason = "not every test opens them")]
pub fn libraries() -> Libraries {
    Libraries::in_folders([folder().to_owned()])
}

/// The number of launches of a kernel in this process.
#[cfg(unix)]
#[allow(dead_code, reason = "not every test counts them")]
pub fn launches_of(kernel: &str) -> u32 {
    call_with("libcuda.so.1", "fake_cuda_launches_of", kernel) as u32
}

/// Calls a function of a fake library that returns a number, as `fake_cuda_launches`.
#[cfg(unix)]
#[allow(dead_code, reason = "not every test calls one")]
pub fn call(library: &str, function: &str) -> i32 {
    call_with(library, function, "")
}

#[cfg(unix)]
#[allow(dead_code, unsafe_code, reason = "not every test calls one")]
fn call_with(library: &str, function: &str, argument: &str) -> i32 {
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    let path = text(folder().join(library).to_str().unwrap());
    let argument = text(argument);
    // SAFETY: the library is open, and its function takes a C string or nothing and returns an `int` or an `unsigned long`,
    // of which the low half is read. A function that takes nothing ignores the argument, which is in a register.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let address = libc::dlsym(library, text(function).as_ptr());
        assert!(!address.is_null(), "{function} is missing");
        type Function = unsafe extern "C" fn(*const libc::c_char) -> i32;
        std::mem::transmute::<*mut libc::c_void, Function>(address)(argument.as_ptr())
    }
}
