//! Incompatible layers and inputs are errors; compatible inputs give the same results everywhere.

use headstart::Result;
use headstart::prelude::*;

use crate::small::of_raw_pixels;

#[test]
fn incompatible_layers_are_errors() -> Result<()> {
    let says = |found: Result<Model>, part: &str| {
        let error = found.expect_err("it was built").to_string();
        assert!(error.contains(part), "{error}");
    };
    says(sequential![Input::new(4), Dense::new(2), Input::new(2), Dense::new(1)], "one `Input`");
    says(sequential![Input::new(4), Input::new(4)], "one `Input`");
    let pixels = || Input::new((3, 8, 8));
    for padding in [2, 3, usize::MAX] {
        let padding = Padding::Explicit(padding);
        says(sequential![pixels(), MaxPooling2D::new(2).padding(padding)], "less than the window, 2");
        says(sequential![pixels(), AveragePooling2D::new(2).padding(padding)], "less than the window, 2");
        says(sequential![pixels(), Conv2D::new(4, 2).padding(padding)], "less than the window, 2");
    }
    let mut builder = ModelBuilder::new("net", &[4])?;
    let input = builder.input();
    let mut larger = ModelBuilder::new("larger", &[4])?;
    let mut far = larger.input();
    for _ in 0..4 {
        far = larger.add("", Dense::new(4), &[far])?;
    }
    let sum = builder.add("sum", Add, &[input, input, input])?;
    for (found, part) in [
        (builder.add("d", Dense::new(4), &[]), "one input for `d`, found 0"),
        (builder.add("d", Dense::new(4), &[input, sum]), "one input for `d`, found 2"),
        (builder.add("a", Add, &[]), "at least one input for `a`"),
        (builder.add("d", Dense::new(4), &[far]), "the same builder"),
    ] {
        let error = found.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    Ok(())
}

#[test]
fn empty_batches_are_errors() -> Result<()> {
    let mut model = sequential![
        Input::new((3, 8, 8)),
        Conv2D::new(4, 3).activation(Relu),
        MaxPooling2D::new(2),
        Flatten,
        Dense::new(2).activation(Softmax)
    ]?;
    model.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
    let x = Tensor::zeros((0, 3, 8, 8), DType::F32, &device())?;
    let y = Tensor::zeros(0, DType::U32, &device())?;
    assert!(model.predict(&x).unwrap_err().to_string().contains("the batch is empty"));
    assert!(model.forward(&x, Mode::Training).is_err());
    assert!(model.outputs_of(&["conv2d"], &x).is_err());
    assert!(model.evaluate(&x, &y).is_err());
    assert!(model.fit((&x, &y), Fit::epochs(1).verbose(false)).is_err());
    assert!(model.grad_cam(&x, GradCam::new()).is_err());
    Ok(())
}

#[test]
fn images_of_another_layout_get_a_hint() -> Result<()> {
    let colour = sequential![Input::new((3, 8, 8)), Flatten, Dense::new(1)]?;
    let grey = sequential![Input::new((1, 8, 8)), Flatten, Dense::new(1)]?;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &device());
    for (model, shape, hint) in [
        (&colour, &[2, 8, 8, 3][..], "x.permute((0, 3, 1, 2))"),
        (&grey, &[2, 8, 8, 1], "x.permute((0, 3, 1, 2))"),
        (&colour, &[2, 1, 8, 8], "x.repeat((1, 3, 1, 1))"),
        (&grey, &[2, 3, 8, 8], "x.mean_keepdim(1)"),
        (&grey, &[2, 8, 8], "x.unsqueeze(1)"),
        (&colour, &[2, 8, 8], "x.unsqueeze(1)"),
        (&colour, &[3, 8, 8], "unsqueeze(0)"),
    ] {
        let error = model.predict(&zeros(shape)?).unwrap_err().to_string();
        assert!(error.contains(hint), "{shape:?}: {error}");
    }
    Ok(())
}

#[test]
fn all_dtypes_and_layouts_give_the_same_results() -> Result<()> {
    let mut model = of_raw_pixels()?;
    let loss = SparseCategoricalCrossentropy;
    model.compile(SGD::new(0.1), loss, [Accuracy]);
    let bytes = random_uniform((40, 3, 8, 8), 0.0, 255.0)?.to_dtype(DType::U8)?;
    let (x, y) = (bytes.to_dtype(DType::F32)?, bytes.i((.., 0, 0, 0))?.ge(128u8)?.to_dtype(DType::U32)?);
    let permuted = x.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?;
    assert!(!permuted.is_contiguous());
    let values = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
    let heat = |x: &Tensor| -> Result<Vec<f32>> { Ok(values(&model.grad_cam(x, GradCam::new())?.maps)?) };
    let (outputs, maps) = (model.predict(&x)?, values(&model.outputs_of(&["conv2d"], &x)?[0])?);
    let (forward, heat_maps) = (values(&model.forward(&x, Mode::Inference)?)?, heat(&x)?);
    let score = model.evaluate(&x, &y)?["loss"];
    for other in [bytes.clone(), bytes.to_dtype(DType::I64)?, bytes.to_dtype(DType::F64)?, permuted.clone()] {
        assert_eq!(model.predict(&other)?, outputs);
        assert_eq!(values(&model.forward(&other, Mode::Inference)?)?, forward);
        assert_eq!(values(&model.outputs_of(&["conv2d"], &other)?[0])?, maps);
        assert_eq!(heat(&other)?, heat_maps);
        assert_eq!(model.evaluate(&other, &y)?["loss"], score);
    }
    Ok(())
}

#[test]
fn a_layer_may_be_called_output_in_an_onnx_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let mut builder = ModelBuilder::new("net", &[4])?;
    let first = builder.add("output", Dense::new(4), &[builder.input()])?;
    let last = builder.add("dense", Dense::new(2), &[first])?;
    builder.finish(last)?.export_onnx(&path)?;
    let content = std::fs::read(&path).unwrap();
    let count = |name: &[u8]| content.windows(name.len()).filter(|bytes| *bytes == name).count();
    // The layer's output name occurs as an output, as the node's name, and as an input.
    assert!(count(b"output_1") >= 3 && count(b"output_1/kernel") >= 2);
    Ok(())
}

#[test]
fn pools_and_strides_are_given_as_in_keras() -> Result<()> {
    let input = || Input::new((2, 9, 9));
    let pairs = sequential![
        input(),
        Conv2D::new(3, (3, 3)).strides((1, 1)),
        SeparableConv2D::new(3, (3, 3)).strides((1, 1)).padding(Padding::Same),
        MaxPooling2D::new((2, 2)).strides((1, 1)),
        AveragePooling2D::new((2, 2))
    ]?;
    let numbers = sequential![
        input(),
        Conv2D::new(3, 3).strides(1),
        SeparableConv2D::new(3, 3).strides(1).padding(Padding::Same),
        MaxPooling2D::new(2).strides(1),
        AveragePooling2D::new(2)
    ]?;
    assert_eq!((pairs.output_shape(), numbers.output_shape()), (&[3, 3, 3][..], &[3, 3, 3][..]));
    numbers.set_weights(&pairs.weights()?)?;
    let x = random_uniform((2, 2, 9, 9), -1.0, 1.0)?;
    assert_eq!(pairs.predict(&x)?, numbers.predict(&x)?);
    for (model, setting) in [
        (sequential![input(), MaxPooling2D::new((2, 3))], "pool_size"),
        (sequential![input(), AveragePooling2D::new((2, 3))], "pool_size"),
        (sequential![input(), MaxPooling2D::new(2).strides((2, 3))], "strides"),
        (sequential![input(), Conv2D::new(2, 3).strides((2, 3))], "strides"),
        (sequential![input(), SeparableConv2D::new(2, 3).strides((2, 3))], "strides"),
    ] {
        let error = model.unwrap_err().to_string();
        let expected = format!("{setting}: expected the same number for height and width, found (2, 3)");
        assert!(error.contains(&expected), "{error}");
    }
    Ok(())
}

/// No arithmetic overflows, and no loop is as long as the window.
#[test]
fn sizes_of_any_number_are_errors_or_built() -> Result<()> {
    let image = || Input::new((1, 4, 5));
    for size in [1_000_000_000, usize::MAX] {
        assert!(sequential![image(), Conv2D::new(1, 2).dilation_rate(size)].is_err());
        assert!(sequential![image(), Conv2D::new(1, size)].is_err());
        let wide = Conv2D::new(1, 2).dilation_rate(size.saturating_mul(3)).padding(Padding::Same);
        assert!(sequential![image(), wide].is_err());
        assert!(sequential![image(), MaxPooling2D::new(size)].is_err());
        let around = Padding::Explicit(size - 1);
        let pooled = sequential![image(), MaxPooling2D::new(size).strides(1).padding(around)];
        assert!(pooled.and_then(|model| model.predict(&random_uniform((1, 1, 4, 5), 0.0, 1.0)?)).is_err());
    }
    assert!(sequential![image(), Conv2D::new(1, (1, usize::MAX)).padding(Padding::Same)].is_err());
    assert!(sequential![image(), Reshape::new((usize::MAX, 2))].is_err());
    // As in Keras, a window that covers the whole image at each position.
    let x = random_uniform((2, 1, 4, 5), 0.0, 1.0)?;
    let flat = x.flatten_from(1)?;
    let (most, mean) = (flat.max(1)?.to_vec1::<f32>()?, flat.mean(1)?.to_vec1::<f32>()?);
    for size in [10, 11, 1_000_000_000, usize::MAX] {
        for strides in [2, size] {
            let max = MaxPooling2D::new(size).strides(strides).padding(Padding::Same);
            let average = AveragePooling2D::new(size).strides(strides).padding(Padding::Same);
            let found =
                [sequential![image(), max]?.predict(&x)?, sequential![image(), average]?.predict(&x)?];
            for (found, expected) in found.iter().zip([&most, &mean]) {
                for (row, expected) in found.iter().zip(expected) {
                    let fits = row.iter().all(|value| (value - expected).abs() < 1e-5);
                    assert!(
                        fits && row.len() == if strides == 2 { 6 } else { 1 },
                        "{size}, {strides}: {row:?}, not {expected}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// The name in Keras of a network's layer, if it has another one.
fn name_in_keras(network: &str, layer: &str) -> String {
    match (network, layer) {
        (_, "avg_pool") if network.starts_with("MobileNet") => "global_average_pooling2d".into(),
        (_, "top_dropout") if network.starts_with("MobileNet") => "dropout".into(),
        ("EfficientNetV2S", _) if layer.starts_with("block1") => layer.replace("_expand_", "_project_"),
        ("EfficientNetV2S", _) => layer.replace("_dwconv", "_dwconv2"),
        ("ConvNeXtTiny", _) => {
            let layer = match layer {
                "avg_pool" => "head_gap".into(),
                "predictions" => "head_dense".into(),
                "stem_conv" => "stem".into(),
                _ if layer.starts_with("downsampling") => layer.replace("_layernorm", ""),
                _ => layer.replace("_add", "_identity"),
            };
            format!("convnext_tiny_{layer}")
        }
        _ => layer.into(),
    }
}

/// `tests/fixtures/keras_layers.py` wrote the names of Keras's layers.
#[test]
fn layer_indices_match_keras() -> Result<()> {
    for line in include_str!("../fixtures/keras_layers.txt").lines() {
        let names: Vec<&str> = line.split(' ').collect();
        let (keras, names) = (names[0], &names[1..]);
        let info = models().iter().find(|model| model.keras.as_deref() == Some(keras)).unwrap();
        let network = Network::named(&info.name, Weights::Random(0))?.input_shape((3, 64, 64));
        // Narrower networks of the other families have more shortcuts.
        let is_narrow =
            ["VGG", "ResNet", "DenseNet", "ConvNeXt"].iter().any(|family| keras.starts_with(family));
        let network = if is_narrow { network.alpha(0.1) } else { network };
        let mut built = vec![network.clone().build()?];
        if keras.starts_with("EfficientNet") {
            built.push(network.drop_connect_rate(0.2).build()?);
        }
        for model in built {
            let (mut rows, mut before) = (model.summary().rows, 0);
            rows.sort_by_key(|row| row.number);
            for row in rows {
                let (number, expected) = (row.number, name_in_keras(keras, &row.name));
                let found = names[number];
                // The names of MobileNetV3's activations are numbered in Keras.
                let is_activation = keras.starts_with("MobileNetV3")
                    && expected.ends_with("_activation")
                    && (found.starts_with("activation") || found.starts_with("re_lu"));
                // A layer that Keras does not have has the number before.
                let is_ours = number == before && !names.contains(&&*expected);
                assert!(
                    found == expected || is_activation || is_ours,
                    "{keras} {number}: {expected}, {found}"
                );
                before = number;
            }
            assert!(model.layer(-1).is_ok() || keras.starts_with("MobileNetV3"), "{keras}");
            let last = names.len() - 1;
            let error = model.layer(last + 1).err().unwrap().to_string();
            assert!(error.contains(&format!("to {last}, since")), "{keras}: {error}");
        }
    }
    Ok(())
}
