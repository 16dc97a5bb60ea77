//! Command-line arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::{cached, features, models, results, run, weights};
use crate::prelude::backend::Backend;

/// Transfer learning in Rust, cell by cell.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
/// Subcommand to run.
pub enum Command {
    /// Compile the prelude and register the kernel with Jupyter.
    Install {
        /// Install for the Jupyter of one environment, such as a Python virtual environment.
        #[arg(long)]
        prefix: Option<PathBuf>,
        /// Compile the prelude even if one is ready or came with this program.
        #[arg(long)]
        from_source: bool,
        #[command(flatten)]
        backend: Backend,
    },
    /// Remove the kernel from Jupyter, and its files from the cache.
    Uninstall {
        /// Remove the kernel from the Jupyter of one environment only.
        #[arg(long)]
        prefix: Option<PathBuf>,
        /// Also remove downloaded weights.
        #[arg(long)]
        weights: bool,
    },
    /// Show the contents of the cache with their sizes, or clear it.
    Cache {
        #[command(subcommand)]
        action: Option<cached::Action>,
    },
    /// Write the compiled prelude as a tar archive into a folder; a release compresses it.
    #[command(hide = true)]
    Pack { folder: PathBuf },
    /// Run a kernel; Jupyter starts this.
    Kernel {
        /// The connection file.
        #[arg(short = 'f', long)]
        connection_file: PathBuf,
        #[command(flatten)]
        backend: Backend,
    },
    /// Load, and wait to serve the next kernel; a running kernel starts this.
    #[command(hide = true)]
    Standby {
        #[command(flatten)]
        backend: Backend,
    },
    /// Check everything that a notebook needs, and print how to install what is missing.
    Doctor,
    /// Open JupyterLab with the kernel and the lessons; install both if they are missing.
    Lab {
        /// The folder for the lessons and for the files that they write.
        #[arg(default_value = "headstart-notebooks")]
        folder: PathBuf,
        /// Arguments for JupyterLab, after `--`: `-- --no-browser`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Show the networks that the library builds.
    Models {
        #[command(subcommand)]
        action: models::Action,
    },
    /// Show, download and check the pretrained weights.
    Weights {
        #[command(subcommand)]
        action: weights::Action,
    },
    /// Write a cargo project with the code of a notebook.
    Export {
        notebook: PathBuf,
        /// The project's folder, new or empty. Default: the notebook's name, in the current folder.
        folder: Option<PathBuf>,
    },
    /// Execute notebooks without Jupyter, and write them with their outputs.
    Run {
        /// The notebooks; each runs in its own session.
        #[arg(required = true)]
        notebooks: Vec<PathBuf>,
        /// Write to this path and keep the notebook unchanged: a file, or a folder for several notebooks.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Also write each notebook as an HTML page; for several notebooks in a folder, also an index page.
        #[arg(long)]
        html: bool,
        #[command(flatten)]
        options: run::Options,
        #[command(flatten)]
        backend: Backend,
    },
    /// Compute the features of a folder of images with a pretrained network, in shards that can be resumed.
    Features {
        #[command(flatten)]
        options: features::Options,
        #[command(flatten)]
        backend: Backend,
    },
    /// Collect the parameters and results of executed notebooks in a table and a chart.
    Results {
        #[command(flatten)]
        options: results::Options,
    },
}
