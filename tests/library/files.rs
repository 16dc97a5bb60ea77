//! Weight files: all formats are read; damaged and malicious files are rejected. Links and devices are written as such.

use std::fs;
use std::path::Path;

use headstart::prelude::*;
use headstart::weights::read_file;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const ZIPPED: &[u8] = include_bytes!("../fixtures/zipped.pth");
const LEGACY: &[u8] = include_bytes!("../fixtures/legacy.pth");
const HDF5: &[u8] = include_bytes!("../fixtures/keras_transfer.weights.h5");
const BOMB: &[u8] = include_bytes!("../fixtures/bomb.pth");

fn written(folder: &Path, content: &[u8]) -> std::path::PathBuf {
    let path = folder.join("weights");
    fs::write(&path, content).unwrap();
    path
}

fn safetensors(folder: &Path) -> Vec<u8> {
    let path = folder.join("made.safetensors");
    let tensor = Tensor::arange(0f32, 6.0, &device()).unwrap().reshape((2, 3)).unwrap();
    candle_core::safetensors::save(&[("plain", tensor)].into_iter().collect(), &path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn pytorch_files_are_recognised_by_content() {
    let folder = tempfile::tempdir().unwrap();
    for content in [ZIPPED, LEGACY] {
        let tensors = read_file(written(folder.path(), content)).unwrap();
        let rows = |name: &str| tensors[name].to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows("plain"), [[0., 1., 2.], [3., 4., 5.]]);
        assert_eq!(rows("turned"), [[0., 3.], [1., 4.], [2., 5.]]);
        assert_eq!(rows("part"), [[3., 4., 5.]]);
        assert_eq!(rows("half"), rows("plain"));
        assert_eq!(tensors["count"].to_scalar::<i64>().unwrap(), 7);
    }
}

#[test]
fn code_in_pickles_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let message = read_file(written(folder.path(), BOMB)).unwrap_err().to_string();
    assert!(message.contains("contains no tensor"), "{message}");
    assert!(!Path::new("/tmp/headstart-a-file-of-weights-ran-code").exists());
}

#[test]
fn a_header_larger_than_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for length in [1 << 40, u64::MAX, 100_000_001] {
        let mut content = length.to_le_bytes().to_vec();
        content.extend(b"{\"plain\": {\"dtype\": \"F32\"");
        let message = read_file(written(folder.path(), &content)).unwrap_err().to_string();
        assert!(message.contains(".safetensors file is damaged"), "{message}");
    }
}

#[test]
fn tensors_that_overlap_or_lie_outside_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for offsets in ["[0, 800]", "[4, 12]", "[8, 0]", "[18446744073709551608, 18446744073709551615]"] {
        let header =
            format!("{{\"a\": {{\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": {offsets}}}}}");
        let mut content = (header.len() as u64).to_le_bytes().to_vec();
        content.extend(header.bytes().chain([0; 8]));
        assert!(read_file(written(folder.path(), &content)).is_err(), "{offsets}");
    }
}

/// Reads thousands of damaged files. None causes a panic that reaches the caller.
#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let whole = [ZIPPED.to_vec(), LEGACY.to_vec(), safetensors(folder.path()), HDF5.to_vec()];
    let mut random = ChaCha8Rng::seed_from_u64(3);
    // Panics of readers are caught; their messages are hidden here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut refused = 0;
    for round in 0..4000 {
        let mut content = whole[round % whole.len()].clone();
        // Most of the structure of an HDF5 file is at its beginning.
        let reach = content.len().min(if round % 2 == 0 { 4000 } else { usize::MAX });
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..content.len().min(reach));
            match random.random_range(0..3) {
                0 => content[at] = random.random(),
                1 => content.truncate(at.max(1)),
                _ => content.insert(at, random.random()),
            }
        }
        refused += usize::from(read_file(written(folder.path(), &content)).is_err());
    }
    let _ = std::panic::take_hook();
    assert!(refused > 1000, "{refused} of 4000 were refused");
}

/// As `latest.safetensors -> runs/3/model.safetensors`.
#[test]
fn files_are_written_through_links() -> HeadstartResult<()> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("runs")).unwrap();
    let (real, link) = (folder.path().join("runs/3.safetensors"), folder.path().join("latest.safetensors"));
    std::os::unix::fs::symlink("runs/3.safetensors", &link).unwrap();
    let model = sequential![Input::new(2), Dense::new(1)]?;
    for value in [0.0, 1.0] {
        let kernel = (Tensor::ones((1, 2), DType::F32, &device())? * value)?;
        model.params()[0].set(&kernel)?;
        model.save_weights(&link)?;
        assert!(link.is_symlink());
        let written = read_file(&real)?["dense/kernel"].to_vec2::<f32>()?;
        assert_eq!(written, [[value as f32; 2]]);
    }
    assert_eq!(fs::read_dir(folder.path().join("runs")).unwrap().count(), 1);
    Ok(())
}

/// Through a link, so that a fault cannot replace the device.
#[test]
fn a_full_disk_is_an_error() -> HeadstartResult<()> {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("full.safetensors");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let model = sequential![Input::new(2), Dense::new(1)]?;
    for result in [model.save_weights(&link), model.save(&link), model.export_onnx(&link)] {
        assert!(matches!(result, Err(headstart::Error::Io { .. })), "{result:?}");
    }
    assert!(link.is_symlink());
    Ok(())
}
