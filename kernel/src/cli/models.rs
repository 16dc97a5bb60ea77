//! The `headstart models` command: lists the networks that the library builds. It needs no Rust toolchain.

use serde::Deserialize;

use crate::prelude::sources::models_table;

/// Action on the networks.
#[derive(clap::Subcommand)]
pub enum Action {
    /// List the networks that `Network::named` builds, with their default weights.
    List,
}

/// Entry of the table: the part of `ModelInfo` in the library that is listed.
#[derive(Deserialize)]
struct Network {
    name: String,
    parameters: usize,
    side: usize,
    repository: String,
    licence: String,
    top1: Option<f64>,
}

#[derive(Deserialize)]
struct Table {
    models: Vec<Network>,
}

impl Network {
    fn line(&self) -> String {
        let Network { name, side, repository, licence, .. } = self;
        let millions = self.parameters as f64 / 1e6;
        let top1 = self.top1.map_or_else(|| "top-1 unknown".into(), |top1| format!("top-1 {top1:.1} %"));
        format!("{name:<20}{millions:>6.1} M  {side:>3} px  {top1:<14}{licence:<16}{repository}")
    }
}

impl Action {
    /// Runs the action.
    ///
    /// # Errors
    /// The message for the user, if the table cannot be read.
    pub fn run(&self) -> Result<(), String> {
        let Action::List = self;
        let table =
            toml::from_str::<Table>(models_table()).map_err(|error| format!("the networks: {error}"))?;
        table.models.iter().for_each(|network| println!("{}", network.line()));
        Ok(())
    }
}
