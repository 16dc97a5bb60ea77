//! The `headstart doctor` command: checks everything that a notebook needs and prints a remedy for each
//! problem.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::cli::install;
use crate::cli::lab::{WIDGETS, has_widgets};
use crate::compile::boundary::Cells;
use crate::platform::cache_folder::cache_folder;
use crate::prelude::backend::{Backend, LIBRARIES_REMEDY, has_nvidia_card, parse_version, toolkit};
use crate::prelude::inventory;
use crate::prelude::template::{Origin, Template};
use crate::prelude::toolchain::on_path;
use crate::prelude::{sources, toolchain};

/// Description of what was found, or a problem with its remedy.
type Finding = Result<String, Complaint>;

struct Complaint {
    /// Whether notebooks cannot run; otherwise something is only slower or unavailable.
    fatal: bool,
    problem: String,
    remedy: Cow<'static, str>,
}

fn fatal(problem: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Complaint {
    Complaint { fatal: true, problem: problem.into(), remedy: remedy.into() }
}

fn minor(problem: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Complaint {
    Complaint { fatal: false, ..fatal(problem, remedy) }
}

/// Prints one line for each check. Returns an error if a notebook could not run.
pub fn examine() -> Result<(), String> {
    let findings = [
        ("toolchain", rustc()),
        ("library sources", library_sources()),
        ("linker", linker()),
        ("cache", writable_cache()),
        ("version", Ok(format!("{}, built for Rust {}", env!("CARGO_PKG_VERSION"), sources::pinned_rust()))),
        ("prelude", prelude()),
        ("cells", cells()),
        ("kernelspec", kernelspec()),
        ("jupyter", jupyter()),
        ("device", Ok(device())),
    ];
    let gpu = match has_nvidia_card(Path::new(DEVICES)) || on_path("nvidia-smi").is_some() {
        true => vec![
            ("GPU", card()),
            ("CUDA libraries", cuda_libraries()),
            ("CUDA toolkit", cuda_toolkit()),
            ("cuDNN", cudnn()),
            ("CUDA prelude", cuda_prelude()),
        ],
        false => {
            let libraries = std::env::var_os(CUDA_FOLDERS).map(|_| ("CUDA libraries", cuda_libraries()));
            let card = ("GPU", Ok("no NVIDIA GPU found: models run on the CPU".to_owned()));
            std::iter::once(card).chain(libraries).collect()
        }
    };
    let mut broken = 0;
    for (name, finding) in findings.into_iter().chain(gpu) {
        match finding {
            Ok(found) => println!("ok    {name:<16} {found}"),
            Err(Complaint { fatal, problem, remedy }) => {
                broken += usize::from(fatal);
                println!(
                    "{}  {name:<16} {problem}\n      {:<16} → {remedy}",
                    if fatal { "FAIL" } else { "note" },
                    ""
                );
            }
        }
    }
    match broken {
        0 => Ok(()),
        1 => Err("one thing is missing: see the line marked FAIL".into()),
        several => Err(format!("{several} things are missing: see the lines marked FAIL")),
    }
}

fn rustc() -> Finding {
    let remedy = || {
        let command = toolchain::install_command();
        format!("install Rust from https://rustup.rs and open a new terminal:\n{:<22}   {command}", "")
    };
    let version = toolchain::rustc_version()
        .map_err(|problem| fatal(problem.lines().next().unwrap_or_default(), remedy()))?;
    toolchain::output(Command::new("cargo").arg("--version")).map_err(|problem| fatal(problem, remedy()))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

fn library_sources() -> Finding {
    // A finished prelude contains a reduced copy of them.
    if Template::expected(Backend::default()).is_ok_and(|template| template.origin() != Origin::Sources) {
        return Ok("in the prelude".into());
    }
    let missing = || {
        fatal(
            "the standard library's sources are missing; the prelude cannot be compiled without them",
            "rustup component add rust-src",
        )
    };
    toolchain::library_sources().map(|path| path.display().to_string()).ok_or_else(missing)
}

fn linker() -> Finding {
    let Some(cc) = on_path("cc") else {
        return Err(fatal(
            "no C compiler `cc` found",
            "install a C compiler: apt install gcc, or xcode-select --install",
        ));
    };
    if toolchain::HAS_LINKER {
        return Ok(format!("{}, with rustc's lld", cc.display()));
    }
    match on_path("mold").or_else(|| on_path("lld")) {
        Some(path) => Ok(path.display().to_string()),
        None => Err(minor("cc; cells would link faster with mold or lld", "apt install mold")),
    }
}

fn writable_cache() -> Finding {
    let path = cache_folder()
        .map_err(|problem| fatal(problem, "set XDG_CACHE_HOME to a folder that you may write to"))?;
    std::fs::create_dir_all(&path)
        .and_then(|()| tempfile::tempfile_in(&path))
        .and_then(|mut probe| probe.write_all(b"probe"))
        .map_err(|error| {
            fatal(format!("{}: {error}", path.display()), "free space on this disk, or set XDG_CACHE_HOME")
        })?;
    Ok(path.display().to_string())
}

fn prelude() -> Finding {
    compiled(Backend::default(), fatal, |origin| match origin {
        Origin::Archive(archive) => Ok(format!(
            "in {}; the first start unpacks it and compiles one cell, in about 15 s",
            archive.display()
        )),
        _ => Err(minor(
            "not compiled for this version and this compiler; the first start takes five to ten minutes",
            "headstart install",
        )),
    })
}

/// Checks that the compiled prelude can be loaded. `complain` makes the complaint if it cannot, and
/// `missing` the finding if it is not compiled yet.
fn compiled(
    backend: Backend,
    complain: fn(String, &'static str) -> Complaint,
    missing: fn(Origin) -> Finding,
) -> Finding {
    let template = Template::expected(backend).map_err(|problem| {
        let first = problem.lines().next().unwrap_or_default().to_owned();
        complain(first, "install Rust from https://rustup.rs, or set XDG_CACHE_HOME")
    })?;
    let folder = match template.origin() {
        Origin::Folder(folder) => folder,
        other => return missing(other),
    };
    if let Err(problem) = inventory::check_contents(&folder) {
        return Err(complain(problem, "headstart install --from-source"));
    }
    match template.missing_libraries() {
        Some(missing) => Err(complain(missing, LIBRARIES_REMEDY)),
        None => Ok(folder.display().to_string()),
    }
}

/// Reports how this prelude's cells are compiled.
fn cells() -> Finding {
    let recorded =
        Template::expected(Backend::default()).ok().and_then(|template| Cells::recorded(&template));
    match recorded {
        Some(Cells::Rewritten) => Ok("compiled ahead, with the prelude's variable store".into()),
        Some(Cells::Unchanged(problem)) => Err(minor(
            format!("compiled as evcxr writes them, which takes longer: {problem}"),
            "cargo install headstart-kernel --locked, which selects the version of evcxr that it supports",
        )),
        None => Ok("not probed yet; the first kernel runs the probe".into()),
    }
}

fn kernelspec() -> Finding {
    let remedy = "headstart install";
    let (folder, program) = install::installed(Backend::default())
        .ok_or_else(|| minor("the kernel is not registered with Jupyter", remedy))?;
    match program.is_file() {
        true => Ok(folder.display().to_string()),
        false => Err(minor(
            format!("{} starts {}, which does not exist", folder.display(), program.display()),
            remedy,
        )),
    }
}

fn jupyter() -> Finding {
    let version = toolchain::output(Command::new("jupyter").arg("lab").arg("--version"));
    let version = version.map(|version| format!("JupyterLab {}", version.trim())).map_err(|_| {
        let problem = "JupyterLab is not on the PATH; headstart run works without it";
        minor(problem, format!("pip install jupyterlab {WIDGETS}"))
    })?;
    match on_path("jupyter-lab").is_none_or(|program| has_widgets(&program)) {
        true => Ok(version),
        false => {
            let problem = format!("{version} cannot show widgets such as sliders");
            Err(minor(problem, format!("pip install {WIDGETS}")))
        }
    }
}

fn device() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("CPU, {cores} threads{}", vector_instructions())
}

#[cfg(target_arch = "x86_64")]
fn vector_instructions() -> &'static str {
    match (std::is_x86_feature_detected!("avx512f"), std::is_x86_feature_detected!("avx2")) {
        (true, _) => ", AVX-512",
        (_, true) => ", AVX2",
        _ => ", without AVX2: training will be slow",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_instructions() -> &'static str {
    ""
}

/// Folder in which Linux lists PCI devices.
const DEVICES: &str = "/sys/bus/pci/devices";
/// Lowest compute capability for which candle's CUDA kernels compile.
const LEAST_CAPABILITY: (u32, u32) = (6, 1);

/// Reports the GPU and driver, and whether candle can use them.
fn card() -> Finding {
    let remedy = "apt install nvidia-driver, and restart the machine";
    let query = "--query-gpu=name,compute_cap,memory.total,driver_version";
    let text = toolchain::output(Command::new("nvidia-smi").args([query, "--format=csv,noheader"]))
        .map_err(|problem| minor(format!("the driver does not answer: {problem}"), remedy))?;
    let cards: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let capability = |card: &&str| {
        let (major, less) = card.split(", ").nth(1)?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, less.parse::<u32>().ok()?))
    };
    match cards.iter().filter_map(capability).min() {
        None => Err(minor("the driver reports no GPU", remedy)),
        Some(least) if least < LEAST_CAPABILITY => Err(minor(
            format!(
                "{}: compute capability below {}.{}",
                cards.join("; "),
                LEAST_CAPABILITY.0,
                LEAST_CAPABILITY.1
            ),
            "export HEADSTART_DEVICE=cpu",
        )),
        Some(_) => Ok(format!("{} (name, compute capability, memory, driver)", cards.join("; "))),
    }
}

/// Environment variable with folders that are searched for CUDA's libraries.
const CUDA_FOLDERS: &str = "HEADSTART_CUDA_LIBRARIES";

/// Reports the libraries with which `HEADSTART_DEVICE=gpu` runs models on the GPU, and where they are.
fn cuda_libraries() -> Finding {
    let mut files = Vec::new();
    for found in headstart_gpu::Libraries::from_system().report() {
        match found.file {
            Ok(file) => files.push(file.display().to_string()),
            Err(headstart_gpu::Error::Library { library, hint, .. }) => {
                return Err(minor(format!("{library} not found; HEADSTART_DEVICE=gpu needs it"), hint));
            }
            Err(error) => return Err(minor(error.to_string(), "install CUDA 12 or 13")),
        }
    }
    let precision = std::env::var(PRECISION).ok();
    let computed = computed_in(precision.as_deref())?;
    Ok(format!("{}: HEADSTART_DEVICE=gpu runs models on the GPU, {computed}", files.join(", ")))
}

/// Environment variable with the precision of convolutions on the GPU.
const PRECISION: &str = "HEADSTART_PRECISION";

/// Describes how convolutions are computed on the GPU.
fn computed_in(precision: Option<&str>) -> Finding {
    let Some(name) = precision else {
        return Ok("convolutions in TensorFloat-32 from compute capability 8.0 on, else in float32".into());
    };
    match name.parse::<headstart_gpu::Precision>() {
        Ok(precision) => Ok(format!("convolutions in {precision:?} ({PRECISION})")),
        Err(expected) => Err(minor(
            format!("{PRECISION}={name}: {expected}; models run on the CPU"),
            "unset HEADSTART_PRECISION",
        )),
    }
}

/// Reports the CUDA toolkit, and whether the driver can run the code that it compiles.
fn cuda_toolkit() -> Finding {
    let remedy = "apt install nvidia-cuda-toolkit, or https://developer.nvidia.com/cuda-downloads";
    let toolkit = toolkit().map_err(|problem| minor(problem.lines().next().unwrap_or_default(), remedy))?;
    let (major, less) = toolkit.version;
    let driver =
        toolchain::output(&mut Command::new("nvidia-smi")).ok().and_then(|text| parse_version(&text));
    match driver {
        Some(driver) if driver.0 < major => Err(minor(
            format!("CUDA {major}.{less}, but the driver supports CUDA up to {}.{}", driver.0, driver.1),
            "apt install a newer nvidia-driver, or a toolkit of the driver's version",
        )),
        _ => Ok(format!("CUDA {major}.{less}, {}", toolkit.nvcc.display())),
    }
}

fn cudnn() -> Finding {
    let libraries = toolchain::output(Command::new("ldconfig").arg("-p")).unwrap_or_default();
    match libraries.lines().find(|line| line.contains("libcudnn.so")) {
        Some(line) => Ok(line.rsplit(" => ").next().unwrap_or_default().to_owned()),
        None => Err(minor(
            "not installed; headstart install --cuda does not need it",
            "apt install libcudnn9-dev-cuda-13",
        )),
    }
}

fn cuda_prelude() -> Finding {
    compiled(Backend::CUDA, minor, |_| Err(minor("not compiled for the GPU", "headstart install --cuda")))
}
