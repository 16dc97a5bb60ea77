//! The kernels' source, compiled by NVIDIA's own compiler where it is installed: it needs no GPU.

use headstart_gpu::{Libraries, compile_kernels};

#[test]
fn the_kernels_compile_for_every_supported_architecture() {
    let libraries = Libraries::of_system();
    if libraries.report()[1].file.is_err() {
        // Without NVRTC, only the fake driver's C++ compiler has read the source.
        return;
    }
    for architecture in ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"] {
        let cubin = compile_kernels(&libraries, architecture).unwrap();
        assert!(cubin.starts_with(b"\x7fELF"), "{architecture}");
        for kernel in headstart_gpu::KERNELS {
            let has = cubin.windows(kernel.len()).any(|bytes| bytes == kernel.as_bytes());
            assert!(has, "{architecture} lacks {kernel}");
        }
        if let Some(folder) = std::env::var_os("HEADSTART_TEST_CUBINS") {
            std::fs::write(std::path::Path::new(&folder).join(format!("{architecture}.cubin")), cubin)
                .unwrap();
        }
    }
}
