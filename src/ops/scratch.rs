//! What a task works in, kept by its thread for the next: fresh memory would have to be cleared.

use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Numbers of a cache line: a register that lies across two takes twice as long to be read.
const LINE: usize = 16;

/// Calls a function with two buffers that hold anything at all, and begin with a cache line.
pub(super) fn with_buffers<T>(sizes: [usize; 2], f: impl FnOnce([&mut [f32]; 2]) -> T) -> T {
    let mut buffers = KEPT.take();
    for (buffer, size) in buffers.iter_mut().zip(sizes) {
        if buffer.len() < size + LINE {
            buffer.resize(size + LINE, 0.0);
        }
    }
    let [a, b] = &mut buffers;
    let result = f([&mut from_line(a)[..sizes[0]], &mut from_line(b)[..sizes[1]]]);
    KEPT.set(buffers);
    result
}

fn from_line(buffer: &mut [f32]) -> &mut [f32] {
    let first = buffer.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut buffer[first..]
}
