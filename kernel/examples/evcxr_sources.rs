//! Writes the golden files of `src/compile/evcxr_text/golden`: what the real evcxr generates for a few cells.
//!
//! `cargo run --release --example evcxr_sources -- FOLDER`. Each cell has at most one variable and one
//! item, because the order in which evcxr writes several of them differs between sessions.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use evcxr::CommandContext;

/// Cells in the order of execution, each with the base name of its golden files.
const CELLS: [(&str, &str); 5] = [
    ("variable", "let mut text = String::from(\"é\");\n"),
    ("question", "text.push('b');\nstd::env::current_dir()?;\n"),
    ("retyped", "let text: usize = text.len();\n"),
    ("item", "fn double(n: usize) -> usize { 2 * n }\n"),
    ("value", "double(text)\n"),
];
/// Cells with a variable that evcxr cannot store. rust-analyzer does not read FILE, which lies outside the
/// crate.
const ERRORS: [(&str, &str); 4] = [
    ("closure", "let closure = |n: i32| n;"),
    ("unknown", "let unknown = include!(\"FILE\");"),
    ("unnamed", "let unnamed = { fn f() -> impl Iterator<Item = u8> { [1].into_iter() } f() };"),
    ("borrows", "let owner = String::new(); let borrows = &owner;"),
];

fn main() -> Result<(), Box<dyn Error>> {
    evcxr::runtime_hook();
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("expected the folder to write to")?);
    let (mut context, outputs) = CommandContext::new()?;
    // evcxr blocks until its outputs are read.
    std::thread::spawn(move || outputs.stdout.iter().for_each(drop));
    std::thread::spawn(move || outputs.stderr.iter().for_each(|line| eprintln!("{line}")));
    let write = |name: String, text: &str| fs::write(folder.join(name), text);
    for (name, code) in CELLS {
        if code.ends_with(";\n") {
            // Completion makes evcxr write the source for rust-analyzer.
            context.completions(code, 0)?;
            write(format!("{name}.analysis.txt"), &context.last_source()?)?;
        }
        context.execute(code)?;
        write(format!("{name}.compiled.txt"), &context.last_source()?)?;
    }
    let compiled = fs::read_to_string(folder.join("variable.compiled.txt"))?;
    let runtime =
        compiled.split_once("mod evcxr_internal_runtime {\n").and_then(|(_, rest)| rest.split_once("}\n#["));
    write("runtime.txt".into(), runtime.ok_or("evcxr writes no variable store")?.0)?;
    let file = folder.join("value.tmp");
    fs::write(&file, "1u8")?;
    for (name, code) in ERRORS {
        let code = code.replace("FILE", &file.canonicalize()?.to_string_lossy());
        let error = context.execute(&code).err().ok_or_else(|| format!("expected an error: {code}"))?;
        let text = match error {
            evcxr::Error::CompilationErrors(errors) => {
                errors.iter().map(|error| error.message() + "\n").collect()
            }
            error => format!("{error}\n"),
        };
        write(format!("{name}.error.txt"), &text)?;
    }
    Ok(fs::remove_file(file)?)
}
