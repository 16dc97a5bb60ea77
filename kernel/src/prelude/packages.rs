//! Packages that the prelude consists of, from `cargo metadata`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::platform::rustc_wrapper;
use crate::prelude::toolchain::{output, rustc_version};

/// Output of `cargo metadata` for a workspace.
pub struct Packages(Value);

impl Packages {
    /// Reads the packages of the workspace in a folder.
    pub fn of(source: &Path) -> Result<Packages, String> {
        let version = rustc_version()?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let mut cargo = Command::new("cargo");
        rustc_wrapper::remove_from(&mut cargo);
        cargo.current_dir(source).args(["metadata", "--format-version", "1", "--locked"]);
        // Excludes the crates of other systems, which cargo would download.
        cargo.args(["--filter-platform", host]);
        serde_json::from_str(&output(&mut cargo)?).map(Packages).map_err(|error| error.to_string())
    }

    fn all(&self) -> &[Value] {
        self.0["packages"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn named(&self, name: &str) -> Result<&Value, String> {
        let found = self.all().iter().find(|package| package["name"] == name);
        found.ok_or_else(|| format!("cargo metadata has no package {name}"))
    }

    /// Folder of a package's sources.
    pub fn sources(&self, name: &str) -> Result<PathBuf, String> {
        let manifest = self.named(name)?["manifest_path"].as_str().unwrap_or_default();
        Ok(Path::new(manifest).with_file_name("src"))
    }

    /// Ids of the packages whose libraries rustc needs to compile with this one: its dependencies, without
    /// those that only build scripts or procedural macros use.
    pub fn below(&self, name: &str) -> Result<BTreeSet<&str>, String> {
        let nodes = self.0["resolve"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut found = BTreeSet::new();
        let mut open = vec![self.named(name)?["id"].as_str().unwrap_or_default()];
        while let Some(id) = open.pop() {
            if !found.insert(id) || self.is_macro(id) {
                continue;
            }
            let node = nodes.iter().find(|node| node["id"] == id);
            let below = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
            let normal = below.filter(|dependency| {
                let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
                kinds.into_iter().any(|kind| kind["kind"].is_null())
            });
            open.extend(normal.filter_map(|dependency| dependency["pkg"].as_str()));
        }
        Ok(found)
    }

    fn is_macro(&self, id: &str) -> bool {
        let package = self.all().iter().find(|package| package["id"] == id);
        let targets = package.and_then(|package| package["targets"].as_array()).into_iter().flatten();
        let mut kinds =
            targets.into_iter().flat_map(|target| target["kind"].as_array().into_iter().flatten());
        kinds.any(|kind| kind == "proc-macro")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_packages_that_rustc_needs_are_below() {
        let package = |id: &str, kind: &str| json!({"id": id, "name": id, "targets": [{"kind": [kind]}]});
        let node = |id: &str, deps: &[(&str, Option<&str>)]| {
            let deps: Vec<Value> =
                deps.iter().map(|(pkg, kind)| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]})).collect();
            json!({"id": id, "deps": deps})
        };
        let packages = Packages(json!({
            "packages": [package("top", "lib"), package("lib", "lib"), package("mac", "proc-macro"), package("syn", "lib")],
            "resolve": {"nodes": [
                node("top", &[("lib", None), ("mac", None), ("cc", Some("build")), ("test", Some("dev"))]),
                node("lib", &[]),
                node("mac", &[("syn", None)]),
            ]},
        }));
        assert_eq!(packages.below("top").unwrap().into_iter().collect::<Vec<_>>(), ["lib", "mac", "top"]);
        assert!(packages.below("other").is_err());
    }
}
