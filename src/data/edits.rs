//! Corrections of image files, in a CSV file: images to drop, and images with another class.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{ImageFiles, Images};
use crate::files::write_whole;
use crate::{Error, Result};

/// The columns of the file.
const HEAD: [&str; 3] = ["filename", "edit", "class"];
const DROP: &str = "drop";
const RELABEL: &str = "relabel";

/// A correction of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Leave the image out.
    Drop,
    /// Give the image another class.
    Relabel(String),
}

/// The edits of image files.
pub(crate) type Edits = BTreeMap<PathBuf, Edit>;

/// The path by which two spellings of a file are compared, such as `images/cats/1.jpg` and `/data/images/cats/1.jpg`.
pub(crate) fn file_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// The edits by the paths with which [`file_of`] compares them.
pub(crate) fn by_file(edits: &Edits) -> Edits {
    edits.iter().map(|(path, edit)| (file_of(path), edit.clone())).collect()
}

/// Reads the edits of a file. A missing file has none.
pub(crate) fn read_edits(path: &Path) -> Result<Edits> {
    let refuse = |expected: &str, found: String| Error::Argument {
        name: "the edits",
        expected: expected.into(),
        found: format!("{found} in {}", path.display()),
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Edits::new()),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let failed = |error: csv::Error| refuse("a CSV table in UTF-8", error.to_string());
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_slice());
    let head = reader.headers().map_err(failed)?;
    if head.iter().ne(HEAD) {
        return Err(refuse(
            &format!("the columns {}", HEAD.join(",")),
            head.iter().collect::<Vec<_>>().join(","),
        ));
    }
    let mut edits = Edits::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let edit = match (&record[1], &record[2]) {
            (DROP, "") => Edit::Drop,
            (RELABEL, class) if !class.is_empty() => Edit::Relabel(class.to_owned()),
            (edit, class) => {
                let line = record.position().map_or(0, |at| at.line());
                let found = format!("`{edit},{class}` in line {line}");
                return Err(refuse("`drop` without a class, or `relabel` with one", found));
            }
        };
        edits.insert(PathBuf::from(&record[0]), edit);
    }
    Ok(edits)
}

/// Changes the edits of some images in a file, and returns all edits of the file. `None` removes an edit.
///
/// The file is read again and written atomically under a lock, so edits by other processes are kept.
pub(crate) fn change_edits(path: &Path, changes: &[(PathBuf, Option<Edit>)]) -> Result<Edits> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lock_path = path.with_file_name(format!(".{name}.lock"));
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(Error::io(&lock_path))?;
    // A file system without locks: the file is still written atomically.
    let _ = lock.lock();
    let mut edits = read_edits(path)?;
    for (image, edit) in changes {
        // An earlier edit may have another spelling of the path.
        let file = file_of(image);
        edits.retain(|known, _| known != image && file_of(known) != file);
        if let Some(edit) = edit {
            edits.insert(image.clone(), edit.clone());
        }
    }
    let failed = |error: csv::Error| Error::io(path)(std::io::Error::other(error));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEAD).map_err(failed)?;
    for (image, edit) in &edits {
        let image = image.to_str().ok_or_else(|| Error::Argument {
            name: "image files",
            expected: "a name in UTF-8".into(),
            found: image.display().to_string(),
        })?;
        let (edit, class) = match edit {
            Edit::Drop => (DROP, ""),
            Edit::Relabel(class) => (RELABEL, class.as_str()),
        };
        writer.write_record([image, edit, class]).map_err(failed)?;
    }
    let text = writer.into_inner().map_err(|error| Error::io(path)(error.into_error()))?;
    write_whole(path, &text)?;
    Ok(edits)
}

/// Applies the edits of a file: the numbers of the images that stay, and the class numbers of all images.
fn apply(
    table: &Path,
    paths: &[PathBuf],
    labels: &[u32],
    class_names: &[String],
) -> Result<(Vec<usize>, Vec<u32>)> {
    let edits = by_file(&read_edits(table)?);
    let (mut kept, mut labels, mut relabelled) = (Vec::new(), labels.to_vec(), 0);
    for (at, path) in paths.iter().enumerate() {
        match edits.get(&file_of(path)) {
            Some(Edit::Drop) => continue,
            Some(Edit::Relabel(class)) => {
                let number = class_names.iter().position(|known| known == class);
                labels[at] = number.ok_or_else(|| Error::Argument {
                    name: "the edits",
                    expected: format!("one of the classes {}", class_names.join(", ")),
                    found: format!("`{class}` for {} in {}", path.display(), table.display()),
                })? as u32;
                relabelled += 1;
            }
            None => {}
        }
        kept.push(at);
    }
    let dropped = paths.len() - kept.len();
    let others = edits.len().saturating_sub(dropped + relabelled);
    let of_others = if others > 0 { format!(", {others} edits of other images") } else { String::new() };
    println!("{}: {relabelled} images relabelled, {dropped} left out{of_others}", table.display());
    Ok((kept, labels))
}

impl Images {
    /// Applies the edits of a CSV file, which [`Images::cleaner`] writes: drops images, or gives them
    /// another class. Without the file, nothing changes.
    ///
    /// The file has the columns `filename`, as in `paths`; `edit`, `relabel` or `drop`; and `class`.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # std::env::set_current_dir(&folder).unwrap();
    /// # draw_demo_images("images", 5, 32, 1)?;
    /// let images = Images::from_directory("images", (32, 32))?.with_edits("edits.csv")?;
    /// # assert_eq!(images.len(), 10);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the file is not such a table, names an unknown class, or no image is left;
    /// [`Error::Io`].
    pub fn with_edits(&self, edits: impl AsRef<Path>) -> Result<Images> {
        let labels = self.y.to_vec1::<u32>()?;
        let (kept, labels) = apply(edits.as_ref(), &self.paths, &labels, &self.class_names)?;
        if kept.is_empty() {
            return Err(nothing_left(edits.as_ref()));
        }
        let y = candle_core::Tensor::from_vec(labels, self.len(), self.y.device())?;
        let images = Images { y, ..self.clone() };
        images.select(&kept.into_iter().map(|at| at as u32).collect::<Vec<_>>())
    }
}

impl ImageFiles {
    /// Applies the edits of a CSV file, like [`Images::with_edits`].
    ///
    /// # Errors
    /// As for [`Images::with_edits`].
    pub fn with_edits(&self, edits: impl AsRef<Path>) -> Result<ImageFiles> {
        let (kept, labels) = apply(edits.as_ref(), &self.paths, &self.labels, &self.class_names)?;
        if kept.is_empty() {
            return Err(nothing_left(edits.as_ref()));
        }
        let mut files = self.clone();
        files.labels = labels;
        files.select(&kept)
    }
}

fn nothing_left(edits: &Path) -> Error {
    let found = format!("{}, which drops all images", edits.display());
    Error::Argument { name: "the edits", expected: "at least one image that is kept".into(), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_kept_changed_and_applied() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let (images, table) = (folder.path().join("images"), folder.path().join("edits.csv"));
        crate::data::draw_demo_images(&images, 4, 24, 1)?;
        let files = ImageFiles::from_directory(&images, (16, 16))?;
        assert_eq!(files.with_edits(&table)?.len(), 8);
        let path = |at: usize| files.paths[at].clone();
        let relabel = |class: &str| Some(Edit::Relabel(class.into()));
        change_edits(&table, &[(path(0), Some(Edit::Drop)), (path(1), relabel("dogs"))])?;
        let others = PathBuf::from("a,\"b\"\n.png");
        let all = change_edits(
            &table,
            &[(path(5), Some(Edit::Drop)), (path(0), None), (others.clone(), relabel("x"))],
        )?;
        assert_eq!(read_edits(&table)?, all);
        assert_eq!((all.len(), &all[&others]), (3, &Edit::Relabel("x".into())));
        let edited = files.with_edits(&table)?;
        assert_eq!((edited.len(), edited.labels[1], edited.labels[0]), (7, 1, 0));
        let loaded = files.load()?.with_edits(&table)?;
        assert_eq!((&loaded.paths, loaded.y.to_vec1::<u32>()?), (&edited.paths, edited.labels));
        // The same folder, written in another way.
        let again = ImageFiles::from_directory(images.join("../images"), (16, 16))?;
        assert_eq!(again.with_edits(&table)?.labels, files.with_edits(&table)?.labels);
        let changed = change_edits(&table, &[(again.paths[5].clone(), relabel("cats"))])?;
        assert_eq!((changed.len(), changed.contains_key(&path(5))), (3, false));
        change_edits(&table, &[(path(5), Some(Edit::Drop))])?;
        let drop_all: Vec<_> = files.paths.iter().map(|path| (path.clone(), Some(Edit::Drop))).collect();
        let everything = folder.path().join("all.csv");
        change_edits(&everything, &drop_all)?;
        assert!(files.with_edits(&everything).unwrap_err().to_string().contains("drops all images"));
        change_edits(&table, &[(path(2), relabel("birds"))])?;
        let problem = files.with_edits(&table).unwrap_err().to_string();
        assert!(problem.contains("cats, dogs") && problem.contains("`birds`"), "{problem}");
        for (text, expected) in [
            ("filename,class\n", "columns filename,edit,class"),
            ("filename,edit,class\na,remove,\n", "line 2"),
            ("filename,edit,class\na,relabel,\n", "line 2"),
            ("filename,edit,class\na,drop\n", "CSV"),
        ] {
            std::fs::write(&table, text).unwrap();
            let problem = files.with_edits(&table).unwrap_err().to_string();
            assert!(problem.contains(expected) && problem.contains("edits.csv"), "{problem}");
        }
        Ok(())
    }

    #[test]
    fn edits_of_several_threads_are_all_kept() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("edits.csv");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    for at in 0..10 {
                        let image = PathBuf::from(format!("{thread}/{at}.png"));
                        change_edits(table, &[(image, Some(Edit::Drop))]).unwrap();
                    }
                });
            }
        });
        assert_eq!(read_edits(&table)?.len(), 40);
        Ok(())
    }
}
