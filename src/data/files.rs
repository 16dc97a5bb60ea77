//! Images that are read from their files batch by batch.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use rayon::prelude::*;

use super::class_names::renumber;
use super::dataset::{Dataset, IntoDataset, Samples};
use super::decode::{CHUNK, Decoding};
use super::folder::Folder;
use super::image_size::ImageSize;
use super::split::stratified;
use crate::check::check;
use crate::{Error, Result, check_interrupt, device};

/// Largest side to which images are resized, in pixels. An image of this size takes 3 GB.
const MAX_SIDE: usize = 16_384;

/// Image files with their classes, for data that do not fit into memory or are listed in a table.
///
/// ```
/// use headstart::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # draw_demo_images(folder.path(), 5, 48, 1)?;
/// # let path = folder.path();
/// let files = ImageFiles::from_directory(path, (32, 32))?;
/// let (train, validation) = files.split(0.2)?;
/// let datagen = ImageDataGenerator::new().horizontal_flip(true).rescale(1.0 / 255.0);
/// let flow = datagen.flow_files(&train, 4)?;
/// assert_eq!((flow.batches(), validation.len()), (2, 2));
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageFiles {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// The class number of each file.
    pub labels: Vec<u32>,
    /// The names of the classes, class 0 first.
    pub class_names: Vec<String>,
    decoding: Decoding,
}

impl ImageFiles {
    /// Finds all image files in the folders of `path`, one folder per class. Images are resized to
    /// `(height, width)`, or as a model's weights require: see [`ImageSize`].
    ///
    /// # Errors
    /// [`Error::Folder`] if there are no classes or no images; [`Error::Io`].
    pub fn from_directory(path: impl AsRef<Path>, size: impl ImageSize) -> Result<ImageFiles> {
        ImageFiles::in_folder(path.as_ref(), &size)
    }

    /// Finds all image files in the folder `path` and its subfolders, without classes: all images belong to
    /// one class with the name of the folder. Corresponds to Keras's `labels=None`.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # draw_demo_images(folder.path(), 5, 48, 1)?;
    /// # let path = folder.path();
    /// let files = ImageFiles::without_classes(path, (32, 32))?;
    /// assert_eq!((files.len(), files.class_names.len()), (10, 1));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Folder`] if there are no images; [`Error::Io`].
    pub fn without_classes(path: impl AsRef<Path>, size: impl ImageSize) -> Result<ImageFiles> {
        ImageFiles::from_folder(Folder::without_classes(path.as_ref())?, &size)
    }

    pub(super) fn in_folder(path: &Path, size: &dyn ImageSize) -> Result<ImageFiles> {
        ImageFiles::from_folder(Folder::read(path)?, size)
    }

    fn from_folder(folder: Folder, size: &dyn ImageSize) -> Result<ImageFiles> {
        println!("{folder}");
        let (mut paths, mut labels, mut class_names) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (name, files)) in folder.classes.into_iter().enumerate() {
            labels.extend(std::iter::repeat_n(number as u32, files.len()));
            paths.extend(files);
            class_names.push(name);
        }
        ImageFiles::new(paths, labels, class_names, size)
    }

    /// Creates the list from pairs of file and class name. Classes are numbered in the order of their
    /// sorted names.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no file, or a side of the size is 0.
    pub fn from_paths(
        files: impl IntoIterator<Item = (impl AsRef<Path>, impl Into<String>)>,
        size: impl ImageSize,
    ) -> Result<ImageFiles> {
        let (paths, names): (Vec<PathBuf>, Vec<String>) =
            files.into_iter().map(|(path, name)| (path.as_ref().to_owned(), name.into())).unzip();
        let mut class_names = names.clone();
        class_names.sort();
        class_names.dedup();
        let number = |name: &String| class_names.binary_search(name).unwrap_or_default() as u32;
        let labels = names.iter().map(number).collect();
        ImageFiles::new(paths, labels, class_names, &size)
    }

    /// Reads a CSV table with the columns `filename`, relative to `folder`, and `class`: Keras's
    /// `flow_from_dataframe`. Fields with commas need double quotes.
    ///
    /// # Errors
    /// [`Error::Io`] if the table cannot be read; [`Error::Argument`] if a column is missing, with the
    /// existing ones, or a line is too short, with its number.
    pub fn from_csv(
        table: impl AsRef<Path>,
        folder: impl AsRef<Path>,
        size: impl ImageSize,
    ) -> Result<ImageFiles> {
        let files = rows(table.as_ref(), folder.as_ref())?;
        ImageFiles::from_paths(files, size)
    }

    fn new(
        paths: Vec<PathBuf>,
        labels: Vec<u32>,
        class_names: Vec<String>,
        size: &dyn ImageSize,
    ) -> Result<ImageFiles> {
        let (size, resizing) = size.sides()?;
        let fits = !paths.is_empty() && [size.0, size.1].iter().all(|side| (1..=MAX_SIDE).contains(side));
        let found = format!("{} files, {} by {}", paths.len(), size.0, size.1);
        check("image files", found, fits, &format!("files, and sides from 1 to {MAX_SIDE} pixels"))?;
        Ok(ImageFiles { paths, labels, class_names, decoding: Decoding { resizing, ..Decoding::new(size) } })
    }

    /// Sets whether an image is rotated and mirrored according to its EXIF orientation, which phones
    /// write. Default: `true`, as in image viewers. Keras ignores the orientation, so such photos are
    /// sideways.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # draw_demo_images(folder.path(), 5, 48, 1)?;
    /// # let path = folder.path();
    /// let as_keras = ImageFiles::from_directory(path, (32, 32))?.exif_orientation(false);
    /// # assert_eq!(as_keras.load()?.len(), 10);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn exif_orientation(mut self, apply: bool) -> ImageFiles {
        self.decoding.exif_orientation = apply;
        self
    }

    /// Numbers the classes in this order, class 0 first. With the same list, training and validation
    /// data have the same numbers, even if one of them lacks a class. Files of other classes are left
    /// out.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # draw_demo_images(folder.path(), 5, 48, 1)?;
    /// # let path = folder.path();
    /// let files = ImageFiles::from_directory(path, (32, 32))?.classes(["birds", "cats", "dogs"])?;
    /// assert_eq!(files.labels[0], 1);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if no file belongs to one of these classes, or a name is repeated.
    pub fn classes(&self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<ImageFiles> {
        let class_names: Vec<String> = names.into_iter().map(Into::into).collect();
        let (numbers, labels) = renumber(&self.labels, &self.class_names, &class_names)?;
        Ok(ImageFiles { labels, class_names, ..self.select(&numbers)? })
    }

    /// The number of files.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns the readable files, and the paths of the damaged ones. Each file is decoded once.
    ///
    /// # Errors
    /// [`Error::Argument`] if no file is readable; [`Error::Interrupted`].
    pub fn without_damaged(&self) -> Result<(ImageFiles, Vec<PathBuf>)> {
        let mut is_whole = Vec::with_capacity(self.len());
        for chunk in self.paths.chunks(CHUNK) {
            check_interrupt()?;
            is_whole.par_extend(chunk.par_iter().map(|path| self.decoding.decode(path).is_ok()));
        }
        if !is_whole.contains(&true) {
            let (expected, first) =
                ("at least one readable file".into(), self.decoding.decode(&self.paths[0]));
            let found = match first {
                Err(error) => format!("{} damaged files: {error}", self.len()),
                Ok(_) => format!("{} files that changed meanwhile", self.len()),
            };
            return Err(Error::Argument { name: "image files", expected, found });
        }
        let (whole, damaged): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(|at| is_whole[*at]);
        let damaged = damaged.into_iter().map(|at| self.paths[at].clone()).collect();
        Ok((self.select(&whole)?, damaged))
    }

    /// Splits the files at random, class by class. The second part gets the share `validation` of each
    /// class.
    ///
    /// # Errors
    /// [`Error::Argument`] if the share is not between 0 and 1, or a part gets no files.
    pub fn split(&self, validation: f64) -> Result<(ImageFiles, ImageFiles)> {
        let (first, second) = stratified(&self.labels, self.class_names.len(), validation)?;
        Ok((self.select(&first)?, self.select(&second)?))
    }

    /// How the files are decoded.
    pub(crate) fn decoding(&self) -> Decoding {
        self.decoding
    }

    /// Returns the files with these numbers.
    pub(crate) fn select(&self, numbers: &[usize]) -> Result<ImageFiles> {
        let paths = numbers.iter().map(|at| self.paths[*at].clone()).collect();
        let labels = numbers.iter().map(|at| self.labels[*at]).collect();
        let files = ImageFiles::new(paths, labels, self.class_names.clone(), &self.decoding.size)?;
        Ok(ImageFiles { decoding: self.decoding, ..files })
    }

    /// Converts to samples in batches.
    pub(crate) fn samples(&self, batch_size: usize, shuffle: bool) -> Result<Samples> {
        let y = Tensor::from_slice(&self.labels, self.len(), &device())?;
        let samples = Samples::from_files(self.paths.clone(), self.decoding, y, batch_size, shuffle)?;
        Ok(samples.named(&self.class_names))
    }
}

impl IntoDataset for &ImageFiles {
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(self.samples(batch_size, shuffle)?))
    }
}

/// Reads the files and class names of a table.
fn rows(table: &Path, folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let refuse = |expected: String, found: String| Error::Argument { name: "the table", expected, found };
    let failed = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::Io { path: table.to_owned(), source },
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.map_or(0, |at| at.line());
            refuse(format!("{expected_len} fields"), format!("{len} in line {line} of {}", table.display()))
        }
        other => refuse("a CSV table in UTF-8".into(), format!("{}: {other:?}", table.display())),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(table).map_err(failed)?;
    let heads = reader.headers().map_err(failed)?.clone();
    let column = |name: &str| {
        heads.iter().position(|head| head == name).ok_or_else(|| Error::Argument {
            name: "the table's columns",
            expected: format!("`{name}` among them, separated by commas"),
            found: if heads.is_empty() { "none".into() } else { heads.iter().collect::<Vec<_>>().join(", ") },
        })
    };
    let (filename, class) = (column("filename")?, column("class")?);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let (file, name) = (&record[filename], &record[class]);
        if file.is_empty() || name.is_empty() {
            let line = record.position().map_or(0, |at| at.line());
            let found = format!("an empty field in line {line} of {}", table.display());
            return Err(refuse("a file name and a class".into(), found));
        }
        rows.push((folder.join(file), name.to_owned()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::draw_demo_images;

    #[test]
    fn csv_table_with_quotes_is_read_and_errors_are_reported() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("table.csv");
        std::fs::write(&table, "class,filename\ndog,1.png\ncat,\"2,3.png\"\n").unwrap();
        let files = ImageFiles::from_csv(&table, "images", (8, 8))?;
        assert_eq!((files.class_names, files.labels), (vec!["cat".into(), "dog".into()], vec![1, 0]));
        assert_eq!(files.paths[1], Path::new("images").join("2,3.png"));
        std::fs::write(&table, "file,class\n").unwrap();
        let problem = ImageFiles::from_csv(&table, "", (8, 8)).unwrap_err().to_string();
        assert!(problem.contains("`filename`") && problem.contains("file, class"), "{problem}");
        std::fs::write(&table, "filename,class\n1.png,dog\n2.png\n").unwrap();
        let problem = ImageFiles::from_csv(&table, "", (8, 8)).unwrap_err().to_string();
        assert!(problem.contains("line 3"), "{problem}");
        // A byte order mark, spaces, and a quoted field with quotes and a line break.
        let odd = "\u{feff}filename, class, note\r\n\"a\"\"1.png\", cat,\"two\nlines\"\r\n2.png, dog, x\r\n";
        std::fs::write(&table, odd).unwrap();
        let files = ImageFiles::from_csv(&table, "", (8, 8))?;
        assert_eq!((&*files.class_names, &*files.labels), (&["cat".into(), "dog".into()][..], &[0, 1][..]));
        assert_eq!(files.paths[0], Path::new("a\"1.png"));
        for (text, expected) in [
            ("filename,class\n1.png,\n", "empty field in line 2"),
            ("filename,class\n1.png,cat,x\n", "expected 2 fields, found 3 in line 2"),
            ("filename,class\n\"1.png,cat\n2.png,dog\n", "expected 2 fields, found 1"),
            ("filename;class\n1.png;cat\n", "separated by commas"),
            ("", "found none"),
            ("filename,class\n", "found 0 files"),
        ] {
            std::fs::write(&table, text).unwrap();
            let problem = ImageFiles::from_csv(&table, "", (8, 8)).unwrap_err().to_string();
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
        Ok(())
    }

    #[test]
    fn files_that_the_network_cannot_resize_count_as_damaged() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        for (name, width) in [("good", 60), ("spacer", 600)] {
            image::RgbImage::new(width, if width > 100 { 1 } else { 60 })
                .save(folder.path().join(format!("{name}.png")))
                .unwrap();
        }
        let mut files = ImageFiles::without_classes(folder.path(), (224, 224))?;
        files.decoding.resizing = crate::nn::Resizing::from_timm("bicubic", 0.875, "center");
        let (whole, damaged) = files.without_damaged()?;
        assert_eq!((whole.len(), damaged), (1, vec![folder.path().join("spacer.png")]));
        assert_eq!(whole.load()?.len(), 1);
        std::fs::write(folder.path().join("good.png"), "no image").unwrap();
        let problem = files.without_damaged().unwrap_err().to_string();
        assert!(problem.contains("2 damaged files") && problem.contains("good.png"), "{problem}");
        Ok(())
    }

    #[test]
    fn damaged_files_are_named_and_the_others_are_used() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        draw_demo_images(folder.path(), 4, 24, 1)?;
        let files = ImageFiles::from_directory(folder.path(), (16, 16))?;
        let bytes = std::fs::read(&files.paths[2]).unwrap();
        std::fs::write(&files.paths[2], &bytes[..bytes.len() / 2]).unwrap();
        let datagen = crate::data::ImageDataGenerator::new();
        let failed = datagen.flow_files(&files, 8)?.epoch()?.next().unwrap().unwrap_err().to_string();
        assert!(failed.contains(&*files.paths[2].to_string_lossy()), "{failed}");
        let (whole, damaged) = files.without_damaged()?;
        assert_eq!((whole.len(), damaged), (7, vec![files.paths[2].clone()]));
        let batches: Result<Vec<_>> = datagen.flow_files(&whole, 4)?.epoch()?.collect();
        assert_eq!(
            batches?.iter().map(|batch| batch.x.dims().to_vec()).collect::<Vec<_>>(),
            [[4, 3, 16, 16], [3, 3, 16, 16]]
        );
        assert_eq!(whole.load()?.x.dims(), [7, 3, 16, 16]);
        Ok(())
    }
}
