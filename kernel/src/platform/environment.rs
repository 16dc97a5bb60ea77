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
}
