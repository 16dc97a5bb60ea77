//! The products of convolutions that do not learn: kernels and what is seen, summed over channels.
//!
//! Matrix products of any library bring both factors into an order of their own first. Here both lie
//! in the order in which they are read, the kernels once for all batches. What is called a square is
//! one of Winograd's (`winograd`) at one of its places, or a window (`by_panels.rs`).

use std::ops::Range;

use pulp::{Simd, WithSimd};

/// Channels that are worked on together: a vector of them on any processor, or several.
pub(super) const LANES: usize = 16;

/// One of some parts, nearly the same in size.
pub(super) fn part(all: usize, parts: usize, at: usize) -> Range<usize> {
    at * all / parts..(at + 1) * all / parts
}

/// The same of filters, in whole panels.
pub(super) fn part_of_filters(filters: usize, parts: usize, at: usize) -> Range<usize> {
    let panels = part(filters / LANES, parts, at);
    panels.start * LANES..panels.end * LANES
}

/// In how many blocks outputs are taken, of at most so many: where there are more blocks than threads,
/// as many for each thread.
pub(super) fn blocks(outputs: usize, most: usize) -> usize {
    let (blocks, threads) = (outputs.div_ceil(most), rayon::current_num_threads());
    if blocks < threads { blocks } else { blocks.next_multiple_of(threads) }
}

/// In how many parts the filters are taken, so that tasks of so many blocks keep all threads busy:
/// what is seen is laid out or transformed anew for each. No sum depends on it.
pub(super) fn parts(blocks: usize) -> usize {
    let threads = rayon::current_num_threads();
    let is_even = |parts: &usize| (blocks * parts).is_multiple_of(threads) || blocks * parts >= 4 * threads;
    (1..).find(is_even).unwrap_or(1)
}

/// Channels whose kernels, for a tile's filters, stay in the nearest cache while all squares meet them.
const ROUND: usize = 128;
/// Channels whose products are added between two looks whether there are more.
const TOGETHER: usize = 8;

/// Whether there are registers for rounds, and for fetching ahead. With the sixteen of AVX2 a compiler
/// then keeps one of the sums in memory, and all of it takes half as long again.
const fn has_many_registers<S: Simd>() -> bool {
    S::F32_LANES == 16
}

/// Writes, at one place, each square's sums over the channels for each filter.
pub(super) struct Products<'a> {
    pub(super) channels: usize,
    /// Panel of [`LANES`] filters, channel, filter of the panel.
    pub(super) kernels: &'a [f32],
    /// Those that are read after these, to be fetched in time.
    pub(super) next: &'a [f32],
    /// Square, channel.
    pub(super) seen: &'a [f32],
    /// Square, filter.
    pub(super) made: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as the registers hold: a tile's filters, in vectors, times at most so many squares.
        match S::F32_LANES {
            16 => self.by_tiles::<S, 4, 6>(simd),
            8 => self.by_tiles::<S, 2, 6>(simd),
            4 => self.by_tiles::<S, 4, 6>(simd),
            _ => self.by_tiles::<S, LANES, 1>(simd),
        }
    }
}

/// Some channels of a tile's filters.
struct Round {
    filter: usize,
    channels: Range<usize>,
    /// What the kernels of the round after this one begin with.
    next: *const f32,
}

impl Products<'_> {
    #[inline(always)]
    fn by_tiles<S: Simd, const VECTORS: usize, const MOST: usize>(mut self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let whole = self.filters() / width * width;
        for filter in (0..whole).step_by(width) {
            self.by_rounds::<S, VECTORS, MOST>(simd, filter);
        }
        // No vector is longer than a panel.
        for filter in (whole..self.filters()).step_by(S::F32_LANES) {
            self.by_rounds::<S, 1, MOST>(simd, filter);
        }
    }

    fn filters(&self) -> usize {
        self.kernels.len() / self.channels
    }

    #[inline(always)]
    fn by_rounds<S: Simd, const VECTORS: usize, const MOST: usize>(&mut self, simd: S, filter: usize) {
        if !has_many_registers::<S>() {
            let round = Round { filter, channels: 0..self.channels, next: std::ptr::null() };
            return self.by_squares::<S, VECTORS, MOST>(simd, &round);
        }
        let after = filter + VECTORS * S::F32_LANES;
        for start in (0..self.channels).step_by(ROUND) {
            let end = self.channels.min(start + ROUND);
            let next = if end < self.channels {
                self.kernels_of(filter, end)
            } else if after < self.filters() {
                self.kernels_of(after, 0)
            } else {
                self.next.as_ptr()
            };
            self.by_squares::<S, VECTORS, MOST>(simd, &Round { filter, channels: start..end, next });
        }
    }

    /// From one filter and channel on.
    #[inline(always)]
    fn kernels_of(&self, filter: usize, channel: usize) -> *const f32 {
        let panel = filter / LANES * LANES;
        self.kernels[panel * self.channels + channel * LANES + filter % LANES..].as_ptr()
    }

    #[inline(always)]
    fn by_squares<S: Simd, const VECTORS: usize, const MOST: usize>(&mut self, simd: S, round: &Round) {
        let squares = self.seen.len() / self.channels;
        let tiles = squares.div_ceil(MOST);
        for tile in 0..tiles {
            let squares = part(squares, tiles, tile);
            let next = part(round.channels.len(), tiles, tile);
            match squares.len() {
                1 => self.tile::<S, VECTORS, 1>(simd, round, squares.start, next),
                2 => self.tile::<S, VECTORS, 2>(simd, round, squares.start, next),
                3 => self.tile::<S, VECTORS, 3>(simd, round, squares.start, next),
                4 => self.tile::<S, VECTORS, 4>(simd, round, squares.start, next),
                5 => self.tile::<S, VECTORS, 5>(simd, round, squares.start, next),
                _ => self.tile::<S, VECTORS, MOST>(simd, round, squares.start, next),
            }
        }
    }

    /// Meanwhile some channels of the next round are fetched, and what the next squares see.
    #[inline(always)]
    fn tile<S: Simd, const VECTORS: usize, const SQUARES: usize>(
        &mut self,
        simd: S,
        Round { filter, channels: round, next }: &Round,
        square: usize,
        fetched: Range<usize>,
    ) {
        let channels = self.channels;
        let kernels: [_; VECTORS] =
            std::array::from_fn(|vector| self.kernels_of(filter + vector * S::F32_LANES, round.start));
        let seen = self.seen[square * channels..][..SQUARES * channels][round.start..].as_ptr();
        // SAFETY: so many squares have so many channels.
        let seen: [_; SQUARES] = std::array::from_fn(|at| unsafe { seen.add(at * channels) });
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; SQUARES];
        let mut add = |channel: usize| {
            // SAFETY: each panel has so many channels, and the vector lies within one.
            let kernels = kernels
                .map(|kernels| unsafe { kernels.add(channel * LANES).cast::<S::f32s>().read_unaligned() });
            for (sums, seen) in sums.iter_mut().zip(seen) {
                // SAFETY: each square has so many channels.
                let seen = simd.splat_f32s(unsafe { *seen.add(channel) });
                for (sum, kernels) in sums.iter_mut().zip(kernels) {
                    *sum = simd.mul_add_e_f32s(kernels, seen, *sum);
                }
            }
        };
        let whole = round.len() / TOGETHER * TOGETHER;
        let at_a_time = fetched.len().div_ceil(round.len().div_ceil(LANES));
        let panels = (VECTORS * S::F32_LANES).div_ceil(LANES);
        let mut next = next.wrapping_add(fetched.start * LANES);
        for channel in (0..whole).step_by(TOGETHER) {
            if has_many_registers::<S>() && channel.is_multiple_of(LANES) {
                for _ in 0..at_a_time {
                    (0..panels).for_each(|panel| fetch(next.wrapping_add(panel * channels * LANES)));
                    next = next.wrapping_add(LANES);
                }
                seen.iter().for_each(|seen| fetch(seen.wrapping_add(SQUARES * channels + channel)));
            }
            (0..TOGETHER).for_each(|more| add(channel + more));
        }
        (whole..round.len()).for_each(add);
        let filters = self.filters();
        let made = &mut self.made[square * filters..][..SQUARES * filters];
        for (made, sums) in made.chunks_exact_mut(filters).zip(sums) {
            let (made, _) = S::as_mut_simd_f32s(&mut made[*filter..][..VECTORS * S::F32_LANES]);
            match round.start {
                0 => made.copy_from_slice(&sums),
                _ => made.iter_mut().zip(sums).for_each(|(made, sum)| *made = simd.add_f32s(*made, sum)),
            }
        }
    }
}

/// Brings a line of memory near, if it is one.
#[inline(always)]
fn fetch(line: *const f32) {
    // SAFETY: every such processor can, and no address is wrong.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, Scalar128b, Scalar256b, Scalar512b};

    use super::*;
    use crate::ops::tests::{flat, values};

    /// With vectors of every length, whatever this processor has.
    #[test]
    fn sums_are_the_same_in_vectors_of_any_length() {
        for [channels, filters, squares] in [[40, 80, 13], [3, 16, 6], [300, 112, 2], [9, 32, 1], [17, 16, 3]]
        {
            let seen = flat(&values(1, &[squares, channels]));
            let kernels = flat(&values(2, &[filters / LANES, channels, LANES]));
            let sum = |at: usize| {
                let (square, filter) = (at / filters, at % filters);
                (0..channels).fold(0f64, |sum, channel| {
                    let kernel = kernels[(filter / LANES * channels + channel) * LANES + filter % LANES];
                    sum + f64::from(kernel) * f64::from(seen[square * channels + channel])
                })
            };
            let expected: Vec<f64> = (0..squares * filters).map(sum).collect();
            let ways: [fn(Products); 5] = [
                |products| Scalar.vectorize(products),
                |products| Scalar128b.vectorize(products),
                |products| Scalar256b.vectorize(products),
                |products| Scalar512b.vectorize(products),
                |products| pulp::Arch::new().dispatch(products),
            ];
            for (at, way) in ways.iter().enumerate() {
                let mut made = vec![f32::NAN; squares * filters];
                way(Products { channels, kernels: &kernels, next: &[], seen: &seen, made: &mut made });
                let takes_cpu_path = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-5;
                assert!(made.iter().zip(&expected).all(takes_cpu_path), "way {at}: {made:?}");
            }
        }
    }
}
