//! What rust-analyzer sees of the prelude: its sources with empty bodies.
//!
//! Types of variables, completion and documentation need signatures alone. Without the bodies, and
//! without the crates that only bodies use, rust-analyzer has a small tree to read where candle's
//! is a large one, and every cell is quicker for it.

use std::ops::Range;
use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::Visit;

/// Copies a crate's sources, each function's body replaced by one that never returns.
///
/// With `gate`, each item of the crate's root is for rust-analyzer only, after `above`.
pub fn copy_sources(from: &Path, to: &Path, gate: Option<&str>) -> Result<(), String> {
    let complain = |error: std::io::Error| format!("{}: {error}", from.display());
    std::fs::create_dir_all(to).map_err(complain)?;
    for entry in std::fs::read_dir(from).map_err(complain)? {
        let path = entry.map_err(complain)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_sources(&path, &target, None)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).map_err(complain)?;
            let is_root = gate.is_some() && path.file_name().is_some_and(|name| name == "lib.rs");
            let text = match is_root {
                true => gated_root(&text, gate.unwrap_or_default()),
                false => without_bodies(&text),
            };
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            std::fs::write(&target, text).map_err(complain)?;
        }
    }
    Ok(())
}

/// The source with empty bodies.
pub fn without_bodies(source: &str) -> Result<String, syn::Error> {
    let file = syn::parse_file(source)?;
    let mut bodies = Bodies::default();
    bodies.visit_file(&file);
    Ok(replace(source, bodies.ranges.into_iter().map(|range| (range, "{ loop {} }".to_owned()))))
}

/// The root with empty bodies, `above` first, and each item hidden from the compiler.
fn gated_root(source: &str, above: &str) -> Result<String, syn::Error> {
    let source = without_bodies(source)?;
    let file = syn::parse_file(&source)?;
    let first = file.items.first().map_or(0, |item| item.span().byte_range().start);
    let gates = file.items.iter().enumerate().map(|(at, item)| {
        let start = item.span().byte_range().start;
        let above = if at == 0 { above } else { "" };
        (start..start, format!("{above}#[cfg(rust_analyzer)]\n"))
    });
    debug_assert!(file.attrs.iter().all(|attribute| attribute.span().byte_range().start <= first));
    Ok(replace(&source, gates))
}

fn replace(source: &str, changes: impl Iterator<Item = (Range<usize>, String)>) -> String {
    let mut result = String::with_capacity(source.len());
    let mut copied = 0;
    for (range, text) in changes {
        result.push_str(&source[copied..range.start]);
        result.push_str(&text);
        copied = range.end;
    }
    result + &source[copied..]
}

/// Where the bodies of functions are, in order, none inside another.
#[derive(Default)]
struct Bodies {
    ranges: Vec<Range<usize>>,
}

impl Bodies {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        // A constant's value may be part of a type.
        if signature.constness.is_none() {
            self.ranges.push(body.span().byte_range());
        }
    }
}

impl<'ast> Visit<'ast> for Bodies {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add(&item.sig, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 {\n    a + { 1 }\n}\n\
        const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 { 3 } fn g(&self); }\nimpl S { fn h() {} }\n";

    #[test]
    fn bodies_go_and_all_else_stays() {
        let expected = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 { loop {} }\n\
            const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 { loop {} } fn g(&self); }\nimpl S { fn h() { loop {} } }\n";
        assert_eq!(without_bodies(SOURCE).unwrap(), expected);
    }

    #[test]
    fn a_gated_root_is_still_rust_and_keeps_its_inner_attributes_first() {
        let gated = gated_root(SOURCE, "pub use real::*;\n").unwrap();
        let start =
            "//! About é.\n#![deny(missing_docs)]\npub use real::*;\n#[cfg(rust_analyzer)]\n/// Adds.\n";
        assert!(gated.starts_with(start), "{gated}");
        assert_eq!(gated.matches("#[cfg(rust_analyzer)]").count(), 4);
        syn::parse_file(&gated).unwrap();
    }
}
