//! Winograd transforms of kernels and of their gradients.

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::transform::{IN, POSITIONS, kernel_matrix, position_stride};
use crate::ops::output_ptr::OutputPtr;
use crate::ops::packed_gemm::LANES;

/// Kernel transform `G g G'`, for one panel of filters and some channels.
pub(super) struct KernelTransform<'a> {
    /// Order: filter, channel, pixel; if `transposed`: channel, filter, pixel in reverse.
    pub(super) kernels: &'a [f32],
    pub(super) transposed: bool,
    pub(super) filters: usize,
    pub(super) channels: usize,
    /// The panel's first filter.
    pub(super) first_filter: usize,
    pub(super) channel_range: Range<usize>,
    /// Order: tile position, panel of [`LANES`] filters, channel, filter of the panel. No other task
    /// writes these channels of the panel.
    pub(super) target: &'a OutputPtr,
}

impl NullaryFnOnce for KernelTransform<'_> {
    type Output = ();

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let KernelTransform { kernels, transposed, filters, channels, first_filter, channel_range, target } =
            self;
        let g = kernel_matrix();
        for channel in channel_range {
            let mut kernel = [[0f64; LANES]; 9];
            for lane in 0..LANES {
                let filter = first_filter + lane;
                let index = if transposed { channel * filters + filter } else { filter * channels + channel };
                for (pixel, value) in kernels[index * 9..][..9].iter().enumerate() {
                    kernel[if transposed { 8 - pixel } else { pixel }][lane] = f64::from(*value);
                }
            }
            let mut rows = [[[0f64; LANES]; 3]; IN];
            for (row, g) in rows.iter_mut().zip(g) {
                for x in 0..3 {
                    for lane in 0..LANES {
                        row[x][lane] =
                            g[0] * kernel[x][lane] + g[1] * kernel[3 + x][lane] + g[2] * kernel[6 + x][lane];
                    }
                }
            }
            for position in 0..POSITIONS {
                let (row, g) = (&rows[position / IN], g[position % IN]);
                let mut transformed = [0f32; LANES];
                for lane in 0..LANES {
                    transformed[lane] =
                        (g[0] * row[0][lane] + g[1] * row[1][lane] + g[2] * row[2][lane]) as f32;
                }
                // SAFETY: the offset lies inside the target.
                let slot =
                    unsafe { target.at((position * filters + first_filter) * channels + channel * LANES) };
                // SAFETY: at least `LANES` filters follow, because the filters are a multiple of them.
                unsafe { std::ptr::copy_nonoverlapping(transformed.as_ptr(), slot, LANES) };
            }
        }
    }
}

/// Adjoint kernel transform `G' m G`: from one filter's sums to the gradients of its kernels.
pub(super) struct KernelGradientTransform<'a> {
    /// Order: tile position ([`position_stride`] apart), filter, channel.
    pub(super) sums: &'a [f32],
    pub(super) filters: usize,
    pub(super) channels: usize,
    pub(super) filter: usize,
    /// Order: channel, pixel.
    pub(super) target: &'a mut [f32],
}

impl NullaryFnOnce for KernelGradientTransform<'_> {
    type Output = ();

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let KernelGradientTransform { sums, filters, channels, filter, target } = self;
        let g = kernel_matrix();
        for first in (0..channels).step_by(LANES) {
            let mut rows = [[[0f64; LANES]; 3]; IN];
            for position in 0..POSITIONS {
                let sums = &sums[position * position_stride(filters, channels) + filter * channels + first..]
                    [..LANES];
                let sums: [f64; LANES] = std::array::from_fn(|lane| f64::from(sums[lane]));
                for (row, g) in rows[position / IN].iter_mut().zip(g[position % IN]) {
                    for lane in 0..LANES {
                        row[lane] += g * sums[lane];
                    }
                }
            }
            let mut kernels = [[0f32; 9]; LANES];
            for pixel in 0..9 {
                let mut transformed = [0f64; LANES];
                for (row, g) in rows.iter().zip(g) {
                    for lane in 0..LANES {
                        transformed[lane] += g[pixel / 3] * row[pixel % 3][lane];
                    }
                }
                for lane in 0..LANES {
                    kernels[lane][pixel] = transformed[lane] as f32;
                }
            }
            target[first * 9..][..LANES * 9].copy_from_slice(kernels.as_flattened());
        }
    }
}
