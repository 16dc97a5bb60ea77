//! Where the libraries are found, and what is said if they are not.

use std::path::{Path, PathBuf};

use headstart_gpu::{Error, Gpu, Libraries, Precision};

use super::fake;

#[test]
fn each_library_is_found_in_its_folder() {
    let libraries = fake::libraries();
    let files: Vec<PathBuf> = libraries.report().into_iter().map(|found| found.file.unwrap()).collect();
    let names = ["libcuda.so.1", "libnvrtc.so.13", "libcublas.so.13", "libcudnn.so.9"];
    assert_eq!(files, names.map(|name| fake::folder().join(name)));
}

/// A folder with some of the fake libraries.
fn folder_with(name: &str, files: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for file in files {
        std::fs::copy(fake::folder().join(file), folder.join(file)).unwrap();
    }
    folder
}

#[test]
fn a_missing_library_is_named_with_its_package() {
    let empty = folder_with("no-libraries", &[]);
    let error = Gpu::open(0, &Libraries::in_folders([empty.clone()]), Precision::Float32).unwrap_err();
    assert!(matches!(error, Error::Library { .. }));
    let error = error.to_string();
    assert!(error.contains("the NVIDIA driver not found") && error.contains("libcuda.so.1"), "{error}");
    let driver = folder_with("driver-only", &["libcuda.so.1"]);
    let error = Gpu::open(0, &Libraries::in_folders([driver.clone()]), Precision::Float32).unwrap_err();
    assert!(error.to_string().contains("pip install nvidia-cuda-nvrtc"), "{error}");
    // A file that is no library.
    std::fs::write(driver.join("libnvrtc.so.13"), "text").unwrap();
    let error = Gpu::open(0, &Libraries::in_folders([driver.clone()]), Precision::Float32).unwrap_err();
    assert!(error.to_string().contains("libnvrtc.so.13"), "{error}");
    // A library without the functions.
    std::fs::copy(fake::folder().join("libcublas.so.13"), driver.join("libnvrtc.so.13")).unwrap();
    let error = Gpu::open(0, &Libraries::in_folders([driver.clone()]), Precision::Float32).unwrap_err();
    assert!(matches!(&error, Error::Function { function, .. } if function == "nvrtcVersion"), "{error}");
    for folder in [empty, driver] {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_number_beyond_the_gpus_is_refused() {
    let error = Gpu::open(3, &fake::libraries(), Precision::Float32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "GPU 3: expected a number below 1, the number of NVIDIA GPUs of this machine"
    );
}

#[test]
fn a_compiler_that_is_newer_than_the_driver_is_refused() {
    // The fake libraries read these variables, so the test has a process of its own.
    if std::env::var_os("FAKE_NVRTC_MAJOR").is_none() {
        let test = "libraries::a_compiler_that_is_newer_than_the_driver_is_refused";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let status =
            command.args(["--exact", test]).env("FAKE_NVRTC_MAJOR", "13").env("FAKE_CUDA_VERSION", "12080");
        assert!(status.status().unwrap().success());
        return;
    }
    let error = Gpu::open(0, &fake::libraries(), Precision::Float32).unwrap_err().to_string();
    assert!(
        error.contains("the driver supports CUDA 12.8") && error.contains("nvidia-cuda-nvrtc-cu12"),
        "{error}"
    );
}
