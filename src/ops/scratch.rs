//! Scratch buffers of a thread, reused from task to task: fresh memory costs page faults and zeroing.

use std::cell::RefCell;

thread_local! {
    static BUFFERS: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// f32 values of one cache line (16: 64 bytes). A vector load across two lines takes twice as long.
const CACHE_LINE: usize = 16;

/// Calls `f` with two buffers whose contents are unspecified and whose start is aligned to a cache line.
pub(super) fn with_buffers<T>(sizes: [usize; 2], f: impl FnOnce([&mut [f32]; 2]) -> T) -> T {
    let mut buffers = BUFFERS.take();
    for (buffer, size) in buffers.iter_mut().zip(sizes) {
        if buffer.len() < size + CACHE_LINE {
            buffer.resize(size + CACHE_LINE, 0.0);
        }
    }
    let [a, b] = &mut buffers;
    let result = f([&mut from_cache_line(a)[..sizes[0]], &mut from_cache_line(b)[..sizes[1]]]);
    BUFFERS.set(buffers);
    result
}

/// The part of the buffer from its first cache line boundary on.
fn from_cache_line(buffer: &mut [f32]) -> &mut [f32] {
    let aligned = buffer.as_ptr().align_offset(CACHE_LINE * size_of::<f32>());
    &mut buffer[aligned..]
}
