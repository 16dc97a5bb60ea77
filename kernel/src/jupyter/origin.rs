//! Start conditions of a kernel. Kernels with the same origin can replace each other.

use std::ffi::OsString;
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::platform::fingerprint::Fingerprint;
use crate::platform::parent;
use crate::prelude::backend::Backend;
use crate::prelude::template::{Template, state};
use crate::prelude::toolchain;

/// Environment variable with the number of seconds that a standby waits; 0 disables the standby.
const STANDBY_VARIABLE: &str = "HEADSTART_STANDBY";
/// Default time that a standby waits after the start of its kernel (5 min: time to open another notebook).
const STANDBY_TIME: Duration = Duration::from_mins(5);
/// Prefix of environment variables that Jupyter sets for each kernel.
const JUPYTER_PREFIX: &str = "JPY_";

/// Start conditions of a kernel. Must be captured before anything changes the environment.
#[derive(Clone)]
pub struct Origin {
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    pub backend: Backend,
    /// Process id of the Jupyter server.
    pub server: Option<i32>,
    /// Whether a proxy fronts this process. The proxy then ends with the server.
    is_fronted: bool,
}

impl Origin {
    /// The origin of this process.
    pub fn of_this_process(backend: Backend) -> Origin {
        let is_jupyters = |name: &OsString| name.to_string_lossy().starts_with(JUPYTER_PREFIX);
        let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| !is_jupyters(name)).collect();
        environment.sort_unstable();
        let folder = std::env::current_dir().unwrap_or_default();
        Origin { environment, folder, backend, server: parent::jupyter_server(), is_fronted: false }
    }

    /// The origin of a standby that serves behind a proxy, whose parent is this Jupyter server.
    pub fn fronted(self, server: Option<i32>) -> Origin {
        Origin { server, is_fronted: true, ..self }
    }

    /// Waits until the process that this one depends on has ended.
    pub async fn ended(&self) {
        parent::ended(self.server.filter(|_| !self.is_fronted)).await;
    }

    /// Fingerprint of the origin, the same for every release of Rust. Kernels with the same kind can replace each other.
    pub fn kind(&self) -> String {
        let program = std::env::current_exe().unwrap_or_default();
        let program_state = state(&program).unwrap_or_default();
        let backend = self.backend.feature().unwrap_or_default();
        let settings = [self.folder.as_os_str(), backend.as_ref(), program.as_ref(), program_state.as_ref()];
        let variables = self.environment.iter().flat_map(|(name, value)| [name.as_os_str(), value]);
        let mut fingerprint = Fingerprint::default();
        for part in settings.into_iter().chain(variables) {
            fingerprint.write(part.as_bytes());
            // No path and no environment variable contains this byte.
            fingerprint.write(&[0]);
        }
        fingerprint.digits()
    }

    /// Time that a standby waits; `None` if no standby shall be started.
    pub fn stay(&self) -> Option<Duration> {
        let set = self.environment.iter().find(|(name, _)| name == STANDBY_VARIABLE);
        let stay =
            set.and_then(|(_, value)| value.to_str()?.parse().ok()).map_or(STANDBY_TIME, Duration::from_secs);
        Some(stay).filter(|stay| !stay.is_zero())
    }

    /// Creates a command with this environment, in this folder.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        command
    }

    /// The prelude that a kernel started now would load, and the state of its rustc.
    pub fn would_load(&self) -> Option<(PathBuf, Option<String>)> {
        let template = Template::expected(self.backend).ok().filter(Template::is_whole)?;
        let rustc = toolchain::which_rustc(|| self.command("rustup"));
        Some((template.path().to_owned(), rustc.and_then(|rustc| state(&rustc))))
    }
}
