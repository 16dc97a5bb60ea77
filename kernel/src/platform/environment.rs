//! The environment in which the user started the kernel, for the programs that a cell starts.
//!
//! Compiling cells needs variables of our own: our wrapper of rustc, one toolchain, library paths. A command such
//! as `!cargo build` gets the user's values instead.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;
use std::sync::OnceLock;

type Variables = BTreeMap<OsString, OsString>;

/// As the user started this process.
static USERS: OnceLock<Variables> = OnceLock::new();
/// As this process has set it up.
static OURS: OnceLock<Variables> = OnceLock::new();

fn now() -> Variables {
    std::env::vars_os().collect()
}

/// Notes the user's environment: call it before anything changes it.
pub fn note_users() {
    USERS.get_or_init(now);
}

/// Notes the environment that this process has set up: call it before a cell can change it.
pub fn note_ours() {
    OURS.get_or_init(now);
}

/// Gives a command the user's values for the variables that this process has set. What a cell set by `:env` stays.
pub fn restore(command: &mut Command) {
    let (Some(users), Some(ours)) = (USERS.get(), OURS.get()) else { return };
    for (name, value) in changes(users, ours, &now()) {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// The variables that still have our values, each with the user's.
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
    fn only_what_this_process_has_set_is_restored() {
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
