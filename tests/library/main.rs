//! Tests of the library's public interface.

mod architecture;
mod bad_input;
mod broken_training;
mod building;
mod decisions;
mod demo;
mod evaluation;
mod explain;
mod files;
mod flattened;
mod gradients;
mod habits;
mod hub;
mod hub_failures;
mod image_files;
mod keras;
mod layers;
mod lite0;
mod own_losses;
mod parity;
mod program;
mod small;
mod surplus;
mod training;
mod weight_files;
