//! The facade: the crate that cells depend on in place of the prelude's own sources.
//!
//! For rustc it re-exports the compiled prelude; for rust-analyzer it contains the prelude's signatures
//! (see [`crate::prelude::skeleton`]). So cargo and rust-analyzer read only a few files, which makes every
//! cell faster.

use std::path::Path;

use crate::prelude::packages::Packages;
use crate::prelude::skeleton::copy_crate;

/// A crate whose signatures rust-analyzer needs: name, edition, and the other crates that it uses (name in
/// its sources, name in this list).
type FacadeCrate = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
const FACADE: [FacadeCrate; 4] = [
    ("candle-core", "2021", &[]),
    ("candle-nn", "2021", &[("candle", "candle-core")]),
    ("headstart-frame", "2024", &[]),
    (
        PRELUDE,
        "2024",
        &[
            ("candle-core", "candle-core"),
            ("candle-nn", "candle-nn"),
            ("headstart-frame", "headstart-frame"),
            (ERRORS, ERRORS),
        ],
    ),
];
/// Name of the library compiled from facade/errors.rs.
pub const ERRORS: &str = "headstart_errors";
/// Name of the facade.
pub const PRELUDE: &str = "headstart";
/// Name of the compiled prelude in the facade.
pub const REAL: &str = "headstart_core";

/// Writes the crate that cells depend on, and the sources that rust-analyzer needs.
pub fn write_facade(packages: &Packages, facade: &Path) -> Result<(), String> {
    for (name, edition, dependencies) in FACADE {
        let folder = facade.join(name);
        let above = match name {
            PRELUDE => format!(
                "extern crate self as {PRELUDE};\n#[doc(hidden)]\n#[macro_export]\n\
                 macro_rules! headstart_local {{ ($pattern:pat) => {{ $pattern }} }}\n#[cfg(not(rust_analyzer))]\npub use {REAL}::*;\n\
                 #[cfg(not(rust_analyzer))]\nextern crate {ERRORS} as _;\n\
                 #[cfg(not(rust_analyzer))]\n#[doc(hidden)]\npub mod shared {{\n{}\n}}\n",
                include_str!("../../facade/shared.rs")
            ),
            _ => String::new(),
        };
        copy_crate(&packages.sources(name)?, &folder.join("src"), &above)?;
        write(&folder.join("Cargo.toml"), &manifest(name, edition, dependencies))?;
    }
    let errors = facade.join(ERRORS);
    write(&errors.join("Cargo.toml"), &manifest(ERRORS, "2024", &[]))?;
    write(&errors.join("src/lib.rs"), include_str!("../../facade/errors.rs"))
}

fn manifest(name: &str, edition: &str, dependencies: &[(&str, &str)]) -> String {
    let mut manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{}\"\nedition = \"{edition}\"\n\n\
         [lints.rust]\nunexpected_cfgs = \"allow\"\n\n[dependencies]\n",
        env!("CARGO_PKG_VERSION")
    );
    for (alias, package) in dependencies {
        manifest += &format!("{alias} = {{ path = \"../{package}\", package = \"{package}\" }}\n");
    }
    manifest
}

/// A path as a string of a cargo manifest.
pub fn toml_string(path: &Path) -> String {
    // TOML's strings are those of JSON, and TOML does not allow the character DEL.
    serde_json::Value::from(path.display().to_string()).to_string().replace('\u{7f}', "\\u007f")
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_path_in_any_script_is_a_string_of_a_manifest() {
        for path in ["/home/ค่า", "/home/हिन्दी", "/home/Jose\u{301}", "/a\u{200d}\"b'\\c\t\u{7f}", "/plain"]
        {
            let manifest = format!("path = {}", toml_string(Path::new(path)));
            let read: BTreeMap<String, String> = toml::from_str(&manifest).unwrap();
            assert_eq!(read["path"], path, "{manifest}");
        }
    }
}
