//! Partition of outputs and filters into tasks of nearly equal size.

use std::ops::Range;

/// Filters of a panel (16: one AVX-512 vector of f32, or several shorter vectors).
pub(super) const LANES: usize = 16;

/// Subrange `index` of `0..total` when it is split into `parts` of nearly equal size.
#[inline]
pub(super) fn subrange(total: usize, parts: usize, index: usize) -> Range<usize> {
    index * total / parts..(index + 1) * total / parts
}

/// Subrange `index` of the filters when they are split into `parts` of whole panels.
pub(super) fn filter_subrange(filters: usize, parts: usize, index: usize) -> Range<usize> {
    let panels = subrange(filters / LANES, parts, index);
    panels.start * LANES..panels.end * LANES
}

/// Number of blocks of at most `max_block` outputs each. If there are more blocks than threads, the
/// number is a multiple of the threads.
pub(super) fn block_count(outputs: usize, max_block: usize) -> usize {
    let (blocks, threads) = (outputs.div_ceil(max_block), rayon::current_num_threads());
    if blocks < threads { blocks } else { blocks.next_multiple_of(threads) }
}

/// Number of parts into which the filters are split, so that `blocks * parts` tasks keep all threads
/// busy. It is minimal, because each part lays out or transforms the inputs again. No sum depends on it.
pub(super) fn filter_part_count(blocks: usize) -> usize {
    let threads = rayon::current_num_threads();
    let is_even = |parts: &usize| (blocks * parts).is_multiple_of(threads) || blocks * parts >= 4 * threads;
    (1..).find(is_even).unwrap_or(1)
}
