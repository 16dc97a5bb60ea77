//! Hints for Keras names that have another name in this library.

/// Methods and fields of Keras, each with a hint.
const METHODS: [(&[&str], &str); 25] = [
    (
        &["fit_generator"],
        "call `fit`, which takes generators too: `model.fit(datagen.flow(&x, &y, 32)?, Fit::epochs(10))?`",
    ),
    (
        &["predict_generator", "predict_on_batch", "predict_proba"],
        "call `predict`, which takes tensors, files and generators: `model.predict(&x)?`",
    ),
    (
        &["evaluate_generator", "test_on_batch"],
        "call `evaluate` with tensors, or `evaluate_on` with files and generators: `model.evaluate_on(&files, 32)?`",
    ),
    (&["predict_classes"], "take the classes of the predictions: `model.predict(&x)?.classes()`"),
    (
        &["train_on_batch"],
        "train on a batch with `fit`: `model.fit((&x, &y), Fit::epochs(1).batch_size(n))?`",
    ),
    (&["get_layer"], "call `model.layer(\"block5_conv1\")?`"),
    (
        &["layers"],
        "select a layer by number or name: `model.layer(15)?`; to freeze, call `unfreeze_from(15)?`, `freeze_until(15)?` or `set_trainable`",
    ),
    (&["trainable_weights", "trainable_variables"], "call `model.trainable_params()`"),
    (
        &["weights", "variables", "get_weights"],
        "`model.weights()?` copies the values of all parameters; `model.params()` are the parameters themselves",
    ),
    (
        &["set_weights"],
        "`model.set_weights(&kept)?` puts back what `model.weights()?` copied; one parameter: `model.params()[0].set(&tensor)?`",
    ),
    (&["count_params"], "read the number of parameters in the summary: `model.summary().total`"),
    (
        &["to_json", "get_config"],
        "call `model.save(\"model.safetensors\")?`, which writes layers and weights into one file",
    ),
    (
        &["pop"],
        "omit the last layer when you build the model: `.include_top(false)`, or `model.outputs_of(&[\"layer\"], &x)?`",
    ),
    (
        &["steps_per_epoch", "validation_steps"],
        "pass fewer samples for a shorter epoch, `x.i(..n)?`: an epoch covers all data",
    ),
    (
        &["workers", "use_multiprocessing", "max_queue_size"],
        "remove this option: images are always decoded and augmented in advance, on all cores",
    ),
    (
        &["class_mode", "label_mode"],
        "choose the loss that fits the labels: `BinaryCrossentropy` with one output, `SparseCategoricalCrossentropy` with one for each class",
    ),
    (&["target_size", "image_size"], "pass the size after the folder: `from_directory(folder, (224, 224))?`"),
    (&["color_mode"], "convert colour images to greyscale: `x.mean_keepdim(1)?`"),
    (&["class_indices"], "use `class_names`, the classes in the order of their numbers"),
    (
        &["flow_from_dataframe"],
        "read the table with `ImageFiles::from_csv(table, folder, size)?`, and augment the files: `datagen.flow_files(&files, 32)?`",
    ),
    (&["validation_data"], "pass the validation data to `Fit`: `Fit::epochs(10).validation_data((&x, &y))`"),
    (
        &["monitor", "restore_best_weights", "patience"],
        "set this option of a callback: `EarlyStopping::new(\"val_loss\").patience(3)`",
    ),
    (
        &["mode"],
        "set `mode` of the callback that monitors a number: `EarlyStopping::new(\"val_accuracy\").mode(\"max\")`",
    ),
    (&["stop_training"], "end training in a callback with `training.stop(\"reason\".into())`"),
    (
        &["sample_weight"],
        "pass sample weights as the third tensor of the data: `model.fit((&x, &y, &weights), …)?`",
    ),
];
/// Functions and types of Keras and of earlier versions of this library, each with a hint.
const NAMES: [(&[&str], &str); 11] = [
    (&["to_categorical"], "use `SparseCategoricalCrossentropy`, which takes class numbers"),
    (&["load_model"], "call `Model::load(\"model.safetensors\")?`"),
    (
        &["load_img", "img_to_array", "image_dataset_from_directory"],
        "read images into a tensor with `Images::from_directory(folder, (224, 224))?`, or batch by batch with `ImageFiles::from_directory`",
    ),
    (&["decode_predictions"], "call `model.decode_predictions(&predictions, 5)?` of a pretrained network"),
    (&["VGG16"], "write `Vgg16::new(Weights::ImageNet)`"),
    (&["EfficientNetLite"], "write `EfficientNetLite0::new(Weights::ImageNet)`"),
    (
        &["MaxPool2D", "AvgPool2D", "GlobalAvgPool2D", "GlobalMaxPool2D"],
        "use `MaxPooling2D`, `AveragePooling2D`, `GlobalAveragePooling2D`, `GlobalMaxPooling2D`",
    ),
    (&["PictureFiles"], "write `ImageFiles`"),
    (&["Pictures"], "write `ImageGrid`"),
    (&["draw_pictures"], "call `draw_demo_images`"),
    (&["plot_model"], "call `model.summary()` for the layers, or `base.plot()?` for the stages of a network"),
];
/// Types of this library that correspond to the Keras classes with these methods.
const TYPES: [&str; 15] = [
    "Model",
    "Fit",
    "History",
    "ImageFiles",
    "Images",
    "ImageDataGenerator",
    "Flow",
    "Network",
    "EarlyStopping",
    "ReduceLROnPlateau",
    "ModelCheckpoint",
    "Predictions",
    "Training",
    "Scores",
    "Sequential",
];

/// Hint for an error about a missing method, field, function or type.
pub fn hint(code: &str, message: &str) -> Option<&'static str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (name, owner) = (quoted.next()?, quoted.next());
    let find = |table: &'static [(&'static [&'static str], &'static str)]| {
        table.iter().find(|(words, _)| words.contains(&name)).map(|(_, hint)| *hint)
    };
    match code {
        "E0599" | "E0609" | "E0610" | "E0615" | "E0616" => {
            let owner = owner?.trim_start_matches('&').trim_start_matches("mut ");
            let known = owner.split('<').next().and_then(|path| path.rsplit("::").next());
            known.filter(|known| TYPES.contains(known)).and_then(|_| find(&METHODS))
        }
        "E0412" | "E0422" | "E0423" | "E0425" | "E0432" | "E0433" => find(&NAMES),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keras_names_get_a_hint_only_in_their_context() {
        let method = |name: &str, of: &str| {
            format!("no method named `{name}` found for struct `{of}` in the current scope")
        };
        let found = hint("E0599", &method("fit_generator", "headstart::prelude::Model")).unwrap();
        assert!(found.contains("datagen.flow"), "{found}");
        assert!(hint("E0599", &method("steps_per_epoch", "Fit")).unwrap().contains("an epoch covers"));
        assert!(hint("E0599", &method("class_mode", "ImageFiles")).unwrap().contains("loss"));
        assert!(hint("E0599", &method("mode", "Fit")).unwrap().contains("EarlyStopping"));
        assert!(
            hint("E0615", "attempted to take value of method `layers` on type `headstart::prelude::Model`")
                .is_some()
        );
        assert!(hint("E0609", "no field `layers` on type `&mut headstart::prelude::Model`").is_some());
        assert!(hint("E0425", "cannot find function `to_categorical` in this scope").is_some());
        assert!(
            hint("E0433", "failed to resolve: use of undeclared type `PictureFiles`")
                .unwrap()
                .contains("`ImageFiles`")
        );
        // A custom type may also lack such a method.
        assert_eq!(hint("E0599", &method("mode", "Mine")), None);
        assert_eq!(hint("E0599", &method("foo", "Fit")), None);
    }
}
