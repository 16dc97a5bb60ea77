//! Hints for Keras names that have another name in this library.

/// Methods and fields of Keras, each with a hint.
const METHODS: [(&[&str], &str); 36] = [
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
    (
        &["validation_split", "subset"],
        "divide the files first: `let (train, val) = files.split(0.2)?`, then make a flow of each, or `.validation_data(&val)`",
    ),
    (&["validation_freq"], "validation follows every epoch; leave this out"),
    (&["cval"], "the value is part of the fill mode: `.fill_mode(FillMode::Constant(0.0))`"),
    (
        &["interpolation", "interpolation_order"],
        "images are resized by bilinear interpolation with antialiasing, and augmented by bilinear interpolation; leave this out",
    ),
    (&["seed"], "one seed drives all random numbers: `set_random_seed(1)`"),
    (
        &["batch_size", "shuffle"],
        "batch size and shuffling are options of `Fit`; a generator takes the batch size: `datagen.flow_files(&files, 32)?`",
    ),
    (&["dtype"], "images and weights are `f32`; leave this out"),
    (&["amsgrad"], "Adam has no AMSGrad here; leave this out"),
    (&["delta"], "`Huber` has Keras's default, a delta of 1; for another one implement `Loss`"),
    (
        &["gamma", "alpha", "apply_class_balancing"],
        "`BinaryFocalCrossentropy` has Keras's default, a gamma of 2; weight the classes by `Fit::class_weight`",
    ),
    (
        &["average", "threshold", "thresholds"],
        "`F1Score` is the mean over the classes; the report has the scores of each: `model.confusion_matrix(&files)?.report()`",
    ),
];
/// Functions and types of Keras and of earlier versions of this library, each with a hint.
const NAMES: [(&[&str], &str); 19] = [
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
    (
        &["RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast", "RandomTranslation", "RandomCrop"],
        "augment before the model: `ImageDataGenerator::new().horizontal_flip(true).rotation_range(20.0).zoom_range(0.1)`",
    ),
    (&["DepthwiseConv2D"], "the layer is `Conv2D::depthwise(3)`"),
    (
        &["ReLU", "LeakyReLU", "PReLU", "ELU", "relu", "softmax", "sigmoid"],
        "activations are values and layers: `Dense::new(8).activation(Relu)`, or `Relu` after a layer; `Activation` lists them",
    ),
    (
        &["CategoricalAccuracy", "SparseCategoricalAccuracy"],
        "`Accuracy` takes class numbers and one-hot rows; `BinaryAccuracy` is for several labels a sample",
    ),
    (
        &["Nadam", "Adagrad", "Adadelta", "Adamax", "Ftrl", "Lion"],
        "the optimizers are `Adam`, `AdamW`, `SGD` and `RMSprop`; for another one implement `Optimizer`",
    ),
    (
        &[
            "ResNet152",
            "EfficientNetB1",
            "EfficientNetB2",
            "EfficientNetB3",
            "EfficientNetB4",
            "ConvNeXtSmall",
            "ConvNeXtBase",
        ],
        "this network has no function of its own: `Network::named(\"EfficientNetB3\", Weights::ImageNet)?`, by its name",
    ),
    (
        &[
            "InceptionV3",
            "Xception",
            "VGG19",
            "MobileNet",
            "InceptionResNetV2",
            "ResNet50V2",
            "NASNetMobile",
            "DenseNet201",
        ],
        "this network is not among those of `models()`; `ResNet50`, `MobileNetV2` and `EfficientNetB0` are of similar sizes",
    ),
    (
        &["clone_model"],
        "`model.clone()` shares its weights; for a copy build the model again and call `copy.set_weights(&model.weights()?)?`",
    ),
];
/// Types of this library that correspond to the Keras classes with these methods.
const TYPES: [&str; 18] = [
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
    "GradientDescent",
    "BuiltInLoss",
    "MetricSpec",
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
        for (word, of, part) in [
            ("validation_split", "headstart::prelude::ImageDataGenerator", "files.split"),
            ("amsgrad", "GradientDescent<Moments>", "AMSGrad"),
            ("delta", "BuiltInLoss", "Huber"),
            ("average", "MetricSpec", "F1Score"),
            ("seed", "ImageFiles", "set_random_seed"),
        ] {
            assert!(hint("E0599", &method(word, of)).unwrap().contains(part), "{word}");
        }
        for (word, part) in [("RandomFlip", "horizontal_flip"), ("EfficientNetB3", "Network::named")] {
            let message = format!("cannot find value `{word}` in this scope");
            assert!(hint("E0425", &message).unwrap().contains(part), "{word}");
        }
        // A custom type may also lack such a method.
        assert_eq!(hint("E0599", &method("mode", "Mine")), None);
        assert_eq!(hint("E0599", &method("foo", "Fit")), None);
    }
}
