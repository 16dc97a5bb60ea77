//! Handles of layers in a builder.

use std::sync::atomic::{AtomicU64, Ordering};

/// Handle of a layer in a [`ModelBuilder`](super::ModelBuilder). It belongs to its builder: another builder refuses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeId {
    builder: BuilderId,
    pub(super) node: usize,
}

/// Identity and name of a builder. The name is for errors.
#[derive(Clone, Copy)]
pub(super) struct BuilderId {
    number: u64,
    name: [u8; Self::NAME_BYTES],
    length: usize,
}

impl PartialEq for BuilderId {
    fn eq(&self, other: &BuilderId) -> bool {
        self.number == other.number
    }
}

impl Eq for BuilderId {}

impl BuilderId {
    /// Longest stored name (32 bytes: longer than the names of the library's networks). A longer one is truncated, so
    /// that an id is small and `Copy`.
    const NAME_BYTES: usize = 32;

    pub(super) fn new(name: &str) -> BuilderId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let length = name.floor_char_boundary(Self::NAME_BYTES);
        let mut bytes = [0; Self::NAME_BYTES];
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        BuilderId { number: NEXT.fetch_add(1, Ordering::Relaxed), name: bytes, length }
    }

    fn name(&self) -> &str {
        std::str::from_utf8(&self.name[..self.length]).unwrap_or_default()
    }

    /// The handle of one of the builder's layers.
    pub(super) fn of_node(self, node: usize) -> NodeId {
        NodeId { builder: self, node }
    }

    /// The index of a layer of this builder.
    ///
    /// # Errors
    /// A description of the layer if it belongs to another builder.
    pub(super) fn index_of(&self, id: NodeId) -> Result<usize, String> {
        if id.builder == *self {
            return Ok(id.node);
        }
        let also = if id.builder.name() == self.name() { ", which has the same name" } else { "" };
        Err(format!("layer {} of another builder, `{}`{also}", id.node, id.builder.name()))
    }
}

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeId({} of {:?})", self.node, self.builder.name())
    }
}
