//! The crate's own kernels, in CUDA C, and how they are launched.

use crate::raw::{Argument, Gpu};
use crate::{Error, Result};

/// The source of all kernels, compiled as one program.
pub const SOURCE: &str = concat!(
    include_str!("kernels/common.cu"),
    include_str!("kernels/bfloat16.cu"),
    include_str!("kernels/pointwise.cu"),
    include_str!("kernels/batch_norm.cu"),
    include_str!("kernels/channels_last.cu"),
    include_str!("kernels/pool.cu"),
    include_str!("kernels/loss.cu"),
    include_str!("kernels/optimizer.cu"),
    include_str!("kernels/random.cu"),
    include_str!("kernels/rows.cu"),
);

/// The names of the kernels.
pub const KERNELS: [&str; 39] = [
    "activation_backward",
    "add_activation",
    "add_parts",
    "affine",
    "average_pool",
    "average_pool_backward",
    "batch_statistics",
    "batch_statistics_of_parts",
    "bfloat16_to_float32",
    "bias_activation",
    "bias_backward",
    "class_matches",
    "clip_factors",
    "dropout",
    "float32_to_bfloat16",
    "gather_rows",
    "global_mean",
    "global_mean_backward",
    "gradient_squares",
    "max_pool",
    "max_pool_backward",
    "mean_loss",
    "means_of_samples",
    "normalize",
    "normalize_backward",
    "normalize_backward_sums",
    "normalize_sums_of_parts",
    "optimizer_step",
    "pad_maps",
    "products_of_samples",
    "scale_maps",
    "scale_maps_backward",
    "sigmoid_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
    "statistics_of_parts",
    "sum",
    "sums_of_parts",
];

/// Threads of a block with one thread per value: `THREADS` in the source.
const THREADS: u32 = 256;
/// Threads of a block that reduces: `BLOCK` in the source.
const BLOCK: u32 = 512;

/// Largest size of an operation. A kernel's counter, an `int`, goes beyond it by a block's threads.
const MAX_SIZE: i32 = i32::MAX - 1024;

/// A size as the kernels' `int`.
pub(crate) fn int(operation: &'static str, value: usize) -> Result<i32> {
    let size = i32::try_from(value).ok().filter(|size| *size <= MAX_SIZE);
    size.ok_or_else(|| {
        Error::argument(operation, format!("at most {MAX_SIZE} values; use a smaller batch"), value)
    })
}

impl Gpu {
    /// Launches a kernel with one thread for each of `count` values.
    pub(crate) fn launch_each(
        &self,
        kernel: &'static str,
        count: usize,
        arguments: &[Argument],
    ) -> Result<()> {
        int(kernel, count)?;
        self.launch(kernel, count.div_ceil(THREADS as usize), THREADS, arguments)
    }

    /// Launches a kernel with one block for each of `results` results.
    pub(crate) fn launch_blocks(
        &self,
        kernel: &'static str,
        results: usize,
        arguments: &[Argument],
    ) -> Result<()> {
        self.launch(kernel, results, BLOCK, arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_goes_beyond_the_largest_size_by_a_block_is_an_int() {
        assert!(MAX_SIZE.checked_add_unsigned(BLOCK.max(THREADS)).is_some());
        let largest = MAX_SIZE as usize;
        assert_eq!(int("add", largest).unwrap(), MAX_SIZE);
        let error = int("add", largest + 1).unwrap_err().to_string();
        assert!(error.contains("at most 2147482623 values; use a smaller batch"), "{error}");
        assert!(int("add", usize::MAX).is_err());
    }

    #[test]
    fn the_list_has_every_kernel_of_the_source() {
        let names = SOURCE.split("__global__ void ").skip(1).map(|rest| rest.split('(').next().unwrap());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        assert_eq!(names, KERNELS);
        for (name, value) in [("THREADS", THREADS), ("BLOCK", BLOCK)] {
            assert!(SOURCE.contains(&format!("#define {name} {value}\n")), "{name}");
        }
    }
}
