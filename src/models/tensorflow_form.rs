//! The form of a network that its weights need: PyTorch's, or that of Keras and TensorFlow.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::weights::OpenWeights;
use crate::{Error, Result};

/// The forms that a network has.
pub(super) struct Forms {
    /// timm's name of the network.
    pub(super) name: &'static str,
    /// Whether the network has a variant for Keras's files and timm's `tf_…` weights.
    pub(super) has_variant: bool,
    /// Whether the network itself is TensorFlow's variant.
    pub(super) is_of_tensorflow: bool,
}

/// Whether the network needs the form of Keras and TensorFlow for these weights. Padding and epsilon differ, and the
/// tensors are the same. `of_tensorflow`: whether the user asked for this form.
///
/// # Errors
/// [`Error::Argument`] if the weights were published for a form that the network does not have.
pub(super) fn has_form_of_keras(forms: &Forms, file: &OpenWeights, of_tensorflow: bool) -> Result<bool> {
    let Forms { name, has_variant, is_of_tensorflow } = *forms;
    let Some(published) = file.published_for(name)? else {
        return Ok(has_variant && (of_tensorflow || file.has_form_of_keras(name)?));
    };
    let fits = match published.starts_with("tf_") {
        true => has_variant || is_of_tensorflow,
        false => !of_tensorflow && !is_of_tensorflow,
    };
    if fits {
        return Ok(has_variant && published.starts_with("tf_"));
    }
    let plain = name.trim_start_matches("tf_");
    let (wanted, form) = match published.starts_with("tf_") {
        true => (plain.to_owned(), "TensorFlow's"),
        false => (format!("tf_{plain}"), "PyTorch's"),
    };
    let expected = format!("weights for {wanted}");
    let found = format!("those for {published}, which need {form} padding and epsilon");
    Err(Error::Argument { name: "pretrained weights", expected, found })
}

/// The files about which [`note_unknown_form`] has printed its note.
static NOTED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Prints a note if the weights may need the other form, once for each file.
pub(super) fn note_unknown_form(name: &str, file: &OpenWeights) -> Result<()> {
    let Some((path, note)) = unknown_form(name, file)? else { return Ok(()) };
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    if noted.get_or_insert_default().insert(path) {
        println!("{note}");
    }
    Ok(())
}

/// The path of a weight file that does not say which form it is for, and a note about it. timm has some networks in
/// both forms, with the same tensors.
fn unknown_form(name: &str, file: &OpenWeights) -> Result<Option<(PathBuf, String)>> {
    let has_both_forms = name.starts_with("efficientnet_b") || name.starts_with("mobilenetv3");
    let Some(path) = file.path_without_origin()?.filter(|_| has_both_forms) else { return Ok(None) };
    let note = format!(
        "{}: the file does not say whether its weights are of `{name}` or of `tf_{name}`, which has another padding and \
         epsilon; they are loaded as `{name}`. Name the network: `Network::named(\"tf_{name}\", weights)?` or \
         `Network::named(\"{name}\", weights)?`; or load the folder with its config.json: `Weights::hub(folder)`",
        path.display()
    );
    Ok(Some((path.to_owned(), note)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::weights::read_file;

    #[test]
    fn files_that_do_not_name_their_form_are_noted() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let (own, bare) = (folder.path().join("own.safetensors"), folder.path().join("bare.safetensors"));
        let network = |weights| EfficientNetB0::new(weights).alpha(0.1).input_shape((3, 32, 32)).classes(3);
        network(Weights::Random(0)).build()?.save_weights(&own)?;
        candle_core::safetensors::save(&read_file(&own)?, &bare)?;
        let note = |name: &str, path: &PathBuf| unknown_form(name, &Weights::file(path).open(name)?);
        let (path, text) = note("efficientnet_b0", &bare)?.unwrap();
        assert!(path == bare && text.contains("Network::named(\"tf_efficientnet_b0\""), "{text}");
        assert_eq!(note("efficientnet_b0", &own)?, None);
        assert_eq!(note("resnet50", &bare)?, None);
        assert_eq!(unknown_form("efficientnet_b0", &Weights::Random(0).open("efficientnet_b0")?)?, None);
        network(Weights::file(&bare)).build()?;
        let is_noted = |path| NOTED.lock().unwrap().as_ref().is_some_and(|noted| noted.contains(path));
        assert!(is_noted(&bare));
        let named = folder.path().join("named.safetensors");
        std::fs::copy(&bare, &named).unwrap();
        let of_name = Network::named("efficientnet_b0", Weights::file(&named))?;
        of_name.alpha(0.1).input_shape((3, 32, 32)).classes(3).build()?;
        assert!(!is_noted(&named));
        Ok(())
    }
}
