//! The environment in which the user started the kernel, for programs that a cell starts.
//!
//! The compilation of cells needs environment variables of the kernel: its rustc wrapper, one toolchain,
//! library paths. A command such as `!cargo build` runs with the user's values instead.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;
use std::sync::OnceLock;

type Variables = BTreeMap<OsString, OsString>;

/// Environment in which the user started this process.
static USER_ENVIRONMENT: OnceLock<Variables> = OnceLock::new();
/// Environment that this process has set up.
static KERNEL_ENVIRONMENT: OnceLock<Variables> = OnceLock::new();

/// Environment variable with the user's values of the variables that the kernel has set.
const USERS_VARIABLE: &str = "HEADSTART_USERS_ENVIRONMENT";
/// Prefix of the variables that the prelude reads.
const OWN_PREFIX: &str = "HEADSTART_";
/// Environment variable with the number of times that candle's threads poll for work before they sleep.
pub const SPINNING_VARIABLE: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";
/// Environment variable that evcxr sets for the process of the cells.
const BACKTRACE_VARIABLE: &str = "RUST_BACKTRACE";
/// Other variables that code in the process of the cells reads: the form of its errors, and how long candle's threads
/// poll.
const KEPT: [&str; 2] = ["RUST_LIB_BACKTRACE", SPINNING_VARIABLE];

fn now() -> Variables {
    std::env::vars_os().collect()
}

/// Records the user's environment. Must be called before anything changes it.
pub fn note_users() {
    USER_ENVIRONMENT.get_or_init(now);
}

/// Records the environment that this process has set up. Must be called before a cell can change it.
pub fn note_ours() {
    KERNEL_ENVIRONMENT.get_or_init(now);
}

/// Restores the user's values of the variables that this process has set. Changes that a cell made with
/// `:env` stay.
pub fn restore(command: &mut Command) {
    let (Some(users), Some(ours)) = (USER_ENVIRONMENT.get(), KERNEL_ENVIRONMENT.get()) else { return };
    for (name, value) in changes(users, ours, &now()) {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// Records the user's values of the variables that this process has set, for the process of the cells.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn pass_on() {
    let now = now();
    let Some(users) = USER_ENVIRONMENT.get() else { return };
    let backtrace = OsString::from(BACKTRACE_VARIABLE);
    let mut changes = changes(users, &now, &now);
    changes.push((&backtrace, users.get(&backtrace)));
    let text = passed(&changes);
    // SAFETY: the caller's promise.
    unsafe { std::env::set_var(USERS_VARIABLE, text) };
}

/// Restores the user's values in the process of the cells, for the programs that a cell starts.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn take_over() {
    let Ok(text) = std::env::var(USERS_VARIABLE) else { return };
    let users: BTreeMap<String, Option<String>> = serde_json::from_str(&text).unwrap_or_default();
    // SAFETY: the caller's promise.
    unsafe {
        for (name, value) in users {
            match value {
                Some(value) => std::env::set_var(name, value),
                None => std::env::remove_var(name),
            }
        }
        std::env::remove_var(USERS_VARIABLE);
    }
}

/// The changes that the process of the cells takes back, as JSON. It needs the variables of the prelude itself.
fn passed(changes: &[(&OsString, Option<&OsString>)]) -> String {
    let is_preludes = |name: &str| name.starts_with(OWN_PREFIX) || KEPT.contains(&name);
    let text = |value: &OsString| value.to_str().map(str::to_owned);
    let users: BTreeMap<String, Option<String>> = changes
        .iter()
        .filter_map(|(name, value)| {
            Some((text(name)?, value.map_or(Some(None), |value| text(value).map(Some))?))
        })
        .filter(|(name, _)| !is_preludes(name))
        .collect();
    serde_json::to_string(&users).unwrap_or_default()
}

/// Variables that still have the kernel's values, each with the user's value.
fn changes<'a>(
    users: &'a Variables,
    ours: &'a Variables,
    now: &Variables,
) -> Vec<(&'a OsString, Option<&'a OsString>)> {
    let set = ours.iter().filter(|(name, value)| users.get(*name) != Some(value));
    set.filter(|(name, value)| now.get(*name) == Some(value))
        .map(|(name, _)| (name, users.get(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_this_process_has_set_are_restored() {
        let variables = |pairs: &[(&str, &str)]| -> Variables {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let users = variables(&[("PATH", "/bin"), ("HOME", "/root")]);
        let ours =
            variables(&[("PATH", "/rust:/bin"), ("HOME", "/root"), ("RUSTC_WRAPPER", "us"), ("SPIN", "1")]);
        let mut now = ours.clone();
        now.insert("SPIN".into(), "7".into());
        now.insert("MINE".into(), "x".into());
        let (path, wrapper) = (OsString::from("PATH"), OsString::from("RUSTC_WRAPPER"));
        let expected = [(&path, users.get(&path)), (&wrapper, None)];
        assert_eq!(changes(&users, &ours, &now), expected);
    }

    #[test]
    fn the_process_of_the_cells_keeps_only_what_the_prelude_reads() {
        let [path, toolchain, own, kept] =
            ["PATH", "RUSTUP_TOOLCHAIN", "HEADSTART_FRAMES", KEPT[0]].map(OsString::from);
        let users = OsString::from("/bin");
        let changes = [(&path, Some(&users)), (&toolchain, None), (&own, None), (&kept, None)];
        assert_eq!(passed(&changes), r#"{"PATH":"/bin","RUSTUP_TOOLCHAIN":null}"#);
    }
}
