//! Backends: the prelude is compiled separately for the CPU and for each GPU backend.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::prelude::toolchain::{on_path, output, prepend_path, with_standard_library};

const LOADER_VARIABLE: &str = "LD_LIBRARY_PATH";
/// Remedy for missing libraries.
pub const LIBRARIES_REMEDY: &str =
    "install what they belong to (libcuda is the driver's), or add their folder to LD_LIBRARY_PATH";

/// Newest CUDA version that candle's bindings support; later versions are treated as this one.
const NEWEST_CUDA: (u32, u32) = (13, 4);
const CUDA_VERSION_VARIABLE: &str = "CUDARC_CUDA_VERSION";

/// Device for which the prelude is compiled. Default: the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(multiple = false)]
pub struct Backend {
    /// Compute on an NVIDIA GPU; the first time this compiles the prelude for it.
    #[arg(long)]
    cuda: bool,
    /// Compute on an NVIDIA GPU, with convolutions by cuDNN.
    #[arg(long)]
    cudnn: bool,
    /// Compute on an Apple GPU.
    #[arg(long)]
    metal: bool,
}

impl Backend {
    /// Backend for an NVIDIA GPU.
    pub const CUDA: Backend = Backend { cuda: true, cudnn: false, metal: false };

    pub const ALL: [Backend; 4] = [
        Backend { cuda: false, cudnn: false, metal: false },
        Backend::CUDA,
        Backend { cuda: false, cudnn: true, metal: false },
        Backend { cuda: false, cudnn: false, metal: true },
    ];

    /// The prelude's cargo feature, which is also the option's name.
    pub fn feature(self) -> Option<&'static str> {
        match self {
            Backend { cuda: true, .. } => Some("cuda"),
            Backend { cudnn: true, .. } => Some("cudnn"),
            Backend { metal: true, .. } => Some("metal"),
            _ => None,
        }
    }

    /// Name of the kernel in `jupyter kernelspec list`.
    pub fn kernel_name(self) -> String {
        self.feature().map_or("headstart".into(), |feature| format!("headstart-{feature}"))
    }

    /// Name of the kernel in Jupyter's user interface.
    pub fn display_name(self) -> &'static str {
        match self.feature() {
            None => "Headstart (Rust)",
            Some("cuda") => "Headstart (Rust, CUDA)",
            Some("cudnn") => "Headstart (Rust, cuDNN)",
            Some(_) => "Headstart (Rust, Metal)",
        }
    }

    /// Folder of the toolkit's libraries, which the system's loader may not search.
    pub fn libraries(self) -> Option<PathBuf> {
        let toolkit = (self.cuda || self.cudnn).then(toolkit)?.ok()?;
        let home = toolkit.nvcc.canonicalize().ok()?.parent()?.parent()?.to_owned();
        ["lib64", "lib"].map(|name| home.join(name)).into_iter().find(|path| path.is_dir())
    }

    /// Environment variable for the loader, and its value: the prelude's own folder, the standard
    /// library's, and CUDA's. The prelude's comes first because `cargo run` may put the folder of another
    /// prelude into the variable.
    pub fn search_path(self, prelude: &Path) -> Option<(&'static str, OsString)> {
        let path = std::env::var_os(LOADER_VARIABLE);
        let path = match self.libraries() {
            Some(libraries) => prepend_path(libraries, path),
            None => path,
        };
        Some((LOADER_VARIABLE, prepend_path(prelude.to_owned(), with_standard_library(path))?))
    }

    /// Describes the libraries that a prelude needs and the loader does not find.
    pub fn missing_libraries(self, prelude: &Path) -> Option<String> {
        let mut ldd = Command::new("ldd");
        ldd.arg(prelude);
        let text = output(ldd.envs(self.search_path(prelude.parent()?))).ok()?;
        let names: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_suffix(" => not found")).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} needs libraries that the loader does not find: {}",
                prelude.display(),
                names.join(", ")
            )
        })
    }

    /// Adds this backend's cargo feature to a build of the prelude.
    ///
    /// # Errors
    /// If the required toolkit is not installed.
    pub fn add_feature(self, cargo: &mut Command) -> Result<(), String> {
        let Some(feature) = self.feature() else { return Ok(()) };
        cargo.args(["--features", feature]);
        if self.cuda || self.cudnn {
            let toolkit = toolkit()?;
            if toolkit.version > NEWEST_CUDA && std::env::var_os(CUDA_VERSION_VARIABLE).is_none() {
                let (major, minor) = NEWEST_CUDA;
                cargo.env(CUDA_VERSION_VARIABLE, format!("{major}0{minor}0"));
            }
        }
        Ok(())
    }
}

/// NVIDIA's compiler and its version.
#[derive(Debug)]
pub struct Toolkit {
    pub nvcc: PathBuf,
    pub version: (u32, u32),
}

/// Finds the CUDA toolkit for compilation.
pub fn toolkit() -> Result<Toolkit, String> {
    let homes = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"].into_iter().filter_map(std::env::var_os);
    let homes = homes.chain(["/usr/local/cuda".into()]).map(|home| PathBuf::from(home).join("bin"));
    let at_home = || homes.map(|home| home.join("nvcc")).find(|nvcc| nvcc.is_file());
    let nvcc = on_path("nvcc").or_else(at_home).ok_or(
        "there is no nvcc on the PATH, in CUDA_HOME or in /usr/local/cuda\n\
         hint: install the CUDA toolkit: apt install nvidia-cuda-toolkit, or https://developer.nvidia.com/cuda-downloads",
    )?;
    let text = output(Command::new(&nvcc).arg("--version"))?;
    let version =
        parse_version(&text).ok_or_else(|| format!("the output of {} has no version", nvcc.display()))?;
    Ok(Toolkit { nvcc, version })
}

/// Parses the version in `Cuda compilation tools, release 13.0, V13.0.48`, or after `CUDA Version:`.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once("release ").or_else(|| text.split_once("CUDA Version: "))?;
    let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let (major, minor) = number.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// Whether this machine has an NVIDIA GPU, according to Linux's list of PCI devices.
pub fn has_nvidia_card(devices: &Path) -> bool {
    let devices = std::fs::read_dir(devices).into_iter().flatten().flatten();
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    // Vendor id of NVIDIA, and the class of display and 3D controllers.
    devices.map(|device| device.path()).any(|device| {
        read(device.join("vendor")).trim() == "0x10de" && read(device.join("class")).starts_with("0x03")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed() {
        assert_eq!(parse_version("Cuda compilation tools, release 13.0, V13.0.48"), Some((13, 0)));
        assert_eq!(parse_version("| Driver Version: 550.54   CUDA Version: 12.4     |"), Some((12, 4)));
        assert_eq!(parse_version("nothing"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn missing_libraries_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let build = |name: &str, needed: &[&str]| {
            let library = folder.path().join(format!("lib{name}.so"));
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-x", "c", "/dev/null", "-Wl,--no-as-needed", "-L"]).arg(folder.path());
            output(cc.args(needed).arg("-o").arg(&library)).unwrap();
            library
        };
        let gone = build("gone", &[]);
        let needs = build("needs", &["-lgone"]);
        assert_eq!(Backend::default().missing_libraries(&gone), None);
        std::fs::remove_file(gone).unwrap();
        let text = Backend::default().missing_libraries(&needs).unwrap();
        assert!(
            text.ends_with("libneeds.so needs libraries that the loader does not find: libgone.so"),
            "{text}"
        );
    }

    #[test]
    fn a_gpu_is_found_by_its_vendor_and_class() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_nvidia_card(folder.path()));
        for (name, vendor, class) in [("a", "0x8086\n", "0x030000\n"), ("b", "0x10de\n", "0x040300\n")] {
            let device = folder.path().join(name);
            std::fs::create_dir(&device).unwrap();
            std::fs::write(device.join("vendor"), vendor).unwrap();
            std::fs::write(device.join("class"), class).unwrap();
        }
        assert!(!has_nvidia_card(folder.path()), "Intel's graphics and NVIDIA's sound");
        std::fs::write(folder.path().join("b/class"), "0x030200\n").unwrap();
        assert!(has_nvidia_card(folder.path()));
    }
}
