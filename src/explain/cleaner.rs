//! A tool to correct labels: the images with the largest losses, each with a dropdown to drop or relabel it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::check::check;
use crate::data::{Edit, Images, by_file, change_edits, file_of};
use crate::display::widgets::Control;
use crate::display::{Bundle, Dropdown, HBox, ImageView, Label, Show, VBox, debug_as_text, encoded_images};
use crate::nn::Predictions;
use crate::{Error, Result};

/// Maximum number of images. Each has six widgets: box, image, three caption lines and dropdown. A notebook can have
/// 1000.
const MAX_IMAGES: usize = 100;
const IMAGES_PER_ROW: usize = 4;
/// Width of an image, in pixels.
const WIDTH: u32 = 160;
/// Options of the dropdown before the classes.
const KEEP: &str = "keep";
const DROP: &str = "drop";

/// Widgets to correct labels: the result of [`Images::cleaner`].
#[derive(Clone)]
pub struct ImageCleaner(VBox);

impl Images {
    /// Shows the `count` images with the largest losses, each with a dropdown: keep it, drop it, or give it another
    /// class. Each choice is written into the CSV file `edits` at once, also while a cell runs. [`Images::with_edits`]
    /// and [`ImageFiles::with_edits`](crate::data::ImageFiles::with_edits) apply the file. Choices that are
    /// already in the file are shown, and its edits of other images are kept.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # std::env::set_current_dir(&folder).unwrap();
    /// # draw_demo_images("images", 5, 64, 1)?;
    /// let images = Images::from_directory("images", (64, 64))?;
    /// # let model = sequential![Input::new((3, 64, 64)), Flatten, Dense::new(2).activation(Softmax)]?;
    /// images.cleaner(&model.predict(&images.x)?, 8, "edits.csv")?
    /// # ; Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if `count` is not from 1 to 100, or the file is not a table of edits; [`Error::Io`] if it cannot
    /// be written; those of [`Predictions::losses`].
    pub fn cleaner(
        &self,
        predictions: &Predictions,
        count: usize,
        edits: impl AsRef<Path>,
    ) -> Result<ImageCleaner> {
        self.cleaner_of(predictions, count, edits.as_ref())
    }

    fn cleaner_of(&self, predictions: &Predictions, count: usize, table: &Path) -> Result<ImageCleaner> {
        check(
            "count",
            count,
            (1..=MAX_IMAGES).contains(&count),
            &format!("a number from 1 to {MAX_IMAGES}"),
        )?;
        let (order, captions) = self.by_loss(predictions, count)?;
        let shown = self.select(&order)?;
        // An absolute path, so that a change of the working directory has no effect.
        let table = std::path::absolute(table).map_err(Error::io(table))?;
        let edits = by_file(&change_edits(&table, &[])?);
        let mut choices = Vec::new();
        let mut cells: Vec<VBox> = Vec::new();
        let files = encoded_images(&shown.x)?;
        for ((path, caption), (_, file)) in shown.paths.iter().zip(&captions).zip(files) {
            // The image's own class is included, because an applied edit may have set it.
            let classes = self.class_names.iter().map(|name| relabelled(name));
            let list = Dropdown::new([KEEP, DROP].map(str::to_owned).into_iter().chain(classes));
            match edits.get(&file_of(path)) {
                Some(Edit::Drop) => list.set_value(DROP)?,
                Some(Edit::Relabel(class)) => list.set_value(&relabelled(class))?,
                None => {}
            }
            let lines: Vec<Label> = caption.lines().map(Label::new).collect();
            let view = ImageView::new(file).width(WIDTH);
            let mut parts: Vec<&dyn Control> = vec![&view];
            parts.extend(lines.iter().map(|line| line as &dyn Control));
            parts.push(&list);
            cells.push(VBox::new(&parts));
            choices.push((path.clone(), list));
        }
        let status = Label::new(&status_text(edits.len(), &table));
        let saved = choices.iter().map(|(_, list)| list.index()).collect();
        let editor = Arc::new(Editor { table, choices, status: status.clone(), saved: Mutex::new(saved) });
        for (_, list) in &editor.choices {
            let editor = editor.clone();
            list.on_receive(move || editor.save());
        }
        let rows: Vec<HBox> = cells
            .chunks(IMAGES_PER_ROW)
            .map(|row| HBox::new(&row.iter().map(|cell| cell as &dyn Control).collect::<Vec<_>>()))
            .collect();
        let mut parts: Vec<&dyn Control> = vec![&status];
        parts.extend(rows.iter().map(|row| row as &dyn Control));
        Ok(ImageCleaner(VBox::new(&parts)))
    }
}

/// The option for another class.
fn relabelled(class: &str) -> String {
    format!("is {class}")
}

fn status_text(edits: usize, table: &Path) -> String {
    format!("{edits} edits in {}", table.display())
}

/// The choices, and the file into which they are written.
struct Editor {
    table: PathBuf,
    choices: Vec<(PathBuf, Dropdown)>,
    status: Label,
    /// The dropdown indices that were last written to the file.
    saved: Mutex<Vec<Option<usize>>>,
}

impl Editor {
    /// Writes all choices that have changed since the last write. After a failure, the next change writes them.
    fn save(&self) {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let now: Vec<Option<usize>> = self.choices.iter().map(|(_, list)| list.index()).collect();
        let changed = (0..now.len()).filter(|at| now[*at] != saved[*at]);
        let changes: Vec<(PathBuf, Option<Edit>)> = changed.map(|at| self.edit(at)).collect();
        if changes.is_empty() {
            return;
        }
        match change_edits(&self.table, &changes) {
            Ok(edits) => {
                *saved = now;
                self.status.set_value(&status_text(edits.len(), &self.table));
            }
            Err(error) => self.status.set_value(&format!("NOT SAVED, choose again: {error}")),
        }
    }

    /// The edit of an image, by its choice.
    fn edit(&self, at: usize) -> (PathBuf, Option<Edit>) {
        let (path, list) = &self.choices[at];
        let edit = match list.index() {
            None | Some(0) => None,
            Some(1) => Some(Edit::Drop),
            Some(_) => list.value().strip_prefix("is ").map(|class| Edit::Relabel(class.to_owned())),
        };
        (path.clone(), edit)
    }
}

impl Show for ImageCleaner {
    fn bundle(&self) -> Bundle {
        self.0.bundle()
    }
}

debug_as_text!(ImageCleaner);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::plain;
    use crate::prelude::*;

    #[test]
    fn the_file_shows_as_choices_and_bad_arguments_are_refused() -> crate::Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("edits.csv");
        draw_demo_images(folder.path().join("images"), 3, 32, 1)?;
        let images = Images::from_directory(folder.path().join("images"), (32, 32))?;
        let model = sequential![Input::new((3, 32, 32)), Flatten, Dense::new(2).activation(Softmax)]?;
        let predictions = model.predict(&images.x)?;
        change_edits(&table, &[(images.paths[0].clone(), Some(Edit::Relabel("dogs".into())))])?;
        change_edits(&table, &[(images.paths[4].clone(), Some(Edit::Drop))])?;
        let text = plain(&images.cleaner(&predictions, 6, &table)?.bundle()).to_owned();
        assert!(text.starts_with("2 edits in "), "{text}");
        assert_eq!(text.matches("Dropdown \"keep\"").count(), 4, "{text}");
        assert!(text.contains("Dropdown \"is dogs\"") && text.contains("Dropdown \"drop\""), "{text}");
        for count in [0, 101] {
            assert!(images.cleaner(&predictions, count, &table).is_err());
        }
        let nowhere = folder.path().join("none").join("edits.csv");
        assert!(images.cleaner(&predictions, 2, nowhere).is_err());
        Ok(())
    }
}
