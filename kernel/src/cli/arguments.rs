//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::{cached, run, weights};
use crate::prelude::backend::Backend;

/// Transfer learning in Rust, cell by cell.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
/// What the program is to do.
pub enum Command {
    /// Compile the prelude and make Jupyter know the kernel.
    Install {
        /// Install for the Jupyter of one environment, such as a Python virtual environment.
        #[arg(long)]
        prefix: Option<PathBuf>,
        /// Compile the prelude, also where one is ready or came with this program.
        #[arg(long)]
        from_source: bool,
        #[command(flatten)]
        backend: Backend,
    },
    /// Remove the kernel from Jupyter, and what it keeps in the cache.
    Uninstall {
        /// Remove it from the Jupyter of one environment only.
        #[arg(long)]
        prefix: Option<PathBuf>,
        /// Remove downloaded weights, too.
        #[arg(long)]
        weights: bool,
    },
    /// Show what is kept in the cache, with its size, or clear it.
    Cache {
        #[command(subcommand)]
        action: Option<cached::Action>,
    },
    /// Write the compiled prelude as a tar archive into a folder; a release compresses it.
    #[command(hide = true)]
    Pack { folder: PathBuf },
    /// Be a kernel; Jupyter calls this.
    Kernel {
        /// The connection file.
        #[arg(short = 'f', long)]
        connection_file: PathBuf,
        #[command(flatten)]
        backend: Backend,
    },
    /// Load, and wait to be the next kernel; a kernel calls this.
    #[command(hide = true)]
    Standby {
        #[command(flatten)]
        backend: Backend,
    },
    /// Look at all that a notebook needs and say what to do about what is missing.
    Doctor,
    /// Open JupyterLab with the kernel and the lessons; installs either where it is missing.
    Lab {
        /// Where the lessons are put and what is made of them is kept.
        #[arg(default_value = "headstart-notebooks")]
        folder: PathBuf,
        /// What JupyterLab itself is told, after `--`: `-- --no-browser`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Show, fetch and check the pretrained weights that are known by name.
    Weights {
        #[command(subcommand)]
        action: weights::Action,
    },
    /// Write a cargo project that does what a notebook does.
    Export {
        notebook: PathBuf,
        /// The project's folder, a new one: unless told, named after the notebook, in the current folder.
        folder: Option<PathBuf>,
    },
    /// Execute notebooks without Jupyter, and write them with their outputs.
    Run {
        /// The notebooks, each in a session of its own.
        #[arg(required = true)]
        notebooks: Vec<PathBuf>,
        /// Write here rather than over the notebook: a file, or a folder for several notebooks.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Write a page to open in a browser beside each notebook, and one that leads to them in a folder of several.
        #[arg(long)]
        html: bool,
        #[command(flatten)]
        options: run::Options,
        #[command(flatten)]
        backend: Backend,
    },
}
