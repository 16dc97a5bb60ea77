//! The kernels' source, compiled by NVIDIA's own compiler, which needs no GPU.

use headstart_gpu::{KERNELS, Libraries, compile_kernels};

#[test]
#[ignore = "needs NVRTC; tests/cuda installs it and runs this test"]
fn the_kernels_compile_for_every_supported_architecture_without_spills() {
    let libraries = Libraries::from_system();
    for architecture in ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"] {
        let (cubin, log) = compile_kernels(&libraries, architecture).unwrap();
        assert!(cubin.starts_with(b"\x7fELF"), "{architecture}");
        assert_eq!(log.matches(" bytes spill stores").count(), KERNELS.len(), "{log}");
        for (spilled, line) in log.lines().filter_map(|line| Some((line.split_once("spill stores")?.0, line)))
        {
            assert!(spilled.ends_with(", 0 bytes "), "{architecture}: {line}");
        }
        // A block of 512 threads has 65,536 registers.
        let registers =
            log.split(" registers").filter_map(|before| before.rsplit("Used ").next()?.parse().ok());
        let registers: Vec<usize> = registers.collect();
        assert!(registers.len() == KERNELS.len() && registers.iter().all(|count| *count <= 128), "{log}");
        for kernel in KERNELS {
            assert!(log.contains(&format!("'{kernel}'")), "{architecture} lacks {kernel}");
        }
    }
    // For GPUs that are newer than NVRTC.
    let (ptx, _) = compile_kernels(&libraries, "compute_90").unwrap();
    let text = String::from_utf8(ptx).unwrap();
    assert!(text.ends_with('\0') && text.contains(".target sm_90"), "{text}");
}
