//! Execution plans: the steps of a forward pass.
//!
//! A model is compiled once for each combination of freezing state, mode, device and requested outputs. A forward pass
//! then only walks the steps of its plan. [`compile`] decides which layers are fused, where feature maps change their
//! layout, and when a value is freed. [`run`] executes the steps; [`display`] shows them.

mod compile;
mod display;
mod run;

pub use display::{Plan, PlanStep};
