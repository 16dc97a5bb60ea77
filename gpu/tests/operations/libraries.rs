//! Where the libraries are found, and what is said if they are not.

use std::path::{Path, PathBuf};

use headstart_gpu::{Error, Gpu, Libraries, Precision};

use super::{fake, is_own_process};

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
    assert!(error.to_string().contains("libnvrtc.so.13 has no function nvrtcVersion"), "{error}");
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
        for (package, file) in
            [("cu13", "libcuda.so.1"), ("cu13", "libnvrtc.so.13"), ("cublas", "libcublas.so.13")]
        {
            let folder = packages.join(package).join("lib");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::copy(fake::folder().join(file), folder.join(file)).unwrap();
        }
        // As conda installs it.
        let file = "libcudnn.so.9";
        std::fs::copy(fake::folder().join(file), environment.join("lib").join(file)).unwrap();
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
    for found in Libraries::from_system().report() {
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

/// A folder with fake libraries of CUDA 12 or 13, with the driver and cuDNN.
fn folder_of_cuda(name: &str, nvrtc: &[i32], blas: &[i32]) -> PathBuf {
    let folder = folder_with(name, &["libcuda.so.1", "libcudnn.so.9"]);
    for (library, majors) in [("libnvrtc", nvrtc), ("libcublas", blas)] {
        for major in majors {
            // A fake library has the version of its name.
            let from = fake::folder().join(format!("{library}.so.13"));
            std::fs::copy(from, folder.join(format!("{library}.so.{major}"))).unwrap();
        }
    }
    folder
}

fn names(folder: &Path) -> Vec<Result<String, String>> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let report = Libraries::in_folders([folder.to_owned()]).report();
    report.into_iter().map(|found| found.file.map(name).map_err(|error| error.to_string())).collect()
}

#[test]
fn libraries_that_are_newer_than_the_driver_are_not_used() {
    const TEST: &str = "libraries::libraries_that_are_newer_than_the_driver_are_not_used";
    if !is_own_process(TEST, &[("FAKE_CUDA_VERSION", "12080"), ("FAKE_CUDNN_CUDA", "12090")]) {
        return;
    }
    let folder = folder_of_cuda("both-versions", &[12, 13], &[12, 13]);
    let found: Vec<String> = names(&folder).into_iter().map(Result::unwrap).collect();
    assert_eq!(found, ["libcuda.so.1", "libnvrtc.so.12", "libcublas.so.12", "libcudnn.so.9"]);
    let libraries = Libraries::in_folders([folder.clone()]);
    assert!(Gpu::open(0, &libraries, Precision::Float32).is_ok());
    // Those of CUDA 13 only.
    let error = Gpu::open(0, &fake::libraries(), Precision::Float32).unwrap_err().to_string();
    assert!(error.contains("the driver supports CUDA 12.8"), "{error}");
    assert!(error.contains("nvidia-cuda-nvrtc-cu12"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn libraries_are_of_one_cuda_version() {
    const TEST: &str = "libraries::libraries_are_of_one_cuda_version";
    if !is_own_process(TEST, &[("FAKE_CUDNN_CUDA", "12090")]) {
        return;
    }
    // NVRTC 13 has no cuBLAS.
    let folder = folder_of_cuda("mixed-versions", &[12, 13], &[12]);
    let found: Vec<String> = names(&folder).into_iter().map(Result::unwrap).collect();
    assert_eq!(found, ["libcuda.so.1", "libnvrtc.so.12", "libcublas.so.12", "libcudnn.so.9"]);
    std::fs::remove_dir_all(folder).unwrap();
    // Both have all but cuDNN, which is for CUDA 12.
    let folder = folder_of_cuda("both-with-one-cudnn", &[12, 13], &[12, 13]);
    assert_eq!(names(&folder)[1].as_deref(), Ok("libnvrtc.so.12"));
    std::fs::remove_dir_all(folder).unwrap();
    // No version has both.
    let folder = folder_of_cuda("divided-versions", &[13], &[12]);
    let found = names(&folder);
    assert_eq!(found[1].as_deref(), Ok("libnvrtc.so.13"));
    let error = found[2].as_ref().unwrap_err();
    assert!(error.contains("libcublas.so.13") && error.contains("`pip install nvidia-cublas`"), "{error}");
    // A file without a version in its name is asked for it.
    std::fs::rename(folder.join("libcublas.so.12"), folder.join("libcublas.so")).unwrap();
    assert_eq!(names(&folder)[2].as_deref(), Ok("libcublas.so"));
    // cuDNN is for CUDA 12.
    let error = names(&folder)[3].clone().unwrap_err();
    assert!(error.contains("libcudnn.so.9 is for CUDA 12, expected CUDA 13"), "{error}");
    assert!(error.contains("nvidia-cudnn-cu13"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_old_cudnn_is_refused() {
    const TEST: &str = "libraries::an_old_cudnn_is_refused";
    if !is_own_process(TEST, &[("FAKE_CUDNN_VERSION", "8907")]) {
        return;
    }
    let error = Gpu::open(0, &fake::libraries(), Precision::Float32).unwrap_err();
    assert!(matches!(error, Error::Library { library: "cuDNN 9", .. }), "{error}");
    assert!(error.to_string().contains("is cuDNN 8.9, expected version 9"), "{error}");
}
