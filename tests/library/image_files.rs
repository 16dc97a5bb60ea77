//! Image files found in practice: every format, rotated, nested, truncated, and not images at all.
//! `tests/fixtures/image_files.py` wrote the files and the pixels that Pillow reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use headstart::Result;
use headstart::prelude::*;

#[test]
fn fewer_demo_images_replace_those_of_an_earlier_call() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let count = || ImageFiles::from_directory(folder.path(), (8, 8)).map(|files| files.len());
    draw_demo_images(folder.path(), 5, 16, 1)?;
    assert_eq!(count()?, 10);
    // The user's own files, one of them with a name like those of drawings.
    for name in ["007.png", "3.png", "own.png"] {
        fs::copy(folder.path().join("cats/000.png"), folder.path().join("cats").join(name)).unwrap();
    }
    fs::remove_file(folder.path().join("dogs/003.png")).unwrap();
    draw_demo_images(folder.path(), 2, 16, 1)?;
    assert_eq!(count()?, 4 + 3);
    draw_demo_images(folder.path(), 3, 16, 1)?;
    assert_eq!(count()?, 6 + 3);
    Ok(())
}

/// Content of a file; Pillow's pixels `[height, width, 3]` if Pillow reads it; the pixels without EXIF orientation if
/// they differ.
struct Case {
    content: Vec<u8>,
    pixels: Option<Tensor>,
    raw: Option<Tensor>,
}

fn cases() -> BTreeMap<String, Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image_files.safetensors");
    let tensors = candle_core::safetensors::load(path, &device()).unwrap();
    let named = tensors.iter().filter(|(name, _)| !name.ends_with(".pixels") && !name.ends_with(".raw"));
    let case = |name: &String, content: &Tensor| Case {
        content: content.to_vec1::<u8>().unwrap(),
        pixels: tensors.get(&format!("{name}.pixels")).cloned(),
        raw: tensors.get(&format!("{name}.raw")).cloned(),
    };
    named.map(|(name, content)| (name.clone(), case(name, content))).collect()
}

/// Reads one file at the given size.
fn read(path: &Path, size: (usize, usize), exif: bool) -> Result<Tensor> {
    Ok(ImageFiles::from_paths([(path, "class")], size)?.exif_orientation(exif).load()?.x.get(0)?)
}

/// Mean absolute difference from Pillow's pixels.
fn distance(found: &Tensor, pixels: &Tensor) -> f32 {
    let pixels = pixels.permute((2, 0, 1)).unwrap().to_dtype(DType::F32).unwrap();
    (found - pixels).unwrap().abs().unwrap().mean_all().unwrap().to_scalar().unwrap()
}

#[test]
fn formats_match_pillow_and_truncated_files_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let (mut read_files, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        // The extension is always .jpg: the format is recognised by the content.
        let path = folder.path().join(format!("{name}.jpg"));
        fs::write(&path, &case.content).unwrap();
        let size = |pixels: &Tensor| (pixels.dims()[0], pixels.dims()[1]);
        let found = read(&path, case.pixels.as_ref().map_or((24, 40), size), true);
        match (found, case.pixels) {
            (Ok(_), None) => wrong.push(format!("{name}: read, Pillow refuses it")),
            (Ok(found), Some(pixels)) => {
                read_files += 1;
                let distance = distance(&found, &pixels);
                // Decoders round differently, by one or two levels.
                if distance > 2.0 {
                    wrong.push(format!("{name}: {distance} from Pillow"));
                }
            }
            (Err(error), pixels) => {
                refused += 1;
                let error = error.to_string();
                let is_cut = name.contains(".cut") || name.contains(".without");
                if pixels.is_some() && !is_cut {
                    wrong.push(format!("{name}: {error}"));
                }
                if !error.contains(&format!("{name}.jpg")) {
                    wrong.push(format!("{name}: the error does not name the file: {error}"));
                }
            }
        }
        if let Some(raw) = case.raw {
            let distance = distance(&read(&path, size(&raw), false).unwrap(), &raw);
            if distance > 2.0 {
                wrong.push(format!("{name}: without EXIF orientation {distance} from Pillow"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read_files > 35 && refused > 70, "{read_files} read, {refused} refused");
}

#[test]
fn truncated_files_count_as_damaged() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("class");
    fs::create_dir(&class).unwrap();
    let cases = cases();
    for name in ["baseline.jpg", "baseline.jpg.cut90", "progressive.jpg.cut99", "lossy.webp.cut50"] {
        fs::write(class.join(format!("{name}.jpg")), &cases[name].content).unwrap();
    }
    let (whole, damaged) = ImageFiles::from_directory(folder.path(), (8, 8))?.without_damaged()?;
    assert_eq!((whole.len(), damaged.len()), (1, 3));
    Ok(())
}

#[test]
fn non_image_content_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.jpg");
    let heic = [&[0, 0, 0, 24][..], b"ftypheic", &[0; 40]].concat();
    let avif = [&[0, 0, 0, 24][..], b"ftypavif", &[0; 40]].concat();
    let cases: [(&[u8], &str); 9] = [
        (b"", "an empty file"),
        (&[0; 100], "only zeros"),
        (&heic, "HEIC"),
        (&avif, "AVIF"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "git lfs pull"),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
        (b"P6 1 1 255 abc", "Pnm"),
        (b"some text", "content of an unknown kind"),
    ];
    for (content, expected) in cases {
        fs::write(&path, content).unwrap();
        let error = read(&path, (8, 8), true).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("image.jpg"), "{error}");
    }
    // A header that claims more pixels than fit into memory.
    let mut huge = self::cases().remove("rgb.bmp").unwrap().content;
    huge[18..22].copy_from_slice(&60_000i32.to_le_bytes());
    huge[22..26].copy_from_slice(&60_000i32.to_le_bytes());
    fs::write(&path, huge).unwrap();
    assert!(read(&path, (8, 8), true).is_err());
}

/// Names of the files in order, relative to the folder.
fn names(files: &ImageFiles, folder: &Path) -> Vec<String> {
    let relative = |path: &PathBuf| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    files.paths.iter().map(relative).collect()
}

/// `sorted(os.walk(class))`, then `sorted(files)`: the order of torchvision's `ImageFolder` and of Keras.
#[test]
fn file_order_matches_torchvision_and_keras() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let png = cases().remove("rgb.png").unwrap().content;
    let files = [
        "cat/b.png",
        "cat/a/2.PNG",
        "cat/a/1.jfif",
        "cat/a-b/3.tif",
        "cat/a/deep/er/4.webp",
        "cat/z.gif",
        "dog/noname",
        "dog/x.bmp",
    ];
    let others =
        ["cat/notes.txt", "cat/.hidden.png", "dog/photo.heic", "dog/labels.csv", "dog/README", "loose.png"];
    for file in files.iter().chain(&others) {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_text = ["README", "notes.txt", "labels.csv"].iter().any(|text| file.ends_with(text));
        fs::write(path, if is_text { b"text" } else { png.as_slice() }).unwrap();
    }
    // Links to folders are left out, as in Keras: they can lead to a parent folder or to another class.
    std::os::unix::fs::symlink(folder.path().join("cat"), folder.path().join("cat/a/again")).unwrap();
    let found = ImageFiles::from_directory(folder.path(), (8, 8))?;
    // Python sorts folders by their full path, where `-` comes before `/`.
    let expected = [
        "cat/b.png",
        "cat/z.gif",
        "cat/a/1.jfif",
        "cat/a/2.PNG",
        "cat/a-b/3.tif",
        "cat/a/deep/er/4.webp",
        "dog/noname",
        "dog/x.bmp",
    ];
    assert_eq!(names(&found, folder.path()), expected);
    assert_eq!(found.class_names, ["cat", "dog"]);
    assert_eq!(found.load()?.x.dims(), [8, 3, 8, 8]);
    Ok(())
}
