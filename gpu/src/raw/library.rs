//! Dynamic libraries.

use std::ffi::{CString, OsStr};
use std::os::raw::c_void;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// An open dynamic library. It is never closed, because CUDA's libraries keep threads and state.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    handle: usize,
    path: PathBuf,
}

impl Library {
    /// Opens a library by its path, or by its name in the loader's folders. Its symbols are visible to the libraries
    /// that are opened later, which depend on it.
    pub(crate) fn open(name: &OsStr) -> std::result::Result<Library, String> {
        let path = CString::new(name.as_encoded_bytes()).map_err(|_| "a name with a zero byte".to_owned())?;
        let handle = open(&path)?;
        Ok(Library { handle: handle as usize, path: PathBuf::from(name) })
    }

    /// The path or name by which the library was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The address of a function.
    pub(super) fn address(&self, name: &str) -> Result<*mut c_void> {
        let missing =
            || Error::Function { library: self.path.display().to_string(), function: name.to_owned() };
        let symbol = CString::new(name).map_err(|_| missing())?;
        let address = find(self.handle as *mut c_void, &symbol);
        if address.is_null() { Err(missing()) } else { Ok(address) }
    }
}

#[cfg(unix)]
fn open(path: &CString) -> std::result::Result<*mut c_void, String> {
    // SAFETY: `path` ends with a zero byte. The libraries' constructors are NVIDIA's.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: dlerror returns null or a C string that is valid until this thread's next call.
    let message = unsafe {
        let message = libc::dlerror();
        if message.is_null() { None } else { Some(std::ffi::CStr::from_ptr(message)) }
    };
    Err(message.map_or_else(|| "cannot be loaded".to_owned(), |text| text.to_string_lossy().into_owned()))
}

#[cfg(unix)]
fn find(handle: *mut c_void, name: &CString) -> *mut c_void {
    // SAFETY: the handle is of an open library that is never closed.
    unsafe { libc::dlsym(handle, name.as_ptr()) }
}

#[cfg(not(unix))]
fn open(_: &CString) -> std::result::Result<*mut c_void, String> {
    Err("only Linux is supported".to_owned())
}

#[cfg(not(unix))]
fn find(_: *mut c_void, _: &CString) -> *mut c_void {
    std::ptr::null_mut()
}
