//! Memory, copies, and errors of the driver.

use headstart_gpu::{Error, Precision};

use super::{fake, gpu};

#[test]
fn values_are_copied_both_ways_and_parts_share_them() {
    let gpu = gpu();
    let array = gpu.upload(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    let part = array.part(1, 2).unwrap();
    gpu.write(&part, &[7.0, 8.0]).unwrap();
    assert_eq!(gpu.download(&array).unwrap(), [1.0, 7.0, 8.0, 4.0]);
    assert_eq!(gpu.read_back(&part).unwrap().values().unwrap(), [7.0, 8.0]);
    let other = gpu.array(4).unwrap();
    gpu.copy(&array, &other).unwrap();
    gpu.fill(&array, 0.5).unwrap();
    assert_eq!(gpu.download(&other).unwrap(), [1.0, 7.0, 8.0, 4.0]);
    assert_eq!(gpu.download(&array).unwrap(), [0.5; 4]);
    // An array without values is valid. CUDA does not promise to accept calls with a size of 0.
    let empty = gpu.upload(&[]).unwrap();
    gpu.fill(&empty, 1.0).unwrap();
    gpu.copy(&empty, &empty).unwrap();
    assert!(gpu.download(&empty).unwrap().is_empty());
    assert!(gpu.read_back(&empty).unwrap().values().unwrap().is_empty());
}

#[test]
fn pending_copies_keep_their_values() {
    let gpu = gpu();
    // More than the buffers that are kept for reuse.
    let arrays: Vec<_> =
        (0..40).map(|value| gpu.upload(&vec![value as f32; 1000 + value]).unwrap()).collect();
    let copies: Vec<_> = arrays.iter().map(|array| gpu.read_back(array).unwrap()).collect();
    for (value, (array, copy)) in arrays.iter().zip(&copies).enumerate() {
        gpu.fill(array, -1.0).unwrap();
        assert_eq!(copy.values().unwrap(), vec![value as f32; 1000 + value]);
        // The values can be read again.
        assert_eq!(copy.values().unwrap().len(), 1000 + value);
    }
    // A copy that is too large for page-locked memory.
    let large = vec![0.25; 17 << 20];
    assert_eq!(gpu.download(&gpu.upload(&large).unwrap()).unwrap(), large);
}

#[test]
fn wrong_lengths_are_refused() {
    let gpu = gpu();
    let array = gpu.array(4).unwrap();
    for error in [
        gpu.write(&array, &[1.0]).unwrap_err(),
        gpu.copy(&array, &gpu.array(3).unwrap()).unwrap_err(),
        array.part(2, 3).unwrap_err(),
        array.part(usize::MAX, 2).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Length { .. }), "{error}");
    }
}

#[test]
fn a_full_memory_is_an_error_that_says_so() {
    let gpu = gpu();
    let error = gpu.array(1 << 40).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    assert!(error.to_string().contains("smaller batch"), "{error}");
    assert!(gpu.array(usize::MAX).is_err());
    assert!(gpu.array(4).is_ok());
}

#[test]
fn work_of_several_threads_is_counted_and_right() {
    let gpu = fake::open(Precision::Float32);
    let before = gpu.launches();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let gpu = &gpu;
            scope.spawn(move || {
                for _ in 0..50 {
                    let value = number as f32;
                    let array = gpu.upload(&[value; 100]).unwrap();
                    gpu.affine(&array, &array, 2.0, 1.0, headstart_gpu::Output::Replace).unwrap();
                    assert_eq!(gpu.download(&array).unwrap(), [2.0 * value + 1.0; 100]);
                }
            });
        }
    });
    assert_eq!(gpu.launches() - before, 4 * 50 * 3);
}

#[test]
fn the_fake_driver_refuses_events_that_do_not_exist() {
    if fake::is_real() {
        return;
    }
    type Function = unsafe extern "C" fn(*mut libc::c_void) -> i32;
    // The context is current in this thread after an operation.
    gpu().synchronize().unwrap();
    let path = std::ffi::CString::new(fake::folder().join("libcuda.so.1").to_str().unwrap()).unwrap();
    // SAFETY: the functions take an event. The first one writes it; the fake driver compares the address only.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let function = |name: &std::ffi::CStr| {
            let address = libc::dlsym(library, name.as_ptr());
            assert!(!address.is_null());
            std::mem::transmute::<*mut libc::c_void, Function>(address)
        };
        let mut event: *mut libc::c_void = std::ptr::null_mut();
        assert_eq!(function(c"cuEventCreate")((&raw mut event).cast()), 0);
        let calls = [c"cuEventQuery", c"cuEventSynchronize", c"cuEventDestroy_v2"];
        assert_eq!(calls.map(|name| function(name)(event)), [0; 3]);
        // CUDA_ERROR_INVALID_HANDLE, as the real driver says.
        assert_eq!(calls.map(|name| function(name)(event)), [400; 3]);
        assert_eq!(calls.map(|name| function(name)(std::ptr::null_mut())), [400; 3]);
    }
}

#[test]
fn the_gpu_describes_itself() {
    let gpu = fake::open(Precision::TensorFloat32);
    assert_eq!(format!("{gpu:?}"), "Fake GPU (sm_90, TensorFloat32)");
    assert_eq!(gpu.memory(), 8 << 30);
    gpu.synchronize().unwrap();
}
