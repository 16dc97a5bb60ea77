//! Interpolation of position embeddings to another grid of patches, as timm's `resample_abs_pos_embed`: bicubic, with
//! antialiasing.

use candle_core::{DType, Device, Tensor};

/// Resizes embeddings `[tokens, C]` or `[1, tokens, C]` of a square grid to the shape `expected`, `[tokens, C]`, of
/// the grid `[rows, columns]`. Tokens before those of the grid, such as the class token, are kept.
///
/// # Errors
/// A description, if the tensor has no such shape.
pub(super) fn resize(tensor: &Tensor, expected: &[usize], grid: [usize; 2]) -> Result<Tensor, String> {
    let refuse = || {
        let found = tensor.dims();
        format!(
            "expected shape {expected:?}, or positions of another square grid of patches, found {found:?}"
        )
    };
    let (&[tokens, features], &[.., found, found_features]) = (expected, tensor.dims()) else {
        return Err(refuse());
    };
    let prefix = tokens - grid[0] * grid[1];
    let side = found.saturating_sub(prefix).isqrt();
    if found_features != features
        || side == 0
        || side * side + prefix != found
        || tensor.elem_count() != found * features
    {
        return Err(refuse());
    }
    let resized = || -> candle_core::Result<Tensor> {
        let cpu = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let values = cpu.flatten_all()?.to_vec1::<f32>()?;
        let (kept, patches) = values.split_at(prefix * features);
        // Rows first, so that each sum runs over whole rows of the grid.
        let rows = along(patches, side, grid[0], side * features);
        let mut output = kept.to_vec();
        for row in rows.chunks(side * features) {
            output.extend(along(row, side, grid[1], features));
        }
        Tensor::from_vec(output, (tokens, features), tensor.device())
    };
    resized().map_err(|error| error.to_string())
}

/// Resizes the first dimension of `[length, inner]` to `outputs`.
fn along(values: &[f32], length: usize, outputs: usize, inner: usize) -> Vec<f32> {
    let mut output = Vec::with_capacity(outputs * inner);
    for (first, weights) in weights(length, outputs) {
        let mut sum = vec![0f64; inner];
        for (weight, row) in weights.iter().zip(values[first * inner..].chunks(inner)) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        output.extend(sum.iter().map(|sum| *sum as f32));
    }
    output
}

/// For each output, the first input and the weights of the inputs from there on (PyTorch's
/// `_upsample_bicubic2d_aa`).
fn weights(inputs: usize, outputs: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = inputs as f64 / outputs as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let window = |output: usize| {
        let centre = scale * (output as f64 + 0.5);
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(inputs);
        let weight = |input: usize| cubic((input as f64 - centre + 0.5) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.iter().map(|weight| weight / sum).collect())
    };
    (0..outputs).map(window).collect()
}

/// Cubic convolution with the parameter -1/2 (Keys 1981), as PyTorch uses it with antialiasing.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
