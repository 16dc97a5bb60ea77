//! What candle lacks or gets wrong, each with its gradient.

mod max_pool;

pub use max_pool::MaxPool;
