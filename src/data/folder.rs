//! Finds the image files of each class in a folder, as Keras and torchvision do.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Extensions of the formats that can be decoded.
const EXTENSIONS: [&str; 11] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff"];
/// Extensions of image formats that cannot be decoded and are reported separately.
const UNREADABLE: [&str; 4] = ["heic", "heif", "avif", "svg"];
/// What is missing in a folder without images.
const NO_IMAGE: &str = "no .jpg, .jpeg, .png, .webp, .bmp, .gif or .tif file";
/// Largest number of kinds of left-out files in the report.
const MAX_NAMED: usize = 6;

/// The content of a folder with one folder per class.
pub(super) struct Folder {
    path: PathBuf,
    /// Each class's name and image files, sorted by name.
    pub(super) classes: Vec<(String, Vec<PathBuf>)>,
    /// The number of left-out files of each kind.
    left_out: BTreeMap<String, usize>,
    /// Classes whose images are all in subfolders of the class's folder, with those subfolders.
    nested: Vec<(String, Vec<String>)>,
}

impl Folder {
    /// Lists all files. Each folder in `path` is a class; its images are those in the folder and its
    /// subfolders. A class's folder may be a link. Names that start with a dot are ignored.
    pub(super) fn read(path: &Path) -> Result<Folder> {
        let refuse = |problem: String| Error::Folder { path: path.to_owned(), problem };
        let mut folder = Folder::empty(path)?;
        for entry in sorted(path)? {
            if !entry.is_dir() {
                if is_image(&entry) {
                    folder.leave_out("outside a class's folder");
                }
                continue;
            }
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut files = Vec::new();
            folder.walk(&entry, &mut files)?;
            if files.is_empty() {
                let others = folder.left_out();
                return Err(refuse(format!(
                    "the class folder `{name}` contains no image: {NO_IMAGE}{others}"
                )));
            }
            sort(&mut files);
            if files.iter().all(|file| file.parent() != Some(&entry)) {
                let inner = sorted(&entry)?.into_iter().filter(|inner| inner.is_dir());
                let inner = inner.filter_map(|inner| Some(inner.file_name()?.to_string_lossy().into_owned()));
                folder.nested.push((name.clone(), inner.collect()));
            }
            folder.classes.push((name, files));
        }
        match folder.classes.len() {
            0 => Err(refuse("expected one folder per class, found no folder".into())),
            _ => Ok(folder),
        }
    }

    /// Lists all images in the folder and its subfolders, as one class with the name of the folder.
    pub(super) fn without_classes(path: &Path) -> Result<Folder> {
        let mut folder = Folder::empty(path)?;
        let mut files = Vec::new();
        folder.walk(path, &mut files)?;
        if files.is_empty() {
            let problem = format!("expected images, found {NO_IMAGE}{}", folder.left_out());
            return Err(Error::Folder { path: path.to_owned(), problem });
        }
        sort(&mut files);
        let name = path.canonicalize().map_err(Error::io(path))?;
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        folder.classes.push((name, files));
        Ok(folder)
    }

    /// A folder without classes yet.
    fn empty(path: &Path) -> Result<Folder> {
        if !path.is_dir() {
            let problem =
                if path.exists() { "this is a file, not a folder" } else { "there is no such folder" };
            return Err(Error::Folder { path: path.to_owned(), problem: problem.into() });
        }
        Ok(Folder {
            path: path.to_owned(),
            classes: Vec::new(),
            left_out: BTreeMap::new(),
            nested: Vec::new(),
        })
    }

    /// Adds the images in a folder and its subfolders. Links to folders are left out, as in Keras: such a link can
    /// lead to the images of another class.
    fn walk(&mut self, path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
        for entry in sorted(path)? {
            if entry.is_dir() && entry.is_symlink() {
                self.leave_out("linked folder(s), which are not followed");
            } else if entry.is_dir() {
                self.walk(&entry, files)?;
            } else if is_image(&entry) {
                files.push(entry);
            } else {
                let kind = extension(&entry);
                match kind.as_str() {
                    _ if !entry.is_file() => self.leave_out("that cannot be opened (broken links)"),
                    "" => self.leave_out("without an extension"),
                    kind if UNREADABLE.contains(&kind) => {
                        self.leave_out(&format!(".{kind} (convert these to JPEG or PNG)"));
                    }
                    kind => self.leave_out(&format!(".{kind}")),
                }
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, kind: &str) {
        *self.left_out.entry(kind.to_owned()).or_default() += 1;
    }

    /// The left-out files in words, after a line break. Empty if there are none.
    fn left_out(&self) -> String {
        if self.left_out.is_empty() {
            return String::new();
        }
        let named: Vec<String> = self.left_out.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let more = named.len().saturating_sub(MAX_NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} further kinds") };
        format!("\nleft out: {}{more}", named[..named.len().min(MAX_NAMED)].join(", "))
    }
}

/// Keras's message, followed by the left-out files.
impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.classes.iter().map(|(_, files)| files.len()).sum();
        let classes = self.classes.len();
        let (images, of) = (plural(count, "image"), if classes == 1 { "class" } else { "classes" });
        write!(f, "Found {images} of {classes} {of} in {}", self.path.display())?;
        f.write_str(&self.left_out())?;
        for (class, inner) in self.nested.iter().take(MAX_NAMED) {
            let inner = inner.join("`, `");
            write!(
                f,
                "\nhint: all images of class `{class}` are in folders inside it: `{inner}`; \
                 if those are the classes, pass the path of `{class}`"
            )?;
        }
        Ok(())
    }
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Sorts by folder, then by file name, as Keras and torchvision do.
fn sort(files: &mut [PathBuf]) {
    files.sort_by_cached_key(|file| {
        let text = |path: Option<&Path>| path.map(|path| path.to_string_lossy().into_owned());
        (text(file.parent()), text(file.file_name().map(Path::new)))
    });
}

/// Returns the entries of a folder in sorted order, without names that start with a dot.
fn sorted(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(Error::io(path))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::io(path))?;
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Whether a file is an image: by its extension, or by its content where it has none.
fn is_image(path: &Path) -> bool {
    let extension = extension(path);
    path.is_file()
        && (EXTENSIONS.contains(&extension.as_str()) || extension.is_empty() && begins_like_an_image(path))
}

fn begins_like_an_image(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.is_ok() && image::guess_format(&start).is_ok_and(|format| format.reading_enabled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_counts_images_and_names_left_out_files() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            "loose.jpg",
            "train/cat/1.jpg",
            "train/cat/2.webp",
            "train/cat/notes.txt",
            "train/dog/1.heic",
            "train/dog/2.jpg",
            "val/1.jpg",
            "val/README",
            "val/.ipynb_checkpoints/1-checkpoint.jpg",
        ];
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"text").unwrap();
        }
        let report = Folder::read(folder.path())?.to_string();
        let path = folder.path().display();
        let expected = format!(
            "Found 4 images of 2 classes in {path}\n\
             left out: 1 .heic (convert these to JPEG or PNG), 1 .txt, 1 outside a class's folder, \
             1 without an extension\n\
             hint: all images of class `train` are in folders inside it: `cat`, `dog`; \
             if those are the classes, pass the path of `train`"
        );
        assert_eq!(report, expected);
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let Err(problem) = Folder::read(folder.path()) else { panic!("an empty class was accepted") };
        assert!(problem.to_string().contains("`empty` contains no image"), "{problem}");
        Ok(())
    }
}
