//! What people are used to from Keras: the same words do the same.

use std::fs;
use std::path::Path;

use headstart::data::Dataset;
use headstart::prelude::*;
use headstart::train::Predictions;
use headstart::{Error, Result};

/// Two classes that one number tells apart, and a model that has learnt them.
fn learnt() -> Result<(Model, Tensor, Tensor)> {
    set_random_seed(3);
    let mut model = sequential![Input::new(1), Dense::new(1).activation(Sigmoid)]?;
    model.compile(Adam::new(0.1), BinaryCrossentropy, [Accuracy]);
    let x = Tensor::arange(0f32, 40.0, &device())?.affine(0.1, -2.0)?.reshape((40, 1))?;
    let y = x.gt(0.0)?.flatten_all()?;
    model.fit((&x, &y), Fit::epochs(20).verbose(false))?;
    Ok((model, x, y))
}

/// Drawn images in folders of these classes.
fn folders(folder: &Path, classes: &[&str]) {
    let drawn = tempfile::tempdir().unwrap();
    draw_pictures(drawn.path(), 4, 24, 1).unwrap();
    for (class, source) in classes.iter().zip(["cats", "dogs", "cats"]) {
        fs::create_dir_all(folder).unwrap();
        let to = folder.join(class);
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(drawn.path().join(source)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

fn image_model(outputs: usize) -> Result<Model> {
    let mut model = sequential![
        Input::new((3, 16, 16)),
        Rescaling::new(1.0 / 255.0),
        Flatten,
        Dense::new(outputs).activation(Softmax)
    ]?;
    model.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
    Ok(model)
}

#[test]
fn class_numbers_of_two_folders_are_compared_and_can_be_set() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (train, val) = (folder.path().join("train"), folder.path().join("val"));
    folders(&train, &["bird", "cat", "dog"]);
    folders(&val, &["bird", "dog"]);
    let size = (16, 16);
    let (train, val) = (PictureFiles::from_directory(train, size)?, PictureFiles::from_directory(val, size)?);
    let mut model = image_model(3)?;
    let fit = || Fit::epochs(1).verbose(false);
    // `dog` is class 2 in one and class 1 in the other.
    let error = model.fit(&train, fit().validation_data(&val)).unwrap_err().to_string();
    for part in
        ["validation_data", "`bird`, `cat`, `dog`", "`bird`, `dog`", r#".classes(["bird", "cat", "dog"])"#]
    {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let numbered = val.classes(["bird", "cat", "dog"])?;
    assert_eq!((&numbered.labels[..], numbered.len()), (&[0, 0, 0, 0, 2, 2, 2, 2][..], 8));
    let history = model.fit(&train, fit().validation_data(&numbered))?;
    assert_eq!(history["val_accuracy"].len(), 1);
    // A flow and images in memory know their classes too.
    let flow = ImageDataGenerator::new().flow_files(&val, 4)?;
    assert_eq!(flow.class_names(), ["bird", "dog"]);
    assert!(matches!(model.fit(&train, fit().validation_data(flow)), Err(Error::Argument { .. })));
    let images = val.load()?;
    assert!(model.evaluate_on(&images, 4).unwrap_err().to_string().contains("another class"));
    assert!(model.confusion_matrix(&images).unwrap_err().to_string().contains("another class"));
    let images = images.classes(["bird", "cat", "dog"])?;
    assert_eq!(images.y.to_vec1::<u32>()?, [0, 0, 0, 0, 2, 2, 2, 2]);
    assert_eq!(model.confusion_matrix(&images)?.counts()[1], [0, 0, 0]);
    // Some of the classes: the others' files are left out.
    let two = train.classes(["dog", "bird"])?;
    assert_eq!((two.len(), two.labels[0], two.class_names.len()), (8, 1, 2));
    for wrong in [&["fish"][..], &["dog", "dog"]] {
        let error = train.classes(wrong.iter().copied()).unwrap_err().to_string();
        assert!(error.contains("classes: expected"), "{error}");
    }
    Ok(())
}

#[test]
fn predictions_scores_and_confusions_are_the_same_from_tensors_files_and_flows() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    folders(&folder.path().join("all"), &["cat", "dog"]);
    let files = PictureFiles::from_directory(folder.path().join("all"), (16, 16))?;
    let images = files.load()?;
    let mut model = image_model(2)?;
    model.fit(&images, Fit::epochs(2).verbose(false))?;
    let expected = model.predict(&images.x)?;
    let flow = || ImageDataGenerator::new().flow_files(&files, 3);
    let same = |found: Predictions| {
        let far = found.to_tensor()?.sub(&expected.to_tensor()?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(found.len() == expected.len() && far < 1e-5, "{far}");
        Ok::<(), Error>(())
    };
    same(model.predict(&files)?)?;
    same(model.predict(&images)?)?;
    // A flow shuffles while it trains; predictions have the order of the files.
    same(model.predict(flow()?)?)?;
    same(model.predict_in_batches(&images.x, 3)?)?;
    same(model.predict_in_batches(&files, 5)?)?;
    assert!(model.predict_in_batches(&files, 0).is_err() && model.predict_in_batches(&images.x, 0).is_err());
    let scores = model.evaluate(&images.x, &images.y)?;
    for found in [
        model.evaluate_on(&files, 3)?,
        model.evaluate_on(&images, 8)?,
        model.evaluate_on(flow()?, 1)?,
        model.evaluate_on((&images.x, &images.y), 2)?,
    ] {
        assert!((found["loss"] - scores["loss"]).abs() < 1e-5 && found["accuracy"] == scores["accuracy"]);
    }
    let matrix = images.confusion_matrix(&expected)?;
    assert_eq!(model.confusion_matrix(&files)?, matrix);
    assert_eq!(model.confusion_matrix(flow()?)?, matrix);
    assert_eq!(model.confusion_matrix((&images.x, &images.y))?, matrix);
    Ok(())
}
