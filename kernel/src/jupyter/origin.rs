//! What a kernel was started with: kernels with the same origin can serve in place of each other.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::platform::parent;
use crate::prelude::backend::Backend;
use crate::prelude::template::{Template, state};
use crate::prelude::toolchain;

/// The variable with the number of seconds that a standby stays; 0 means that there is none.
const STAY_VARIABLE: &str = "HEADSTART_STANDBY";
/// How long a standby stays after the kernel that started it (5 min: time enough to open another notebook).
const STAY: Duration = Duration::from_mins(5);
/// Begins the names of variables that Jupyter sets for each kernel.
const JUPYTER_PREFIX: &str = "JPY_";

/// What a kernel was started with; take it before anything changes the environment.
#[derive(Clone)]
pub struct Origin {
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    pub backend: Backend,
    /// The process of the Jupyter server.
    pub server: Option<i32>,
    /// Whether this process serves in another's place, which then follows the server.
    is_fronted: bool,
}

impl Origin {
    /// This process's.
    pub fn of_this_process(backend: Backend) -> Origin {
        let is_jupyters = |name: &OsString| name.to_string_lossy().starts_with(JUPYTER_PREFIX);
        let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| !is_jupyters(name)).collect();
        environment.sort_unstable();
        let folder = std::env::current_dir().unwrap_or_default();
        Origin { environment, folder, backend, server: parent::of_this_process(), is_fronted: false }
    }

    /// That of a standby, which serves in place of a proxy below this Jupyter server.
    pub fn fronted(self, server: Option<i32>) -> Origin {
        Origin { server, is_fronted: true, ..self }
    }

    /// Waits until the process with which this one is to end has ended.
    pub async fn ended(&self) {
        parent::ended(self.server.filter(|_| !self.is_fronted)).await;
    }

    /// Kernels with the same can stand for each other.
    pub fn kind(&self) -> String {
        let mut hasher = DefaultHasher::new();
        let program = std::env::current_exe().ok();
        let program_state = program.as_deref().and_then(state);
        (&self.environment, &self.folder, self.backend.feature(), program, program_state).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// How long a standby stays; `None` if none is to be started.
    pub fn stay(&self) -> Option<Duration> {
        let set = self.environment.iter().find(|(name, _)| name == STAY_VARIABLE);
        let stay = set.and_then(|(_, value)| value.to_str()?.parse().ok()).map_or(STAY, Duration::from_secs);
        Some(stay).filter(|stay| !stay.is_zero())
    }

    /// A command with this environment, in this folder.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        command
    }

    /// The prelude that a kernel started now would load, and the compiler that it would use.
    pub fn would_load(&self) -> Option<(PathBuf, Option<String>)> {
        let template = Template::expected(self.backend).ok().filter(Template::is_whole)?;
        let rustc = toolchain::which_rustc(|| self.command("rustup"));
        Some((template.path().to_owned(), rustc.and_then(|rustc| state(&rustc))))
    }
}
