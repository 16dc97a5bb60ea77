//! CPU operations against candle's, against their definition and against finite differences.

use headstart::candle_core::backprop::GradStore;
use headstart::candle_core::{Device, Result, Tensor, Var};
use headstart::nn::Param;
use headstart::ops::{Addition, BatchNorm, Conv, Relu, ScaleShift};
use headstart::prelude::*;

/// Uniform values in ±1, reproducible for each seed.
fn values(seed: u64, shape: &[usize]) -> Tensor {
    let draw = |at: usize| {
        let z = (seed << 32 | at as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(draw).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest expected value.
fn difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (flat(found), flat(expected));
    let largest = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest.max(1e-20)
}

/// `Σ weights · f(inputs)` in f64, for finite differences.
fn weighed(f: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], weights: &Tensor) -> f64 {
    let output = f(inputs).unwrap();
    flat(&output).iter().zip(flat(weights)).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
}

/// Compares directional derivatives of each input by finite differences with the gradient.
fn assert_gradients(name: &str, f: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], step: f64) {
    let variables: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tracked: Vec<Tensor> = variables.iter().map(|x| x.as_tensor().clone()).collect();
    let output = f(&tracked).unwrap();
    let weights = values(77, output.dims());
    let gradients = (&output * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    for (at, variable) in variables.iter().enumerate() {
        for direction in 0..3 {
            let direction = values(100 + direction, variable.dims());
            let moved = |by: f64| {
                let mut inputs = inputs.to_vec();
                inputs[at] = (&inputs[at] + (&direction * by).unwrap()).unwrap();
                weighed(f, &inputs, &weights)
            };
            let measured = (moved(step) - moved(-step)) / (2.0 * step);
            let gradient =
                gradients.get(variable).unwrap_or_else(|| panic!("{name}: input {at} has no gradient"));
            let analytic: f64 =
                flat(gradient).iter().zip(flat(&direction)).map(|(a, b)| f64::from(*a) * f64::from(b)).sum();
            let size = flat(gradient).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(
                (measured - analytic).abs() < 2e-3 * size.max(1.0),
                "{name}, input {at}: measured {measured}, the gradient says {analytic} (size {size})"
            );
        }
    }
}

/// Asserts that a fused operation equals `f` followed by a ReLU, bit for bit: output and gradients.
fn assert_rectified(
    fused: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
) {
    let one_by_one = |inputs: &[Tensor]| f(inputs)?.apply_op1(Relu { max: f32::INFINITY });
    let [found, expected] = [fused, &one_by_one].map(|f| {
        let variables: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let output = f(&variables.iter().map(|x| x.as_tensor().clone()).collect::<Vec<_>>()).unwrap();
        let weighed = (&output * &values(78, output.dims())).unwrap();
        let gradients = weighed.sum_all().unwrap().backward().unwrap();
        let gradients = variables.iter().map(|x| flat(gradients.get(x).unwrap()));
        std::iter::once(flat(&output)).chain(gradients).collect::<Vec<_>>()
    });
    assert!(found[0].contains(&0.0) && found[0].iter().any(|value| *value > 0.0));
    assert_eq!(found, expected);
}

/// Convolutions with various windows, strides, paddings, dilations and groups, in sizes that do not divide evenly.
fn convolutions() -> Vec<(Conv, [usize; 4], [usize; 4])> {
    let conv = |stride, dilation, groups, before, x: [usize; 4], w: [usize; 4], after: [usize; 2]| {
        let side = |axis: usize| {
            (x[2 + axis] + before + after[axis] - dilation * (w[2 + axis] - 1) - 1) / stride + 1
        };
        let output = [side(0), side(1)];
        (Conv { stride, dilation, groups, before: [before; 2], output, relu: false }, x, w)
    };
    vec![
        conv(1, 1, 1, 1, [2, 3, 9, 11], [5, 3, 3, 3], [1, 1]),
        conv(2, 1, 1, 3, [1, 3, 17, 14], [4, 3, 7, 7], [3, 3]),
        conv(2, 1, 1, 0, [2, 4, 8, 9], [6, 4, 1, 1], [0, 0]),
        conv(1, 1, 1, 0, [3, 40, 5, 7], [33, 40, 1, 1], [0, 0]),
        conv(2, 1, 1, 0, [2, 5, 8, 8], [3, 5, 3, 3], [1, 1]),
        conv(1, 2, 1, 2, [1, 2, 12, 10], [3, 2, 3, 3], [2, 2]),
        conv(1, 1, 3, 1, [2, 6, 7, 7], [9, 2, 3, 3], [1, 1]),
        conv(2, 1, 8, 2, [2, 8, 11, 9], [8, 1, 5, 5], [2, 2]),
        conv(1, 1, 8, 1, [3, 8, 6, 7], [8, 1, 3, 3], [1, 1]),
        conv(1, 1, 1, 1, [1, 70, 60, 50], [65, 70, 3, 3], [1, 1]),
    ]
}

#[test]
fn convolution_matches_candle() {
    for (conv, x, w) in convolutions() {
        let (x, w) = (values(1, &x), values(2, &w));
        let found = x.apply_op2(&w, conv).unwrap();
        let [top, left] = conv.before;
        let needed = |axis: usize| {
            (conv.output[axis] - 1) * conv.stride + conv.dilation * (w.dims()[2 + axis] - 1) + 1
        };
        let after = |axis: usize, before: usize| (needed(axis)).saturating_sub(x.dims()[2 + axis] + before);
        let padded =
            x.pad_with_zeros(2, top, after(0, top)).unwrap().pad_with_zeros(3, left, after(1, left)).unwrap();
        let expected = padded.conv2d(&w, 0, conv.stride, conv.dilation, conv.groups).unwrap();
        let expected = expected.narrow(2, 0, conv.output[0]).unwrap().narrow(3, 0, conv.output[1]).unwrap();
        let worst = difference(&found, &expected);
        println!("{conv:?}: {worst:e}");
        assert!(worst < 2e-6, "{conv:?}: {worst}");
    }
}

#[test]
fn convolution_gradients_match_finite_differences() {
    for (conv, x, w) in convolutions() {
        let inputs = [values(1, &x), values(2, &w), values(3, &w[..1])];
        let f = |inputs: &[Tensor]| inputs[0].apply_op3(&inputs[1], &inputs[2], conv);
        assert_gradients(&format!("{conv:?}"), &f, &inputs, 0.5);
    }
}

#[test]
fn fused_relu_matches_separate_relu() {
    let (conv, x, w) = convolutions().swap_remove(0);
    let [x, w, b] = [values(1, &x), values(2, &w), values(3, &[5])].map(|t| Var::from_tensor(&t).unwrap());
    let within = x.apply_op3(&w, &b, Conv { relu: true, ..conv }).unwrap();
    let after = x.apply_op3(&w, &b, conv).unwrap().apply_op1(Relu { max: f32::INFINITY }).unwrap();
    assert_eq!(flat(&within), flat(&after));
    let gradients = [within, after].map(|y| y.sqr().unwrap().sum_all().unwrap().backward().unwrap());
    for variable in [&x, &w, &b] {
        let [a, b] = [0, 1].map(|at| gradients[at].get(variable).unwrap());
        assert_eq!(flat(a), flat(b));
    }
}

#[test]
fn gradients_are_computed_only_where_required() {
    let (conv, x, w) = convolutions().swap_remove(0);
    let (x, w) = (values(1, &x), Var::from_tensor(&values(2, &w)).unwrap());
    let gradients = x.apply_op2(&w, conv).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&w).is_some() && gradients.get(&x).is_none());
}

#[test]
fn relu_gradient_at_zero_is_zero_and_nan_propagates() {
    let x = Var::new(&[-1f32, 0.0, 2.0, 7.0], &Device::Cpu).unwrap();
    for (max, expected) in [(f32::INFINITY, [0., 0., 1., 1.]), (6.0, [0., 0., 1., 0.])] {
        let y = x.apply_op1(Relu { max }).unwrap();
        assert_eq!(flat(&y), [0.0, 0.0, 2.0, max.min(7.0)]);
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(gradients.get(&x).unwrap()), expected);
    }
    let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap().apply_op1(Relu { max: 6.0 }).unwrap();
    assert!(flat(&nan)[0].is_nan());
}

/// All pixels of a uniform image are equal maxima.
#[test]
fn global_max_pooling_passes_its_gradient_to_one_maximum() -> headstart::Result<()> {
    let model = sequential![Input::new((2, 4, 4)), Conv2D::new(2, 1), GlobalMaxPooling2D]?;
    let x = Tensor::ones((3, 2, 4, 4), DType::F32, &device())?;
    let outputs = flat(&model.forward(&x, Mode::Inference)?);
    let maps = model.outputs_of(&["conv2d"], &x)?.swap_remove(0);
    assert_eq!(outputs, flat(&maps.flatten_from(2)?.max(D::Minus1)?));
    let (_, gradients) = value_and_gradients(|| Ok(model.forward(&x, Mode::Training)?.sum_all()?))?;
    let bias = &model.params()[1];
    assert_eq!(flat(gradients.get(bias.var()).unwrap()), [3.0; 2]);
    Ok(())
}

#[test]
fn batch_norm_gradients_match_finite_differences() {
    let op = || BatchNorm { epsilon: 1e-3, relu: false, statistics: Default::default() };
    let inputs = [values(1, &[3, 4, 5, 3]), values(2, &[4]), values(3, &[4])];
    let (ones, zeros) = (inputs[1].ones_like().unwrap(), inputs[1].zeros_like().unwrap());
    let known = op();
    let y = inputs[0].apply_op3(&ones, &zeros, known.clone()).unwrap();
    let channels = y.transpose(0, 1).unwrap().flatten_from(1).unwrap();
    assert!(flat(&channels.mean(1).unwrap()).iter().all(|mean| mean.abs() < 1e-6));
    let found = known.statistics.get().unwrap();
    for (variance, before) in flat(&channels.var(1).unwrap()).iter().zip(&found.variance) {
        // candle divides by N - 1.
        let expected = before / (before + 1e-3) * 45.0 / 44.0;
        assert!((variance - expected).abs() < 1e-4, "{variance} against {expected}");
    }
    let f = |inputs: &[Tensor]| inputs[0].apply_op3(&inputs[1], &inputs[2], op());
    assert_gradients("batch norm", &f, &inputs, 1e-2);
    // A fused ReLU equals a separate one.
    let fused =
        |inputs: &[Tensor]| inputs[0].apply_op3(&inputs[1], &inputs[2], BatchNorm { relu: true, ..op() });
    assert_rectified(&fused, &f, &inputs);
}

#[test]
fn sums_pass_their_gradient_to_both_inputs() {
    let inputs = [values(1, &[2, 3, 4]), values(2, &[2, 3, 4])];
    let f = |inputs: &[Tensor]| inputs[0].apply_op2(&inputs[1], Addition { relu: false });
    assert_eq!(flat(&f(&inputs).unwrap()), flat(&(&inputs[0] + &inputs[1]).unwrap()));
    assert_gradients("a sum", &f, &inputs, 0.5);
    let fused = |inputs: &[Tensor]| inputs[0].apply_op2(&inputs[1], Addition { relu: true });
    assert_rectified(&fused, &f, &inputs);
}

#[test]
fn scale_and_shift_apply_per_channel() {
    let (x, scale, shift) = (values(1, &[2, 3, 2, 2]), values(2, &[3]), values(3, &[3]));
    let f = |inputs: &[Tensor]| inputs[0].apply_op3(&scale, &shift, ScaleShift);
    let expected = x.broadcast_mul(&scale.reshape((1, 3, 1, 1)).unwrap()).unwrap();
    let expected = expected.broadcast_add(&shift.reshape((1, 3, 1, 1)).unwrap()).unwrap();
    assert!(difference(&f(std::slice::from_ref(&x)).unwrap(), &expected) < 1e-6);
    assert_gradients("scale and shift", &f, &[x], 0.5);
}

/// Gradients of a model by candle's graph, and by a tape.
fn both_ways(model: &Model, x: &Tensor) -> headstart::Result<[Vec<Tensor>; 2]> {
    let loss = || -> headstart::Result<Tensor> { Ok(model.forward(x, Mode::Training)?.sqr()?.sum_all()?) };
    let of = |gradients: &GradStore| {
        let named = |param: &Param| gradients.get(param.var()).cloned();
        model.trainable_params().iter().map(named).collect::<Option<Vec<_>>>().expect("each has one")
    };
    let plain = of(&loss()?.backward()?);
    Ok([plain, of(&value_and_gradients(loss)?.1)])
}

#[test]
fn tape_gradients_match_candle() -> headstart::Result<()> {
    let x = values(1, &[2, 3, 64, 64]).to_device(&device())?;
    let check = |name: &str, model: &Model| -> headstart::Result<()> {
        let [plain, taped] = both_ways(model, &x)?;
        let largest = |gradient: &Tensor| flat(gradient).iter().fold(0f32, |a, v| a.max(v.abs()));
        let max = plain.iter().map(largest).fold(0f32, f32::max);
        for (param, (plain, taped)) in model.trainable_params().iter().zip(plain.iter().zip(&taped)) {
            // The gradient of a shift before another normalisation is zero, except for the rounding of a sum of
            // terms as large as `max`: up to 3e-7 of it, a few units in the last place of f32.
            let off = largest(&(taped - plain)?) / (largest(plain) + 3e-2 * max);
            assert!(off < 1e-5, "{name}, {}: off by {off}", param.name());
        }
        Ok(())
    };
    let convolutions = sequential![
        Input::new((3, 64, 64)),
        Conv2D::new(8, 3).activation(Relu),
        MaxPooling2D::new(2),
        Conv2D::new(8, 3).activation(Activation::Silu),
        Flatten,
        Dense::new(2)
    ]?;
    check("convolutions", &convolutions)?;
    for (name, network) in [
        ("ResNet50", ResNet50::new(Weights::Random(0))),
        ("EfficientNetB0", EfficientNetB0::new(Weights::Random(0))),
    ] {
        let base = network.include_top(false).input_shape((3, 64, 64)).build()?;
        let model =
            sequential![&base, GlobalAveragePooling2D, Dense::new(8).activation(Relu), Dense::new(2)]?;
        check(name, &model)?;
        // With frozen statistics and frozen first blocks.
        base.freeze();
        base.unfreeze_from(-40)?;
        check(&format!("{name}, its last layers"), &model)?;
    }
    Ok(())
}

#[test]
fn tapes_include_candle_operations() {
    // One of candle's values enters two operations; one operation's output enters candle's operation and another one.
    let (a, b) =
        (Var::from_tensor(&values(1, &[2, 5])).unwrap(), Var::from_tensor(&values(2, &[2, 5])).unwrap());
    let loss = |a: &Tensor, b: &Tensor| {
        let product = (a * b)?;
        let relu = |x: &Tensor| Activation::Relu.apply(x).map_err(headstart::candle_core::Error::wrap);
        let (up, down) = (relu(&product)?, relu(&product.neg()?)?);
        let sum = (relu(&(&up + &down)?)? * &up)?;
        (sum + product)?.sum_all()
    };
    let plain = loss(&a, &b).unwrap().backward().unwrap();
    let (_, taped) = value_and_gradients(|| Ok(loss(&a, &b)?)).unwrap();
    for variable in [&a, &b] {
        assert!(difference(taped.get(variable).unwrap(), plain.get(variable).unwrap()) < 1e-6);
    }
}

#[test]
fn tapes_can_be_nested() {
    let x = Var::from_tensor(&values(1, &[4])).unwrap();
    let square = || Ok(Activation::Relu.apply(&x)?.sqr()?.sum_all()?);
    let of_x = |gradients: &GradStore| flat(gradients.get(&x).unwrap());
    let mut within = Vec::new();
    let outer = value_and_gradients(|| {
        let loss = square()?;
        within = of_x(&value_and_gradients(square)?.1);
        Ok(loss)
    });
    assert_eq!(of_x(&outer.unwrap().1), within);
    assert!(value_and_gradients(|| Err(headstart::Error::Interrupted)).is_err());
    // Without a tape: candle's graph.
    assert_eq!(of_x(&square().unwrap().backward().unwrap()), within);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> headstart::Result<()> {
    for (name, network, side) in
        [("ResNet50", ResNet50::new(Weights::Random(0)), 96), ("VGG16", Vgg16::new(Weights::Random(0)), 64)]
    {
        let model = network.include_top(false).input_shape((3, side, side)).build()?;
        let x = values(1, &[3, 3, side, side]).to_device(&device())?;
        let of = |threads: usize| -> headstart::Result<Vec<Vec<f32>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            pool.install(|| {
                let statistics = model.params().into_iter().filter(Param::is_statistic);
                let statistics: Vec<_> =
                    statistics.map(|param| (param.value(Mode::Inference).copy(), param)).collect();
                let mut found = vec![flat(&model.forward(&x, Mode::Inference)?)];
                let (_, gradients) =
                    value_and_gradients(|| Ok(model.forward(&x, Mode::Training)?.sqr()?.sum_all()?))?;
                // Restores the statistics for the next run.
                statistics.into_iter().try_for_each(|(value, param)| param.set(&value?))?;
                let trained = model.trainable_params();
                found.extend(trained.iter().map(|param| flat(gradients.get(param.var()).expect("has one"))));
                Ok(found)
            })
        };
        let one = of(1)?;
        for threads in [2, 5] {
            assert!(of(threads)? == one, "{name}: {threads} threads give other bits than one");
        }
    }
    Ok(())
}
