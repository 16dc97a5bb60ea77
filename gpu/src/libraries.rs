//! Finds CUDA's libraries: in the loader's folders, in CUDA's own, or in Python packages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::raw::Library;
use crate::{Error, Result};

/// Environment variable with folders that are searched first, separated by `:`.
const FOLDERS_VARIABLE: &str = "HEADSTART_CUDA_LIBRARIES";

/// A library: its name in messages, its file names with the newest first, and how to install it.
struct Known {
    name: &'static str,
    files: &'static [&'static str],
    hint: &'static str,
}

const DRIVER: Known = Known {
    name: "the NVIDIA driver",
    files: &["libcuda.so.1", "libcuda.so"],
    hint: "install NVIDIA's driver; a machine without an NVIDIA GPU has none",
};
const NVRTC: Known = Known {
    name: "NVRTC (CUDA 13 or 12)",
    files: &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
    hint: "install PyTorch, or `pip install nvidia-cuda-nvrtc`, or set HEADSTART_CUDA_LIBRARIES to its folder",
};
const BLAS: Known = Known {
    name: "cuBLAS (CUDA 13 or 12)",
    files: &["libcublas.so.13", "libcublas.so.12", "libcublas.so"],
    hint: "install PyTorch, or `pip install nvidia-cublas`, or set HEADSTART_CUDA_LIBRARIES to its folder",
};
/// A dependency of cuBLAS. It is opened first, because the loader does not search the folder of cuBLAS.
const BLAS_LT: Known =
    Known { name: "cuBLASLt", files: &["libcublasLt.so.13", "libcublasLt.so.12"], hint: BLAS.hint };
const DNN: Known = Known {
    name: "cuDNN 9",
    files: &["libcudnn.so.9", "libcudnn.so"],
    hint: "install PyTorch, or `pip install nvidia-cudnn-cu13`, or set HEADSTART_CUDA_LIBRARIES to its folder",
};

/// The folders that are searched for CUDA's libraries. Each library is opened when it is first needed.
#[derive(Debug, Default)]
pub struct Libraries {
    /// Folders before the loader's.
    first: Vec<PathBuf>,
    /// Whether the loader's folders are searched.
    by_name: bool,
    /// Folders after the loader's.
    last: Vec<PathBuf>,
    driver: OnceLock<Library>,
    nvrtc: OnceLock<Library>,
    blas: OnceLock<Library>,
    dnn: OnceLock<Library>,
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
    /// The folders of this machine: those of `HEADSTART_CUDA_LIBRARIES`, the loader's, CUDA's, and the folders
    /// `nvidia/*/lib` that PyTorch and the packages on PyPI install.
    pub fn of_system() -> Libraries {
        let first = std::env::var_os(FOLDERS_VARIABLE);
        let first = first.map(|paths| std::env::split_paths(&paths).collect()).unwrap_or_default();
        let mut last = vec![PathBuf::from("/usr/local/cuda/lib64"), PathBuf::from("/usr/lib/wsl/lib")];
        for packages in python_folders() {
            last.extend(subfolders(&packages.join("nvidia")).into_iter().map(|package| package.join("lib")));
        }
        Libraries { first, by_name: true, last, ..Libraries::default() }
    }

    /// Searches only these folders, not the loader's.
    pub fn in_folders(folders: impl IntoIterator<Item = PathBuf>) -> Libraries {
        Libraries { first: folders.into_iter().collect(), ..Libraries::default() }
    }

    pub(crate) fn driver(&self) -> Result<&Library> {
        self.open(&DRIVER, &self.driver)
    }

    pub(crate) fn nvrtc(&self) -> Result<&Library> {
        self.open(&NVRTC, &self.nvrtc)
    }

    pub(crate) fn blas(&self) -> Result<&Library> {
        if self.blas.get().is_none() {
            // If it is missing, the loader's message for cuBLAS says so.
            let _ = self.find(&BLAS_LT);
        }
        self.open(&BLAS, &self.blas)
    }

    pub(crate) fn dnn(&self) -> Result<&Library> {
        self.blas()?;
        self.open(&DNN, &self.dnn)
    }

    /// Each library with its file, for a report. Opens all of them.
    pub fn report(&self) -> Vec<Found> {
        let found = |name, library: Result<&Library>| Found {
            name,
            file: library.map(|library| library.path().to_owned()),
        };
        vec![
            found(DRIVER.name, self.driver()),
            found(NVRTC.name, self.nvrtc()),
            found(BLAS.name, self.blas()),
            found(DNN.name, self.dnn()),
        ]
    }

    fn open<'a>(&self, known: &Known, library: &'a OnceLock<Library>) -> Result<&'a Library> {
        match library.get() {
            Some(library) => Ok(library),
            None => {
                let found = self.find(known)?;
                Ok(library.get_or_init(|| found))
            }
        }
    }

    fn find(&self, known: &Known) -> Result<Library> {
        let mut tried = Vec::new();
        let in_folders = |folders: &[PathBuf]| -> Vec<OsString> {
            let paths = folders.iter().flat_map(|folder| known.files.iter().map(|file| folder.join(file)));
            paths.filter(|path| path.exists()).map(PathBuf::into_os_string).collect()
        };
        let by_name = known.files.iter().filter(|_| self.by_name).map(OsString::from);
        let candidates = in_folders(&self.first).into_iter().chain(by_name).chain(in_folders(&self.last));
        for candidate in candidates {
            match Library::open(&candidate) {
                Ok(library) => return Ok(library),
                Err(message) => tried.push(message),
            }
        }
        if tried.is_empty() {
            tried.push(format!("{} in {:?}", known.files.join(", "), self.first));
        }
        Err(Error::Library { library: known.name, tried: tried.join("; "), hint: known.hint })
    }
}

/// Folders of Python packages: of the active environment, of the `python3` on the `PATH`, and of the user.
fn python_folders() -> Vec<PathBuf> {
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
