//! What a task works in, kept by its thread for the next: fresh memory would have to be cleared.

use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Calls a function with two buffers that hold anything at all.
pub(super) fn with_buffers<T>(sizes: [usize; 2], f: impl FnOnce([&mut [f32]; 2]) -> T) -> T {
    let mut buffers = KEPT.take();
    for (buffer, size) in buffers.iter_mut().zip(sizes) {
        if buffer.len() < size {
            buffer.resize(size, 0.0);
        }
    }
    let [a, b] = &mut buffers;
    let result = f([&mut a[..sizes[0]], &mut b[..sizes[1]]]);
    KEPT.set(buffers);
    result
}
