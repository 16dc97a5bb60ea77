//! The layers of transformers and ConvNeXts, and grouped, dilated and rectangular convolutions, match PyTorch in
//! double precision (`tests/fixtures/layers.py`). With `-- --nocapture` the tests print a table.

use headstart::prelude::*;

use super::layers::check;

#[test]
fn layers_match_pytorch() {
    let bytes = include_bytes!("../fixtures/layers.safetensors");
    let known = candle_core::safetensors::load_buffer(bytes, &device()).unwrap();
    check(&known, "gelu", Activation::Gelu);
    check(&known, "gelu by tanh", Activation::GeluTanh);
    check(&known, "hard sigmoid", Activation::HardSigmoid);
    check(&known, "hard swish", Activation::HardSwish);
    let norm = LayerNormalization::default;
    check(&known, "layer norm of rows", norm());
    check(&known, "layer norm of tokens", norm().epsilon(1e-6));
    check(&known, "layer norm of maps", norm().axis(1));
    check(&known, "group norm of maps", GroupNormalization::new(3));
    check(&known, "group norm of rows", GroupNormalization::new(2));
    check(&known, "layer scale", LayerScale::new(0.1));
    check(&known, "response norm", GlobalResponseNormalization::default());
    check(&known, "dense of tokens", Dense::new(3));
    check(&known, "dense of many tokens", Dense::new(3));
    check(&known, "dense of pixels", Dense::new(6).channels_last(true));
    check(&known, "attention", MultiHeadAttention::new(3));
    check(&known, "attention of wide heads", MultiHeadAttention::new(2).key_dim(5));
    check(&known, "class token", ClassToken);
    check(&known, "position embedding", PositionEmbedding);
    check(&known, "first token", FirstToken);
    check(&known, "mean of tokens", GlobalAveragePooling1D);
    check(&known, "permute to channels last", Permute::new(&[2, 3, 1]));
    check(&known, "permute to channels first", Permute::new(&[3, 1, 2]));
    check(&known, "permute in reverse", Permute::new(&[3, 2, 1]));
    check(&known, "zero padding", ZeroPadding2D::sides((1, 3), (2, 0)));
    let padded = Padding::Explicit;
    check(&known, "grouped 3/1 padded", Conv2D::new(4, 3).groups(2).padding(padded(1)));
    check(&known, "grouped 3/2 padded", Conv2D::new(9, 3).groups(3).strides(2).padding(padded(1)));
    check(&known, "rectangular 1x5", Conv2D::new(4, (1, 5)));
    check(&known, "rectangular 3x2 strided", Conv2D::new(4, (3, 2)).strides(2).padding(padded(1)));
    check(&known, "dilated 3/1", Conv2D::new(4, 3).dilation_rate(2).padding(padded(2)));
    let in_groups = Conv2D::new(4, (3, 2)).groups(2).dilation_rate(2).strides(2);
    check(&known, "dilated 3x2 in groups", in_groups.padding(padded(1)));
    check(&known, "depthwise 7/1 padded", Conv2D::depthwise(7).padding(padded(3)));
    check(&known, "depthwise dilated", Conv2D::depthwise(3).dilation_rate(2).padding(padded(2)));
    check(&known, "separable", SeparableConv2D::new(6, 3).strides(2).padding(padded(1)));
}

/// A model with each of the layers.
fn model_of_all() -> HeadstartResult<Model> {
    let mut builder = ModelBuilder::new("all", &[4, 12, 10])?;
    let input = builder.input();
    let left = builder.add("", Conv2D::new(6, (3, 2)).groups(2).dilation_rate(2), &[input])?;
    let left = builder.add("", ZeroPadding2D::sides((2, 2), (1, 1)), &[left])?;
    let right = builder.add("", SeparableConv2D::new(2, 3).padding(Padding::Same), &[input])?;
    let maps = builder.add("", Concatenate::default(), &[left, right])?;
    let maps = builder.add("", GroupNormalization::new(2), &[maps])?;
    let maps = builder.add("", LayerNormalization::default().axis(1), &[maps])?;
    let pixels = builder.add("", Permute::new(&[2, 3, 1]), &[maps])?;
    let pixels =
        builder.add("", Dense::new(8).channels_last(true).activation(Activation::Gelu), &[pixels])?;
    let pixels = builder.add("", GlobalResponseNormalization::default(), &[pixels])?;
    let tokens = builder.add("", Reshape::new((120, 8)), &[pixels])?;
    let tokens = builder.add("", ClassToken, &[tokens])?;
    let tokens = builder.add("", PositionEmbedding, &[tokens])?;
    let branch = builder.add("", LayerNormalization::default(), &[tokens])?;
    let branch = builder.add("", MultiHeadAttention::new(2), &[branch])?;
    let branch = builder.add("", LayerScale::new(0.5), &[branch])?;
    let branch = builder.add("", StochasticDepth::new(0.5), &[branch])?;
    let tokens = builder.add("", Add, &[tokens, branch])?;
    let class = builder.add("", FirstToken, &[tokens])?;
    let mean = builder.add("", GlobalAveragePooling1D, &[tokens])?;
    let both = builder.add("", Concatenate::default().axis(-1), &[class, mean])?;
    let both = builder.add("", Activation::HardSwish, &[both])?;
    let last = builder.add("", Dense::new(3).activation(Activation::HardSigmoid), &[both])?;
    builder.finish(last)
}

#[test]
fn a_saved_model_has_the_same_outputs() -> HeadstartResult<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let model = model_of_all()?;
    model.save(&path)?;
    let x = random_uniform((3, 4, 12, 10), -1.0, 1.0)?;
    let loaded = Model::load(&path)?;
    assert_eq!(loaded.predict(&x)?, model.predict(&x)?);
    // Stochastic depth makes training random.
    let [a, b] =
        [0, 1].map(|_| model.forward(&random_uniform((64, 4, 12, 10), -1.0, 1.0).unwrap(), Mode::Training));
    assert_ne!(a?.flatten_all()?.to_vec1::<f32>()?, b?.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn unsuitable_layers_are_refused() {
    let maps = || Input::new((4, 6, 6));
    let tokens = || Input::new((5, 6));
    let errors = [
        (sequential![maps(), Dense::new(2)], "channels_last"),
        (sequential![maps(), Conv2D::new(6, 3).groups(3)], "groups"),
        (sequential![maps(), Conv2D::new(6, 3).groups(0)], "groups"),
        (sequential![maps(), Conv2D::depthwise(3).groups(2)], "groups"),
        (sequential![maps(), Conv2D::new(6, 3).dilation_rate(0)], "dilation"),
        (sequential![maps(), Conv2D::new(6, 3).dilation_rate(3)], "at least 7x7"),
        (sequential![maps(), Conv2D::new(6, (0, 3))], "at least 1"),
        (sequential![maps(), SeparableConv2D::new(0, 3)], "filters"),
        (sequential![maps(), LayerNormalization::default().axis(2)], "axis"),
        (sequential![maps(), GroupNormalization::new(3)], "groups"),
        (sequential![maps(), GroupNormalization::new(0)], "groups"),
        (sequential![maps(), MultiHeadAttention::new(2)], "[tokens, features]"),
        (sequential![tokens(), MultiHeadAttention::new(4)], "num_heads"),
        (sequential![tokens(), MultiHeadAttention::new(0)], "num_heads"),
        (sequential![tokens(), MultiHeadAttention::new(2).key_dim(0)], "num_heads"),
        (sequential![maps(), ClassToken], "[tokens, features]"),
        (sequential![maps(), FirstToken], "[tokens, features]"),
        (sequential![maps(), Permute::new(&[1, 2])], "permutation"),
        (sequential![maps(), Permute::new(&[1, 1, 2])], "permutation"),
        (sequential![maps(), Concatenate::default().axis(0)], "axis"),
        (sequential![maps(), Concatenate::default().axis(4)], "axis"),
        (sequential![tokens(), ZeroPadding2D::new(1)], "[channels, height, width]"),
        (sequential![maps(), ZeroPadding2D::new(usize::MAX)], "padding"),
        (sequential![maps(), StochasticDepth::new(1.0)], "rate"),
    ];
    for (at, (model, expected)) in errors.into_iter().enumerate() {
        let error = model.err().unwrap_or_else(|| panic!("case {at} is no error")).to_string();
        assert!(error.contains(expected), "case {at}: {error}");
    }
}
