//! Memory for many numbers.

use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Numbers of a cache line: a register that lies across two takes twice as long to be read.
const LINE: usize = 16;

/// Calls a function with two buffers that hold anything at all, and begin with a cache line. Their
/// thread keeps them for the next task: fresh memory would have to be cleared.
pub(super) fn with_buffers<T>(sizes: [usize; 2], f: impl FnOnce([&mut [f32]; 2]) -> T) -> T {
    let mut buffers = KEPT.take();
    for (buffer, size) in buffers.iter_mut().zip(sizes) {
        if buffer.len() < size + LINE {
            *buffer = room(size + LINE);
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

/// An empty vector with room for so many, on the large pages of the system if it has some: fewer are
/// easier to find.
pub(super) fn room(count: usize) -> Vec<f32> {
    let room = Vec::with_capacity(count);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if size_of::<f32>() * count >= LARGE {
        let end = (room.as_ptr() as usize + size_of::<f32>() * count) / PAGE * PAGE;
        let start = (room.as_ptr() as usize).next_multiple_of(PAGE);
        // SAFETY: says something about memory, and changes none. If it is refused, pages are small.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
    }
    room
}

/// Bytes of a page.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const PAGE: usize = 4096;
/// Bytes in which there is surely a large page.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: usize = 4 << 20;
