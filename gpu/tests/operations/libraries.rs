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
fn libraries_of_python_packages_are_found() {
    const TEST: &str = "libraries::libraries_of_python_packages_are_found";
    let environment = folder_with("environment", &[]);
    let packages = environment.join("lib/python3.12/site-packages/nvidia");
    if std::env::var_os("VIRTUAL_ENV").is_none_or(|folder| !Path::new(&folder).ends_with("of-libraries")) {
        for (package, file) in [
            ("cu13", "libcuda.so.1"),
            ("cu13", "libnvrtc.so.13"),
            ("cublas", "libcublas.so.13"),
            ("cudnn", "libcudnn.so.9"),
        ] {
            let folder = packages.join(package).join("lib");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::copy(fake::folder().join(file), folder.join(file)).unwrap();
        }
        // The environment of a process is read, so the test has a process of its own.
        let named = environment.with_file_name("of-libraries");
        let _ = std::fs::remove_dir_all(&named);
        std::fs::rename(&environment, &named).unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", TEST]).env("VIRTUAL_ENV", &named).env_remove("HEADSTART_CUDA_LIBRARIES");
        assert!(command.status().unwrap().success());
        std::fs::remove_dir_all(named).unwrap();
        return;
    }
    std::fs::remove_dir_all(environment).unwrap();
    for found in Libraries::of_system().report() {
        let file = found.file.unwrap();
        // The loader's own libraries come first, where a machine has them.
        let is_of_loader = file.components().count() == 1;
        assert!(is_of_loader || file.iter().any(|part| part == "of-libraries"), "{}", file.display());
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
