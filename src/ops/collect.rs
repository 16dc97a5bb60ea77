//! Parallel collection of computed values into a new vector, without writing zeros first.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::output_ptr::OutputPtr;
use super::thread_pool::{parallel_chunks_mut, parallel_map};

/// Collects `count` values in parallel, one chunk of at most `chunk` values per task.
pub(crate) fn parallel_collect<I: ExactSizeIterator<Item = f32>>(
    count: usize,
    chunk: usize,
    values: impl Fn(usize, Range<usize>) -> I + Sync,
) -> Vec<f32> {
    let mut collected = Vec::with_capacity(count);
    parallel_chunks_mut(&mut collected.spare_capacity_mut()[..count], chunk, |index, slots| {
        let start = index * chunk;
        let values = values(index, start..start + slots.len());
        assert_eq!(values.len(), slots.len());
        slots.iter_mut().zip(values).for_each(|(slot, value)| _ = slot.write(value));
    });
    // SAFETY: every chunk was written, value by value.
    unsafe { collected.set_len(count) };
    collected
}

/// Collects `[N, C, …]` in parallel, one channel per task, so that the channel stays in the cache.
///
/// For each channel, `compute` returns a result and a function from the range of one feature map to
/// its values. Returns the values, and the results of all channels.
pub(crate) fn parallel_collect_by_channel<
    T: Send,
    I: ExactSizeIterator<Item = f32>,
    F: Fn(Range<usize>) -> I,
>(
    count: usize,
    channels: usize,
    pixels: usize,
    compute: impl Fn(usize) -> (T, F) + Sync,
) -> (Vec<f32>, Vec<T>) {
    assert!(count.is_multiple_of((channels * pixels).max(1)), "whole feature maps of every channel");
    let mut collected: Vec<f32> = Vec::with_capacity(count);
    let target = OutputPtr(collected.as_mut_ptr());
    let collect_channel = |channel| {
        let (result, values) = compute(channel);
        for start in (channel * pixels..count).step_by((channels * pixels).max(1)) {
            let values = values(start..start + pixels);
            assert_eq!(values.len(), pixels);
            // SAFETY: the feature map lies within the vector's capacity, and no other task writes it.
            let map = unsafe { std::slice::from_raw_parts_mut(target.at(start).cast(), pixels) };
            map.iter_mut().zip(values).for_each(|(slot, value)| _ = MaybeUninit::write(slot, value));
        }
        result
    };
    let results = parallel_map(channels, collect_channel);
    // SAFETY: every feature map of every channel was written, value by value.
    unsafe { collected.set_len(count) };
    (collected, results)
}
