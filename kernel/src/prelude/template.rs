//! The template: the compiled prelude that the cells of all sessions link to.
//!
//! A template is a folder whose name identifies the version, the sources and the compiler. `deps` contains
//! the prelude as a dynamic library, with the libraries that rustc needs beside it. `facade` contains the
//! crate that cells depend on (see [`crate::prelude::facade`]). `library` contains the standard library's
//! sources in reduced form. A template never changes after its creation, so several users can share one. Files that
//! sessions add are in the user's cache ([`Template::state`]).
//!
//! This program computes its template's name. It looks in the user's cache, in the system's folders, and
//! for an archive beside the program. If there is none, it compiles a template.

use std::fs::{self, File};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::platform::cache_folder::cache_folder;
use crate::platform::fingerprint::Fingerprint;
use crate::platform::process_folder::{self, ProcessFolder};
use crate::prelude::archive;
use crate::prelude::backend::Backend;
use crate::prelude::build::{Estimate, LINKS, compile, library_file};
use crate::prelude::facade::{PRELUDE, REAL, write_facade};
use crate::prelude::inventory;
use crate::prelude::packages::Packages;
use crate::prelude::skeleton::copy_library;
use crate::prelude::sources;
use crate::prelude::toolchain::{
    self, ensure_library_sources, install_command, is_installable, library_sources, rustc_version,
};

/// File in a template's state that is written when a kernel starts with the template.
const USED: &str = "used";
/// Time without use (30 days) after which a template counts as obsolete.
const MAX_UNUSED_TIME: Duration = Duration::from_hours(30 * 24);
/// Folders where system packages may install templates.
const SYSTEM: [&str; 2] = ["/usr/local/share/headstart", "/usr/share/headstart"];

/// A compiled prelude, which may not exist yet.
#[derive(Clone, Debug)]
pub struct Template {
    path: PathBuf,
    state: PathBuf,
    backend: Backend,
    /// Whether Rust is missing and must be installed first.
    lacks_rust: bool,
}

/// Source of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Exists in this folder.
    Folder(PathBuf),
    /// Will be unpacked from this archive.
    Archive(PathBuf),
    /// Will be compiled.
    Sources,
}

/// Message for the user while a template is created.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Line(String),
    /// Replaces the previous message.
    Progress(String),
}

/// Folders other than the user's cache that may contain templates or archives: the program's own, `share`
/// in its installation prefix, and the system's.
fn shared() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let own = program.as_deref().and_then(Path::parent);
    let prefix = own.and_then(Path::parent).map(|prefix| prefix.join("share/headstart"));
    own.map(Path::to_owned).into_iter().chain(prefix).chain(SYSTEM.map(PathBuf::from)).collect()
}

/// Prefix of the names of this program's templates: its version, and the id of the prelude's sources.
fn own_prefix() -> String {
    format!("{}-{}-", env!("CARGO_PKG_VERSION"), sources::ID)
}

/// Template name, which depends on the version, the prelude's sources and the compiler.
fn name(compiler: &str, backend: Backend) -> String {
    let mut hasher = Fingerprint::default();
    compiler.hash(&mut hasher);
    let name = format!("{}{}", own_prefix(), hasher.digits());
    backend.feature().map_or(name.clone(), |feature| format!("{name}-{feature}"))
}

/// Archive that came with this program, for any compiler. Archives are only for the CPU.
fn own_archive(backend: Backend) -> Option<PathBuf> {
    let is_cpu = backend.feature().is_none();
    let entries = shared().into_iter().filter(|_| is_cpu).flat_map(fs::read_dir).flatten().flatten();
    entries.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&own_prefix()) && name.ends_with(archive::EXTENSION)
    })
}

impl Template {
    /// The template for this program and the installed compiler. It may not exist yet.
    pub fn expected(backend: Backend) -> Result<Template, String> {
        let cache = cache_folder()?;
        let (name, lacks_rust) = match rustc_version() {
            Ok(version) => (name(&version, backend), false),
            // An archive determines the version of Rust, which is then installed.
            Err(problem) => (archived_name(backend).filter(|_| is_installable()).ok_or(problem)?, true),
        };
        let state = cache.join("state").join(&name);
        let own = cache.join("templates").join(&name);
        let elsewhere = shared().into_iter().map(|folder| folder.join("templates").join(&name));
        let found =
            [own.clone()].into_iter().chain(elsewhere).find(|path| inventory::check_sizes(path).is_ok());
        Ok(Template { path: found.unwrap_or(own), state, backend, lacks_rust })
    }

    /// Source of this template.
    pub fn origin(&self) -> Origin {
        if self.is_whole() {
            return Origin::Folder(self.path.clone());
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let archives =
            shared().into_iter().map(|folder| folder.join(format!("{name}{}", archive::EXTENSION)));
        archives.into_iter().find(|path| path.is_file()).map_or(Origin::Sources, Origin::Archive)
    }

    /// Creates the template if it does not exist, and installs Rust if it is missing.
    pub fn ready(self, say: &dyn Fn(Notice)) -> Result<Template, String> {
        if self.lacks_rust {
            self.install_rust(say)?;
        }
        if !self.is_whole() {
            let lock = lock_of(&self.path);
            let waiting =
                || say(Notice::Line("another kernel is building the prelude: waiting for it".into()));
            let _lock = process_folder::lock(&lock, waiting)
                .map_err(|error| format!("{}: {error}", lock.display()))?;
            // Another process may have created it meanwhile.
            if !self.is_whole() {
                self.make(say)?;
                remove_unused(&cache_folder()?);
            }
        }
        self.note_use();
        Ok(self)
    }

    /// Compiles the template, even if an archive or a template exists.
    pub fn remake(self, say: &dyn Fn(Notice)) -> Result<Template, String> {
        let cache = cache_folder()?;
        let path = cache.join("templates").join(self.path.file_name().unwrap_or_default());
        let template = Template { path, ..self };
        let lock = lock_of(&template.path);
        let _lock =
            process_folder::lock(&lock, || {}).map_err(|error| format!("{}: {error}", lock.display()))?;
        template.make_from(Origin::Sources, say)?;
        template.note_use();
        Ok(template)
    }

    fn install_rust(&self, say: &dyn Fn(Notice)) -> Result<(), String> {
        let version = sources::pinned_rust();
        say(Notice::Line(format!("installing Rust {version}: once, 1 to 2 min")));
        toolchain::install(&mut |line| say(Notice::Progress(format!("installing Rust {version}: {line}"))))?;
        let installed = name(&rustc_version()?, self.backend);
        match self.path.ends_with(&installed) {
            true => Ok(()),
            false => Err(format!("Rust {version} was installed: restart the kernel")),
        }
    }

    fn make(&self, say: &dyn Fn(Notice)) -> Result<(), String> {
        if self.path.exists() {
            let problem = inventory::check_sizes(&self.path).err().unwrap_or_default();
            say(Notice::Line(format!("the prelude was damaged ({problem}) and is rebuilt")));
        }
        let origin = self.origin();
        let made = self.make_from(origin.clone(), say);
        match (made, origin) {
            // If the archive is damaged, compile the prelude.
            (Err(problem), Origin::Archive(_)) => {
                say(Notice::Line(format!("{problem}; the prelude is compiled instead")));
                self.make_from(Origin::Sources, say)
            }
            (made, _) => made,
        }
    }

    fn make_from(&self, origin: Origin, say: &dyn Fn(Notice)) -> Result<(), String> {
        let part = ProcessFolder::new(&cache_folder()?.join("parts"))?;
        match origin {
            Origin::Folder(_) => return Ok(()),
            Origin::Archive(archive) => {
                say(Notice::Line("unpacking the prelude: once for each version, a few seconds".into()));
                archive::unpack(&archive, part.path())?;
            }
            Origin::Sources => self.compile(part.path(), say)?,
        }
        let complain = |error| format!("{}: {error}", self.path.display());
        let _ = fs::remove_dir_all(&self.path);
        // Results of sessions with the previous template may not match.
        let _ = fs::remove_dir_all(&self.state);
        fs::create_dir_all(self.path.with_file_name("")).map_err(complain)?;
        fs::rename(part.path(), &self.path).map_err(complain)
    }

    fn compile(&self, part: &Path, say: &dyn Fn(Notice)) -> Result<(), String> {
        if let Some(archive) = own_archive(self.backend) {
            say(Notice::Line(format!(
                "{} is for Rust {}: the prelude is compiled for the installed Rust; to use the archive, run `{}` and restart",
                archive.display(),
                sources::pinned_rust(),
                install_command()
            )));
        }
        say(Notice::Line(match self.backend.feature() {
            None => "compiling the prelude: once for each version, 5 to 10 min".into(),
            Some(_) => "compiling the prelude for the GPU: once for each version, about 15 min".into(),
        }));
        ensure_library_sources()?;
        let sources = sources::unpacked()?;
        let packages = Packages::of(&sources.folder)?;
        let mut estimate = Estimate::new();
        compile(&sources, &packages, self.backend, &part.join("deps"), &mut |progress| {
            if let Some(line) = estimate.line(progress) {
                say(Notice::Progress(line));
            }
        })?;
        write_facade(&packages, &part.join("facade"))?;
        let library = library_sources().ok_or("the standard library's sources are missing")?;
        copy_library(&library, &part.join("library"))?;
        inventory::write(part).map_err(|error| format!("{}: {error}", part.display()))
    }

    /// Records the time of use. A template without this record is never removed.
    fn note_use(&self) {
        let _ = fs::create_dir_all(&self.state);
        let _ = File::create(self.state.join(USED)).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Path of the template's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether all files exist with the right sizes.
    pub fn is_whole(&self) -> bool {
        inventory::check_sizes(&self.path).is_ok()
    }

    /// Folder for files that sessions compiled with this template.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Session folder that new sessions are copied from; it may not exist.
    pub fn session(&self) -> PathBuf {
        self.state.join("session")
    }

    /// Folder of the compile cache.
    pub fn compile_cache(&self) -> PathBuf {
        self.state.join("cells")
    }

    /// Folder that rust-analyzer uses as the standard library's sources.
    pub fn library_sources(&self) -> PathBuf {
        self.path.join("library")
    }

    /// Folder of the prelude's library and its dependencies.
    pub fn libraries(&self) -> PathBuf {
        self.path.join("deps")
    }

    /// Path of the prelude's library.
    pub fn library(&self) -> PathBuf {
        self.libraries().join(library_file())
    }

    /// Describes the libraries that the prelude needs and the system does not have.
    pub fn missing_libraries(&self) -> Option<String> {
        self.backend.missing_libraries(&self.library())
    }

    /// rustc flags that let a cell link to the prelude.
    pub fn rustc_flags(&self) -> Vec<String> {
        let deps = self.libraries();
        let mut flags = vec![
            "-Cprefer-dynamic".to_owned(),
            // There is no debug info to strip.
            "-Cstrip=none".to_owned(),
            // Link-time optimisation would take a quarter of the compile time of a small cell.
            "-Clto=off".to_owned(),
            "--extern".to_owned(),
            format!("{REAL}={}", self.library().display()),
            format!("-Ldependency={}", deps.display()),
        ];
        // `-Wl,-rpath,…` would divide a path at its commas.
        let rpath =
            ["-Xlinker".to_owned(), "-rpath".to_owned(), "-Xlinker".to_owned(), deps.display().to_string()];
        flags.extend(rpath.map(|argument| format!("-Clink-arg={argument}")));
        let links = fs::read_to_string(deps.join(LINKS)).unwrap_or_default();
        flags.extend(links.lines().map(|path| format!("-L{path}")));
        flags
    }

    /// Folder of the crate that cells depend on.
    pub fn facade(&self) -> PathBuf {
        self.path.join("facade").join(PRELUDE)
    }
}

/// Name of the template in the archive that came with this program.
fn archived_name(backend: Backend) -> Option<String> {
    let archive = own_archive(backend)?;
    let name = archive.file_name()?.to_string_lossy().into_owned();
    name.strip_suffix(archive::EXTENSION).map(str::to_owned)
}

/// Lock file for the creation of a template.
fn lock_of(template: &Path) -> PathBuf {
    let name = template.file_name().unwrap_or_default().to_string_lossy();
    template.with_file_name(format!("{name}.lock"))
}

/// Removes templates of other versions that have not been used for a long time. Each has up to 1 GB.
fn remove_unused(cache: &Path) {
    let (templates, states) = (cache.join("templates"), cache.join("state"));
    for folder in fs::read_dir(&templates).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let state = states.join(folder.file_name().unwrap_or_default());
        let used = fs::metadata(state.join(USED)).and_then(|used| used.modified());
        let is_old = used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > MAX_UNUSED_TIME));
        if is_old {
            let _ = fs::remove_file(lock_of(&folder));
            let _ = fs::remove_dir_all(folder);
            let _ = fs::remove_dir_all(state);
        }
    }
}

/// Fingerprint of a file: it changes when the file is written again.
pub fn state(file: &Path) -> Option<String> {
    let metadata = fs::metadata(file).ok()?;
    let time = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} {}", metadata.len(), time.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_depends_on_compiler_and_backend() {
        let first = name("rustc 1", Backend::default());
        assert_eq!(first, name("rustc 1", Backend::default()));
        assert_ne!(first, name("rustc 2", Backend::default()));
        assert_eq!(name("rustc 1", Backend::CUDA), format!("{first}-cuda"));
    }

    #[test]
    fn the_path_of_the_libraries_may_contain_a_comma() {
        let template = Template {
            path: "/a,b/t".into(),
            state: "/s".into(),
            backend: Backend::default(),
            lacks_rust: false,
        };
        let flags = template.rustc_flags();
        assert!(flags.contains(&"-Clink-arg=/a,b/t/deps".to_owned()), "{flags:?}");
        assert!(!flags.iter().any(|flag| flag.contains("-Wl,")), "{flags:?}");
    }

    #[test]
    fn unused_templates_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let templates = ["old", "used", "new"].map(|name| Template {
            path: folder.path().join("templates").join(name),
            state: folder.path().join("state").join(name),
            backend: Backend::default(),
            lacks_rust: false,
        });
        for template in &templates {
            fs::create_dir_all(&template.path).unwrap();
        }
        for template in &templates[..2] {
            template.note_use();
            let file = File::options().append(true).open(template.state.join(USED)).unwrap();
            file.set_modified(SystemTime::now() - 2 * MAX_UNUSED_TIME).unwrap();
        }
        templates[1].note_use();
        remove_unused(folder.path());
        assert_eq!(templates.map(|template| template.path.is_dir()), [false, true, true]);
    }
}
