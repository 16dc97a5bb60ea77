//! Widgets for files: upload and images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::comm::{CONTROLS, CallbackResult, Event, Kind, Widget};
use super::widget::widget;
use crate::display::{Bundle, Show};
use crate::{Error, Result};

/// A file that the user has uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedFile {
    /// Name of the file, without folders.
    pub name: String,
    /// Content of the file.
    pub content: Vec<u8>,
}

impl UploadedFile {
    /// Writes the file into a folder, and returns its path.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_to(&self, folder: impl AsRef<Path>) -> Result<PathBuf> {
        let path = folder.as_ref().join(&self.name);
        crate::files::write_whole(&path, &self.content)?;
        Ok(path)
    }
}

widget! {
    /// A button with which the user uploads files.
    FileUpload, FILE_UPLOAD = (CONTROLS, "FileUpload", "ButtonStyleModel")
}

impl FileUpload {
    /// Creates a button for one file.
    pub fn new() -> FileUpload {
        let state = json!({"value": [], "accept": "", "multiple": false, "description": "Upload"});
        FileUpload(Widget::new(&FILE_UPLOAD, state))
    }

    /// Sets which files the user can choose, as in `.png,.jpg` or `image/*`.
    pub fn accept(self, kinds: &str) -> FileUpload {
        self.0.set("accept", kinds);
        self
    }

    /// Sets whether the user can choose several files at once.
    pub fn multiple(self, are_several: bool) -> FileUpload {
        self.0.set("multiple", are_several);
        self
    }

    /// The files that the user uploaded last.
    pub fn value(&self) -> Vec<UploadedFile> {
        let (files, contents) = self.0.received("value");
        let files = files.as_array().cloned().unwrap_or_default();
        let file = |(file, content): (Value, Vec<u8>)| {
            // A name from outside must not lead out of the folder that it is saved to.
            let name = Path::new(file["name"].as_str()?).file_name()?.to_string_lossy().into_owned();
            Some(UploadedFile { name, content })
        };
        files.into_iter().zip(contents).filter_map(file).collect()
    }

    /// Calls a function with the files after each upload. The function runs when no cell runs.
    pub fn on_change<R: CallbackResult>(
        &self,
        mut callback: impl FnMut(Vec<UploadedFile>) -> R + Send + 'static,
    ) {
        self.0.callbacks.add(Event::Change, move |widget| callback(FileUpload(widget.clone()).value()));
    }

    fn text(&self) -> String {
        let names: Vec<String> = self.value().into_iter().map(|file| file.name).collect();
        format!("FileUpload {names:?}")
    }

    fn html(&self) -> String {
        format!("<button disabled>{}</button>", self.0.label())
    }
}

impl Default for FileUpload {
    fn default() -> FileUpload {
        FileUpload::new()
    }
}

widget! {
    /// An image that cells can replace; `Image` in ipywidgets.
    ImageView, IMAGE_VIEW = (CONTROLS, "Image", "")
}

impl ImageView {
    /// Creates an image from the bytes of a PNG, JPEG, GIF or SVG file.
    pub fn new(file: impl Into<Vec<u8>>) -> ImageView {
        let view = ImageView(Widget::new(&IMAGE_VIEW, json!({"width": "", "height": ""})));
        view.set_value(file);
        view
    }

    /// Creates an image from a file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<ImageView> {
        let path = path.as_ref();
        Ok(ImageView::new(std::fs::read(path).map_err(Error::io(path))?))
    }

    /// Sets the width, in pixels.
    pub fn width(self, pixels: u32) -> ImageView {
        self.0.set("width", pixels.to_string());
        self
    }

    /// Sets the height, in pixels.
    pub fn height(self, pixels: u32) -> ImageView {
        self.0.set("height", pixels.to_string());
        self
    }

    /// Replaces the image, here and in the notebook.
    pub fn set_value(&self, file: impl Into<Vec<u8>>) {
        let file = file.into();
        self.0.set("format", format(&file));
        self.0.set_buffer("value", file);
    }

    /// The bytes of the image file.
    pub fn value(&self) -> Vec<u8> {
        self.0.buffer()
    }

    fn text(&self) -> String {
        format!("ImageView of {} bytes", self.0.buffer().len())
    }

    fn html(&self) -> String {
        let data = STANDARD.encode(self.0.buffer());
        let format = self.0.get("format");
        let format = format.as_str().unwrap_or_default();
        let side = |name: &str| match self.0.get(name).as_str() {
            Some(pixels) if !pixels.is_empty() => format!(" {name}=\"{pixels}\""),
            _ => String::new(),
        };
        let (width, height) = (side("width"), side("height"));
        format!("<img src=\"data:image/{format};base64,{data}\"{width}{height}>")
    }
}

/// Format of an image file, by its first bytes.
fn format(file: &[u8]) -> &'static str {
    match file {
        [0xff, 0xd8, ..] => "jpeg",
        [b'G', b'I', b'F', ..] => "gif",
        [b'<', ..] => "svg+xml",
        _ => "png",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploaded_files_have_plain_names() {
        let upload = FileUpload::new().accept("image/*").multiple(true);
        assert_eq!(upload.value(), []);
        let files = json!({"value": [{"name": "../../a.png"}, {"name": "b.png"}]});
        assert!(upload.0.receive(files.as_object().unwrap(), vec![vec![1], vec![2, 3]]));
        let names = ["a.png", "b.png"].map(str::to_owned);
        assert_eq!(upload.value().into_iter().map(|file| file.name).collect::<Vec<_>>(), names);
        let folder = tempfile::tempdir().unwrap();
        let path = upload.value()[1].save_to(folder.path()).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), [2, 3]);
    }

    #[test]
    fn an_image_has_its_format() {
        let view = ImageView::new([0xff, 0xd8, 1]).width(20);
        assert_eq!(view.bundle()[1].1, "<img src=\"data:image/jpeg;base64,/9gB\" width=\"20\">");
        view.set_value(*b"<svg/>");
        assert_eq!((view.value(), view.0.get("format")), (b"<svg/>".to_vec(), json!("svg+xml")));
    }
}
