//! Instances of generic functions that cells use most, compiled once.
//!
//! Nothing calls these functions: rustc reuses the instances that a library contains. A cell that uses the
//! same types compiles little more than its own code.

use headstart::prelude::*;
use headstart::variables::{EvcxrUserCodeError, VariableStore, run_alone};

/// Checks, takes and stores a variable, as a cell does.
fn keep<T: 'static>(store: &mut VariableStore) {
    if store.check_variable::<T>("") {
        let value = store.take_variable::<T>("");
        store.put_variable("", value);
    }
}

pub static VARIABLES: &[fn(&mut VariableStore)] = &[
    keep::<bool>,
    keep::<f32>,
    keep::<f64>,
    keep::<i32>,
    keep::<i64>,
    keep::<u32>,
    keep::<u64>,
    keep::<usize>,
    keep::<String>,
    keep::<&'static str>,
    keep::<std::path::PathBuf>,
    keep::<Vec<f32>>,
    keep::<Vec<f64>>,
    keep::<Vec<usize>>,
    keep::<Vec<String>>,
    keep::<Vec<&'static str>>,
    keep::<Tensor>,
    keep::<Vec<Tensor>>,
    keep::<Model>,
    keep::<History>,
    keep::<Images>,
    keep::<ImageDataGenerator>,
    keep::<ConfusionMatrix>,
];

type Cell = fn(&mut VariableStore) -> Result<(), EvcxrUserCodeError>;

pub static RUN: fn(&mut VariableStore, Cell) -> bool = run_alone;

pub fn the_program() -> Result<History, EvcxrUserCodeError> {
    let x = random_uniform((4, 3, 224, 224), 0.0, 1.0)?;
    let y = Tensor::new(&[0f32, 1.0, 0.0, 1.0], &device())?;
    let base_model = Vgg16::new(Weights::ImageNet).include_top(false).input_shape((3, 224, 224)).build()?;
    base_model.freeze();
    let mut model = sequential![
        base_model,
        Flatten,
        Dense::new(128).activation(Relu),
        Dropout::new(0.5),
        Dense::new(1).activation(Sigmoid)
    ]?;
    model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
    let datagen = ImageDataGenerator::new()
        .rotation_range(20.0)
        .width_shift_range(0.2)
        .height_shift_range(0.2)
        .horizontal_flip(true);
    datagen.fit(&x)?;
    let history = model.fit(datagen.flow(&x, &y, 4)?, Fit::epochs(10))?;
    let pred = model.predict(&x.i(..1)?)?;
    println!("Prediction for first image: {:.2}", pred[0][0]);
    Ok(history)
}

/// Other models and layers.
pub fn models() -> Result<[Model; 5], EvcxrUserCodeError> {
    let resnet = ResNet50::new(Weights::ImageNet).include_top(false).input_shape((3, 224, 224)).build()?;
    let efficient = EfficientNetB0::new(Weights::Demo).include_top(false).build()?;
    Ok([
        sequential![resnet, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?,
        sequential![&efficient, GlobalMaxPooling2D, Dense::new(1).activation(Softmax)]?,
        sequential![Input::new(1), Reshape::new(vec![1, 1, 1]), Rescaling::new(1.0), Relu]?,
        sequential![
            Input::new((3, 8, 8)),
            Conv2D::new(1, 3).padding(Padding::Same).activation(Relu),
            BatchNormalization::default(),
            MaxPooling2D::new(2),
            AveragePooling2D::new(2)
        ]?,
        efficient,
    ])
}

/// Common ways to create tensors.
pub fn tensors() -> Result<[Tensor; 6], EvcxrUserCodeError> {
    let device = device();
    Ok([
        Tensor::zeros((1, 1), DType::F32, &device)?,
        Tensor::zeros((1, 1, 1, 1), DType::F32, &device)?,
        Tensor::zeros(1, DType::F32, &device)?,
        Tensor::ones((1, 1), DType::F32, &device)?,
        Tensor::randn(0f32, 1f32, (1, 1), &device)?,
        Tensor::new(&[[0f32]], &device)?,
    ])
}
