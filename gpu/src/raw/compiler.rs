//! Compilation of the kernels by NVRTC, for the machine's GPU.

use std::ffi::{CString, OsStr};
use std::os::raw::c_char;
use std::path::Path;
use std::ptr::{null, null_mut};

use super::functions::{Handle, Nvrtc};
use super::library::Library;
use crate::{Error, Result};

/// The compute capability for which PTX is compiled: every supported NVRTC knows it.
const PTX_CAPABILITY: [i32; 2] = [9, 0];

/// NVRTC.
pub(crate) struct Compiler(Nvrtc);

impl Compiler {
    pub(crate) fn load(library: &Library) -> Result<Compiler> {
        open_builtins(library.path());
        Ok(Compiler(Nvrtc::load(library)?))
    }

    /// Compiles CUDA C for a GPU with a compute capability. A GPU that is newer than NVRTC gets PTX, which its driver
    /// compiles.
    pub(crate) fn compile_for(&self, source: &str, [major, minor]: [i32; 2]) -> Result<Vec<u8>> {
        match self.compile(source, &format!("sm_{major}{minor}")) {
            Ok((cubin, _)) => Ok(cubin),
            Err(error @ Error::Kernels { .. }) if [major, minor] > PTX_CAPABILITY => {
                let [major, minor] = PTX_CAPABILITY;
                // The first error says which architecture is missing.
                self.compile(source, &format!("compute_{major}{minor}"))
                    .map(|(ptx, _)| ptx)
                    .map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Compiles CUDA C to a cubin for an architecture, as `sm_90`, or to PTX for a virtual one, as `compute_90`.
    /// Returns it with the compiler's messages, which name the resources of each kernel of a cubin.
    pub(crate) fn compile(&self, source: &str, architecture: &str) -> Result<(Vec<u8>, String)> {
        let kernels = |log: String| Error::Kernels { architecture: architecture.to_owned(), log };
        let text = |text: &str| CString::new(text).map_err(|_| kernels("zero byte".into()));
        let (source, name) = (text(source)?, text("headstart.cu")?);
        // By default, divisions and square roots are rounded as on the CPU, and multiply-adds are fused.
        let architecture_option = text(&format!("--gpu-architecture={architecture}"))?;
        let is_virtual = architecture.starts_with("compute_");
        let options = [architecture_option, text("--std=c++17")?, text("--ptxas-options=-v")?];
        let options = options.each_ref().map(|option| option.as_ptr());
        // The last option is for the step from PTX to a cubin.
        let count = if is_virtual { options.len() - 1 } else { options.len() };
        let mut program = null_mut();
        // SAFETY: the strings outlive the calls. The program is destroyed once, at the end. Buffers have the sizes
        // that NVRTC asks for.
        unsafe {
            let created =
                (self.0.nvrtcCreateProgram)(&mut program, source.as_ptr(), name.as_ptr(), 0, null(), null());
            check("nvrtcCreateProgram", created)?;
            let status = (self.0.nvrtcCompileProgram)(program, count as i32, options.as_ptr());
            let result = match status {
                0 if is_virtual => self.ptx(program).map(|ptx| (ptx, self.log(program))),
                0 => self.cubin(program).map(|cubin| (cubin, self.log(program))),
                _ => Err(kernels(self.log(program))),
            };
            (self.0.nvrtcDestroyProgram)(&mut program);
            result
        }
    }

    /// # Safety
    /// The program is compiled.
    unsafe fn cubin(&self, program: Handle) -> Result<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the buffer has the size that NVRTC says.
        unsafe {
            check("nvrtcGetCUBINSize", (self.0.nvrtcGetCUBINSize)(program, &mut size))?;
            let mut cubin = vec![0u8; size];
            check("nvrtcGetCUBIN", (self.0.nvrtcGetCUBIN)(program, cubin.as_mut_ptr().cast::<c_char>()))?;
            Ok(cubin)
        }
    }

    /// The PTX with a zero byte at its end.
    ///
    /// # Safety
    /// The program is compiled.
    unsafe fn ptx(&self, program: Handle) -> Result<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the buffer has the size that NVRTC says.
        unsafe {
            check("nvrtcGetPTXSize", (self.0.nvrtcGetPTXSize)(program, &mut size))?;
            let mut ptx = vec![0u8; size + 1];
            check("nvrtcGetPTX", (self.0.nvrtcGetPTX)(program, ptx.as_mut_ptr().cast::<c_char>()))?;
            Ok(ptx)
        }
    }

    /// # Safety
    /// The program exists.
    unsafe fn log(&self, program: Handle) -> String {
        let mut size = 0;
        // SAFETY: the buffer has the size that NVRTC says.
        unsafe {
            if (self.0.nvrtcGetProgramLogSize)(program, &mut size) != 0 {
                return "no messages".into();
            }
            let mut log = vec![0u8; size];
            (self.0.nvrtcGetProgramLog)(program, log.as_mut_ptr().cast::<c_char>());
            String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned()
        }
    }
}

/// Opens `libnvrtc-builtins` from NVRTC's folder. NVRTC itself searches only the loader's folders.
fn open_builtins(nvrtc: &Path) {
    let folder = nvrtc.parent().filter(|folder| !folder.as_os_str().is_empty());
    let files = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    for file in files.into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so") {
            let path = file.path();
            // If this fails, NVRTC reports it during compilation.
            let _ = Library::open(AsRef::<OsStr>::as_ref(&path));
        }
    }
}

fn check(function: &'static str, status: i32) -> Result<()> {
    match status {
        0 => Ok(()),
        code => Err(Error::Cuda { function, message: format!("status {code}"), code }),
    }
}
