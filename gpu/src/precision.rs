//! The precision of convolutions and feature maps.

use std::str::FromStr;

/// How convolutions are computed. Weights, their gradients, losses and the optimizer's state are always float32, and matrix
/// products are computed in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Factors with 24 bits.
    #[default]
    Float32,
    /// Factors with 11 bits, and sums in float32 (TensorFloat-32). The default on GPUs that support it, as in PyTorch.
    TensorFloat32,
    /// Feature maps with 8 bits, in memory too, and sums in float32 (bfloat16).
    BFloat16,
}

impl Precision {
    /// All values, in the order of their numbers.
    const ALL: [Precision; 3] = [Precision::Float32, Precision::TensorFloat32, Precision::BFloat16];
    /// The first compute capability with TensorFloat-32 and bfloat16.
    const FIRST_CAPABILITY: [i32; 2] = [8, 0];

    /// The default for a compute capability.
    pub(crate) fn default_of(capability: [i32; 2]) -> Precision {
        let preferred = Precision::TensorFloat32;
        if preferred.is_supported(capability) { preferred } else { Precision::Float32 }
    }

    /// Whether a GPU with a compute capability computes in this precision.
    pub(crate) fn is_supported(self, capability: [i32; 2]) -> bool {
        self == Precision::Float32 || capability >= Precision::FIRST_CAPABILITY
    }

    /// The number of the precision, to store it in an atomic variable.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The precision with a number.
    pub(crate) fn from_number(number: u8) -> Precision {
        Precision::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

impl FromStr for Precision {
    type Err = String;

    /// Reads `float32`, `tf32` or `bfloat16`. The error says what was expected.
    fn from_str(name: &str) -> Result<Precision, String> {
        match name {
            "float32" => Ok(Precision::Float32),
            "tf32" => Ok(Precision::TensorFloat32),
            "bfloat16" => Ok(Precision::BFloat16),
            _ => Err("expected float32, tf32 or bfloat16".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_that_of_pytorch() {
        for (capability, expected) in [
            ([7, 0], Precision::Float32),
            ([7, 5], Precision::Float32),
            ([8, 0], Precision::TensorFloat32),
            ([8, 9], Precision::TensorFloat32),
            ([12, 0], Precision::TensorFloat32),
        ] {
            assert_eq!(Precision::default_of(capability), expected, "{capability:?}");
            assert_eq!(Precision::BFloat16.is_supported(capability), expected != Precision::Float32);
        }
        for precision in Precision::ALL {
            assert_eq!(Precision::from_number(precision.number()), precision);
        }
        assert_eq!(
            ["float32", "tf32", "bfloat16"].map(|name| name.parse::<Precision>().unwrap()),
            Precision::ALL
        );
        assert!("half".parse::<Precision>().unwrap_err().contains("expected float32"));
    }
}
