//! Optimisations of the device path. Each of them can be switched off, to measure what it gains.

use std::sync::OnceLock;

/// An optimisation of the device path: candle's operations on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "some are for CUDA only"))]
pub(crate) enum Optimization {
    /// One explicit stream, without events that order the uses of each tensor.
    Stream,
    /// The memory pool keeps freed memory instead of returning it to the driver.
    Pool,
    /// Convolutions whose sides have equal padding pad their input themselves.
    Padding,
    /// The loss is read after the backward pass is launched.
    Loss,
    /// Targets stay on the CPU, where they are checked.
    Targets,
}

/// Environment variable for measurements: the optimisations that are switched off, separated by commas.
const WITHOUT_VARIABLE: &str = "HEADSTART_TEST_WITHOUT";

impl Optimization {
    fn name(self) -> &'static str {
        match self {
            Optimization::Stream => "stream",
            Optimization::Pool => "pool",
            Optimization::Padding => "padding",
            Optimization::Loss => "loss",
            Optimization::Targets => "targets",
        }
    }

    /// Whether the optimisation is used: always, except in a measurement.
    pub(crate) fn is_on(self) -> bool {
        static SWITCHED_OFF: OnceLock<String> = OnceLock::new();
        let switched_off = SWITCHED_OFF.get_or_init(|| std::env::var(WITHOUT_VARIABLE).unwrap_or_default());
        !is_listed(switched_off, self)
    }
}

/// Whether a list contains the name of an optimisation.
fn is_listed(list: &str, optimization: Optimization) -> bool {
    list.split(',').any(|name| name.trim() == optimization.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_switches_off_what_it_names() {
        assert!(is_listed("stream,loss", Optimization::Stream));
        assert!(is_listed("pool, padding", Optimization::Padding));
        assert!(!is_listed("stream,loss", Optimization::Pool) && !is_listed("", Optimization::Targets));
        assert!(!is_listed("losses", Optimization::Loss));
    }
}
