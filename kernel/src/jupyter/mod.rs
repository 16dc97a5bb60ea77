//! The kernel's interface to Jupyter.
//!
//! Contains the connection file, the sockets and messages of the protocol, the history, and the standby
//! that waits for the next kernel. Runs cells through [`crate::engine::handle::Engine`] and does not depend
//! on evcxr.

pub mod comms;
pub mod debug;
pub mod dispatch;
pub mod execute;
pub mod history;
pub mod kernel;
pub mod notices;
pub mod origin;
pub mod proxy;
pub mod standby;
pub mod start_standby;
pub mod takeover;
pub mod wire;
