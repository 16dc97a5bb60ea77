//! Finds CUDA's libraries: in the loader's folders, in CUDA's own, or in Python packages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::raw::{self, Library};
use crate::{Error, Result};

/// Environment variable with folders that are searched first, separated by `:`.
const FOLDERS_VARIABLE: &str = "HEADSTART_CUDA_LIBRARIES";

/// The CUDA versions whose libraries are supported, from new to old.
const MAJORS: [i32; 2] = [13, 12];

/// A library: its name in messages, its file without the version, and how to install it for each of [`MAJORS`].
struct LibrarySpec {
    name: &'static str,
    file: &'static str,
    hints: [&'static str; 2],
}

const DRIVER: LibrarySpec = LibrarySpec {
    name: "the NVIDIA driver",
    file: "libcuda.so",
    hints: ["install NVIDIA's driver; a machine without an NVIDIA GPU has none"; 2],
};
const NVRTC: LibrarySpec = LibrarySpec {
    name: "NVRTC (CUDA 13 or 12)",
    file: "libnvrtc.so",
    hints: [
        "install PyTorch, or `pip install nvidia-cuda-nvrtc`, or set HEADSTART_CUDA_LIBRARIES to its folder",
        "install PyTorch, or `pip install nvidia-cuda-nvrtc-cu12`, or set HEADSTART_CUDA_LIBRARIES to its folder",
    ],
};
const BLAS: LibrarySpec = LibrarySpec {
    name: "cuBLAS (CUDA 13 or 12)",
    file: "libcublas.so",
    hints: [
        "install PyTorch, or `pip install nvidia-cublas`, or set HEADSTART_CUDA_LIBRARIES to its folder",
        "install PyTorch, or `pip install nvidia-cublas-cu12`, or set HEADSTART_CUDA_LIBRARIES to its folder",
    ],
};
/// cuBLAS depends on it, and does not find it in another folder.
const BLAS_LT: LibrarySpec = LibrarySpec { name: "cuBLASLt", file: "libcublasLt.so", hints: BLAS.hints };
const DNN: LibrarySpec = LibrarySpec {
    name: "cuDNN 9",
    file: "libcudnn.so",
    hints: [
        "install PyTorch, or `pip install nvidia-cudnn-cu13`, or set HEADSTART_CUDA_LIBRARIES to its folder",
        "install PyTorch, or `pip install nvidia-cudnn-cu12`, or set HEADSTART_CUDA_LIBRARIES to its folder",
    ],
};

impl LibrarySpec {
    /// How to install the library of a CUDA version.
    fn hint(&self, major: i32) -> &'static str {
        self.hints[usize::from(major < MAJORS[0])]
    }
}

/// The libraries of one CUDA version.
#[derive(Debug)]
struct Toolkit {
    nvrtc: Library,
    blas: Library,
    dnn: Result<Library>,
}

/// The folders in which CUDA's libraries are looked for. Each library is opened when it is first needed.
#[derive(Debug, Default)]
pub struct Libraries {
    /// Folders before the loader's.
    first: Vec<PathBuf>,
    /// Whether the loader's folders are searched.
    by_name: bool,
    /// Folders after the loader's.
    last: Vec<PathBuf>,
    driver: OnceLock<Library>,
    toolkit: OnceLock<Toolkit>,
}

/// A library that was found, for a report.
#[derive(Clone, Debug)]
pub struct Found {
    /// The library's name.
    pub name: &'static str,
    /// Its file, or why it cannot be loaded.
    pub file: Result<PathBuf>,
}

impl Libraries {
    /// The folders of this machine: those of `HEADSTART_CUDA_LIBRARIES`, the loader's, CUDA's, the folders
    /// `nvidia/*/lib` that PyTorch and the packages on PyPI install, and conda's.
    pub fn from_system() -> Libraries {
        let first = std::env::var_os(FOLDERS_VARIABLE);
        let first = first.map(|paths| std::env::split_paths(&paths).collect()).unwrap_or_default();
        // The driver's folder in containers, CUDA's folder, and the driver's folder in WSL.
        let known = ["/usr/local/nvidia/lib64", "/usr/local/cuda/lib64", "/usr/lib/wsl/lib"];
        let mut last: Vec<PathBuf> = known.map(PathBuf::from).to_vec();
        let roots = python_roots();
        for packages in package_folders(&roots) {
            last.extend(subfolders(&packages.join("nvidia")).into_iter().map(|package| package.join("lib")));
        }
        // Conda installs CUDA's libraries beside its own.
        last.extend(roots.iter().map(|root| root.join("lib")));
        Libraries { first, by_name: true, last, ..Libraries::default() }
    }

    /// Searches only these folders, not the loader's.
    pub fn in_folders(folders: impl IntoIterator<Item = PathBuf>) -> Libraries {
        Libraries { first: folders.into_iter().collect(), ..Libraries::default() }
    }

    pub(crate) fn driver(&self) -> Result<&Library> {
        get_or_open(&self.driver, || {
            self.find(&DRIVER, &["libcuda.so.1", "libcuda.so"], DRIVER.hints[0], |_| Ok(()))
        })
    }

    pub(crate) fn nvrtc(&self) -> Result<Library> {
        match self.toolkit() {
            Ok(toolkit) => Ok(toolkit.nvrtc.clone()),
            // The kernels compile without cuBLAS.
            Err(_) => self.newest(|major| self.nvrtc_of(major)),
        }
    }

    pub(crate) fn blas(&self) -> Result<&Library> {
        Ok(&self.toolkit()?.blas)
    }

    pub(crate) fn dnn(&self) -> Result<&Library> {
        self.toolkit()?.dnn.as_ref().map_err(Clone::clone)
    }

    /// The libraries of the newest CUDA version that the driver supports, and for which all are found. If there is
    /// none, cuDNN may be missing.
    fn toolkit(&self) -> Result<&Toolkit> {
        get_or_open(&self.toolkit, || {
            let complete = self.newest(|major| {
                let toolkit = self.toolkit_of(major)?;
                toolkit.dnn.as_ref().map_err(Clone::clone)?;
                Ok(toolkit)
            });
            complete.or_else(|_| self.newest(|major| self.toolkit_of(major)))
        })
    }

    fn toolkit_of(&self, major: i32) -> Result<Toolkit> {
        let nvrtc = self.nvrtc_of(major)?;
        // If it is missing, the loader's message for cuBLAS says so.
        let _ = self.find(&BLAS_LT, &files(&BLAS_LT, major), BLAS_LT.hint(major), |_| Ok(()));
        let blas = self.find(&BLAS, &files(&BLAS, major), BLAS.hint(major), |library| {
            same_major(raw::blas_major(library)?, major)
        })?;
        let dnn = self.find(&DNN, &["libcudnn.so.9", "libcudnn.so"], DNN.hint(major), |library| {
            let version = raw::dnn_version(library)?;
            if version.cudnn < [9, 0] {
                let [major, minor] = version.cudnn;
                return Err(format!("is cuDNN {major}.{minor}, expected version 9"));
            }
            same_major(version.cuda, major)
        });
        Ok(Toolkit { nvrtc, blas, dnn })
    }

    fn nvrtc_of(&self, major: i32) -> Result<Library> {
        self.find(&NVRTC, &files(&NVRTC, major), NVRTC.hint(major), |library| {
            same_major(raw::nvrtc_major(library)?, major)
        })
    }

    /// The first result for the CUDA versions that the driver supports, from new to old. The error is that of the
    /// version for which most was found.
    fn newest<T>(&self, find: impl Fn(i32) -> Result<T>) -> Result<T> {
        let driver = self.driver().ok().and_then(|driver| raw::driver_version(driver).ok());
        let is_supported = |major: &i32| driver.is_none_or(|[newest, _]| *major <= newest);
        let mut failure: Option<Error> = None;
        for major in MAJORS.into_iter().filter(is_supported) {
            match find(major) {
                Ok(found) => return Ok(found),
                // If only cuBLAS is missing, NVRTC was found.
                Err(error) => {
                    failure = Some(
                        failure.filter(|first| is_of(first, &BLAS) || !is_of(&error, &BLAS)).unwrap_or(error),
                    );
                }
            }
        }
        let [major, minor] = driver.unwrap_or_default();
        let mut failure = failure.unwrap_or_else(|| Error::Library {
            library: NVRTC.name,
            tried: "none".into(),
            hint: "update the NVIDIA driver to one for CUDA 12 or 13",
        });
        if let Error::Library { tried, .. } = &mut failure
            && driver.is_some_and(|[newest, _]| newest < MAJORS[0])
        {
            tried.push_str(&format!("; the driver supports CUDA {major}.{minor}"));
        }
        Err(failure)
    }

    /// Each library with its file, for a report. Opens all of them.
    pub fn report(&self) -> Vec<Found> {
        let found = |name, library: Result<&Library>| Found {
            name,
            file: library.map(|library| library.path().to_owned()),
        };
        vec![
            found(DRIVER.name, self.driver()),
            found(NVRTC.name, self.nvrtc().as_ref().map_err(Clone::clone)),
            found(BLAS.name, self.blas()),
            found(DNN.name, self.dnn()),
        ]
    }

    /// The first file that can be loaded and that `accepts`, which otherwise says why not.
    fn find(
        &self,
        spec: &LibrarySpec,
        files: &[impl AsRef<Path>],
        hint: &'static str,
        accepts: impl Fn(&Library) -> std::result::Result<(), String>,
    ) -> Result<Library> {
        let mut tried = Vec::new();
        let in_folders = |folders: &[PathBuf]| -> Vec<OsString> {
            let paths = folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file)));
            paths.filter(|path| path.exists()).map(PathBuf::into_os_string).collect()
        };
        let by_name = files.iter().filter(|_| self.by_name).map(|file| file.as_ref().into());
        for candidate in in_folders(&self.first).into_iter().chain(by_name).chain(in_folders(&self.last)) {
            match Library::open(&candidate) {
                Ok(library) => match accepts(&library) {
                    Ok(()) => return Ok(library),
                    Err(reason) => tried.push(format!("{} {reason}", candidate.display())),
                },
                Err(message) => tried.push(message),
            }
        }
        if tried.is_empty() {
            let files: Vec<_> = files.iter().map(|file| file.as_ref().display().to_string()).collect();
            tried.push(format!("{} in {:?}", files.join(", "), self.first));
        }
        Err(Error::Library { library: spec.name, tried: tried.join("; "), hint })
    }
}

/// The files of a library for a CUDA version. The last may be of any version.
fn files(spec: &LibrarySpec, major: i32) -> [String; 2] {
    [format!("{}.{major}", spec.file), spec.file.to_owned()]
}

fn same_major(found: i32, expected: i32) -> std::result::Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("is for CUDA {found}, expected CUDA {expected}")) }
}

fn is_of(error: &Error, spec: &LibrarySpec) -> bool {
    matches!(error, Error::Library { library, .. } if *library == spec.name)
}

fn get_or_open<T>(cell: &OnceLock<T>, open: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(known) => Ok(known),
        None => {
            let opened = open()?;
            Ok(cell.get_or_init(|| opened))
        }
    }
}

/// Folders of Python installations: of the active environment, of the `python3` on the `PATH`, and of the user.
fn python_roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let pythons = std::env::split_paths(&path).map(|folder| folder.join("python3"));
    for python in pythons.filter(|python| python.exists()) {
        let target = python.canonicalize().unwrap_or_else(|_| python.clone());
        roots.extend([python, target].iter().filter_map(|file| Some(file.parent()?.parent()?.to_owned())));
    }
    roots.extend(std::env::home_dir().map(|home| home.join(".local")));
    roots.extend(["/usr/local", "/usr"].map(PathBuf::from));
    roots
}

/// The folders of Python packages below the roots.
fn package_folders(roots: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for root in roots {
        let versions = subfolders(&root.join("lib"));
        let versions = versions.iter().filter(|folder| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
        });
        for folder in
            versions.flat_map(|version| ["site-packages", "dist-packages"].map(|name| version.join(name)))
        {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders
}

/// The folders in a folder, sorted by name. Empty if it does not exist.
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
