//! Convolutions and fully connected layers.

use headstart_gpu::{Array, ConvShape, DenseShape, Element, Gpu, MapShape, Output, Precision};

use super::{
    assert_close, assert_within, differences, dot, doubles, download_maps, fake, gpu, is_own_process,
    numbers, upload_maps,
};

/// Convolution by its definition.
fn convolve(x: &[f64], w: &[f64], s: &ConvShape) -> Vec<f64> {
    let ([rows, columns], [height, width], [kh, kw]) = (s.output(), s.input, s.kernel);
    let (inputs, filters) = (s.channels / s.groups, s.filters / s.groups);
    let mut y = Vec::with_capacity(s.outputs());
    for (n, k) in (0..s.batch).flat_map(|n| (0..s.filters).map(move |k| (n, k))) {
        for (p, q) in (0..rows).flat_map(|p| (0..columns).map(move |q| (p, q))) {
            let mut sum = 0.0;
            for (i, a) in (0..inputs).flat_map(|i| (0..kh).map(move |a| (i, a))) {
                for b in 0..kw {
                    let row = (p * s.stride + a * s.dilation).wrapping_sub(s.padding[0].0);
                    let column = (q * s.stride + b * s.dilation).wrapping_sub(s.padding[1].0);
                    if row < height && column < width {
                        let channel = k / filters * inputs + i;
                        let value = x[((n * s.channels + channel) * height + row) * width + column];
                        sum += value * w[((k * inputs + i) * kh + a) * kw + b];
                    }
                }
            }
            y.push(sum);
        }
    }
    y
}

pub(super) const PLAIN: ConvShape = ConvShape {
    batch: 2,
    channels: 4,
    input: [7, 6],
    filters: 6,
    kernel: [3, 3],
    padding: [(1, 1); 2],
    stride: 1,
    dilation: 1,
    groups: 1,
};

fn shapes() -> Vec<ConvShape> {
    vec![
        PLAIN,
        ConvShape { kernel: [1, 1], padding: [(0, 0); 2], ..PLAIN },
        ConvShape { stride: 2, ..PLAIN },
        // TensorFlow's padding for a stride of 2: more below and right.
        ConvShape { stride: 2, padding: [(0, 1), (0, 1)], ..PLAIN },
        ConvShape { padding: [(2, 0), (0, 1)], ..PLAIN },
        ConvShape { dilation: 2, padding: [(2, 2), (1, 1)], ..PLAIN },
        ConvShape { groups: 2, ..PLAIN },
        ConvShape { groups: 4, filters: 8, ..PLAIN },
        ConvShape { kernel: [1, 5], padding: [(0, 0), (2, 2)], ..PLAIN },
    ]
}

/// The sizes of a convolution's input and output.
fn maps_of(s: &ConvShape) -> [MapShape; 2] {
    let maps =
        |channels, [rows, columns]: [usize; 2]| MapShape { batch: s.batch, channels, inner: rows * columns };
    [maps(s.channels, s.input), maps(s.filters, s.output())]
}

/// The type of the values of convolutions in a precision.
fn element(precision: Precision) -> Element {
    if precision == Precision::BFloat16 { Element::BFloat16 } else { Element::Float32 }
}

/// Compares all directions of a convolution with the definition and its differences, in the GPU's precision. `ran` is
/// called after each direction: 0 forward, 1 the input's gradient, 2 the kernel's gradient.
pub(super) fn check(gpu: &Gpu, s: &ConvShape, tolerance: f64, mut ran: impl FnMut(usize)) {
    let (element, [input, output]) = (element(gpu.precision()), maps_of(s));
    let assert_close = |found: &Array, maps: MapShape, expected: &[f64]| {
        assert_within(&download_maps(gpu, found, maps), expected, tolerance)
    };
    let (x, w) = (numbers(s.inputs(), 1), numbers(s.weights(), 2));
    let dy = numbers(s.outputs(), 3);
    let (xs, ws, dys) = (doubles(&x), doubles(&w), doubles(&dy));
    let (gx, gw) = (upload_maps(gpu, &x, input, element), gpu.upload(&w).unwrap());
    let gdy = upload_maps(gpu, &dy, output, element);
    let y = gpu.array_of(element, s.outputs()).unwrap();
    gpu.convolution(&gx, &gw, &y, s).unwrap();
    ran(0);
    assert_close(&y, output, &convolve(&xs, &ws, s));

    let dx = gpu.array_of(element, x.len()).unwrap();
    gpu.convolution_backward_data(&gdy, &gw, &dx, s, Output::Replace).unwrap();
    ran(1);
    let mut expected = differences(&xs, |x| dot(&convolve(x, &ws, s), &dys));
    assert_close(&dx, input, &expected);
    // A second contribution.
    gpu.convolution_backward_data(&gdy, &gw, &dx, s, Output::Add).unwrap();
    expected.iter_mut().for_each(|value| *value *= 2.0);
    assert_close(&dx, input, &expected);

    let dw = gpu.array(w.len()).unwrap();
    gpu.convolution_backward_filter(&gx, &gdy, &dw, s, Output::Replace).unwrap();
    ran(2);
    let mut expected = differences(&ws, |w| dot(&convolve(&xs, w, s), &dys));
    assert_within(&gpu.download(&dw).unwrap(), &expected, tolerance);
    gpu.convolution_backward_filter(&gx, &gdy, &dw, s, Output::Add).unwrap();
    expected.iter_mut().for_each(|value| *value *= 2.0);
    assert_within(&gpu.download(&dw).unwrap(), &expected, tolerance);
}

/// The largest error of a convolution's results, relative to the largest of them.
pub(super) fn tolerance(precision: Precision) -> f64 {
    match precision {
        // cuDNN may choose Winograd or FFT algorithms, whose sums of float32 values have larger errors (1.5e-5 measured).
        Precision::Float32 if fake::is_real() => 5e-5,
        Precision::Float32 => 1e-6,
        // Factors have 11 bits, so each product has an error of at most 2⁻¹⁰ of its size.
        Precision::TensorFloat32 => 2e-3,
        // Factors and results have 8 bits.
        Precision::BFloat16 => 1e-2,
    }
}

const PRECISIONS: [Precision; 3] = [Precision::Float32, Precision::TensorFloat32, Precision::BFloat16];

#[test]
fn convolutions_match_the_definition_and_its_differences() {
    for precision in PRECISIONS {
        let gpu = fake::open(precision);
        assert_eq!(gpu.precision(), precision);
        for shape in shapes() {
            check(&gpu, &shape, tolerance(precision), |_| ());
        }
    }
}

#[test]
fn maps_that_are_larger_than_a_tile_are_converted() {
    // More than 32 channels, filters and pixels, none of them a multiple of 32.
    let (kernel, padding) = ([1, 1], [(0, 0); 2]);
    let large = ConvShape { batch: 2, channels: 40, filters: 33, input: [7, 6], kernel, padding, ..PLAIN };
    check(&fake::open(Precision::BFloat16), &large, tolerance(Precision::BFloat16), |_| ());
}

/// The nearest bfloat16, ties to even.
pub(super) fn bfloat16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[test]
fn values_become_the_nearest_bfloat16() {
    let gpu = fake::open(Precision::BFloat16);
    let (kernel, padding) = ([1, 1], [(0, 0); 2]);
    let shape = ConvShape { channels: 36, filters: 36, kernel, padding, ..PLAIN };
    let mut x = numbers(shape.inputs(), 1);
    // Ties, to both sides.
    (x[0], x[1], x[2]) = (1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), -1.0 - 2f32.powi(-8));
    let identity: Vec<f32> = (0..36 * 36).map(|i| f32::from(i / 36 == i % 36)).collect();
    let [input, output] = maps_of(&shape);
    let (x_gpu, w) = (upload_maps(&gpu, &x, input, Element::BFloat16), gpu.upload(&identity).unwrap());
    let y = gpu.array_of(Element::BFloat16, shape.outputs()).unwrap();
    gpu.convolution(&x_gpu, &w, &y, &shape).unwrap();
    let expected: Vec<f32> = x.iter().copied().map(bfloat16).collect();
    assert_eq!(expected[..3], [1.0, 1.0 + 2f32.powi(-6), -1.0]);
    assert_eq!(download_maps(&gpu, &y, output), expected);
    let one = ConvShape { batch: 1, channels: 1, filters: 1, input: [1, 3], ..shape };
    let [input, output] = maps_of(&one);
    let x = upload_maps(&gpu, &[f32::NAN, f32::INFINITY, 3e38], input, Element::BFloat16);
    let (w, y) = (gpu.upload(&[1.0]).unwrap(), gpu.array_of(Element::BFloat16, 3).unwrap());
    gpu.convolution(&x, &w, &y, &one).unwrap();
    let found = download_maps(&gpu, &y, output);
    assert!(found[0].is_nan() && found[1] == f32::INFINITY && found[2].is_finite(), "{found:?}");
}

#[test]
fn the_precision_of_an_open_gpu_can_change() {
    const TEST: &str = "convolution::the_precision_of_an_open_gpu_can_change";
    // A real GPU may compute the same in two precisions. The counts of the fake are those of the process.
    if !is_own_process(TEST, &[("FAKE_CUDNN_CHOICES", "default")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    let (x, w) = (numbers(PLAIN.inputs(), 1), numbers(PLAIN.weights(), 2));
    let exact = convolve(&doubles(&x), &doubles(&w), &PLAIN);
    let (w, [input, output]) = (gpu.upload(&w).unwrap(), maps_of(&PLAIN));
    let mut distance = |precision| {
        gpu.clone().set_precision(precision).unwrap();
        let x = upload_maps(&gpu, &x, input, element(precision));
        let y = gpu.array_of(element(precision), PLAIN.outputs()).unwrap();
        gpu.convolution(&x, &w, &y, &PLAIN).unwrap();
        let pairs = download_maps(&gpu, &y, output).into_iter().zip(&exact).collect::<Vec<_>>();
        pairs.iter().fold(0f64, |max, (found, exact)| max.max((f64::from(*found) - **exact).abs()))
    };
    let [float32, tf32, bfloat16] = PRECISIONS.map(&mut distance);
    assert!(20.0 * float32 < tf32 && 3.0 * tf32 < bfloat16, "{float32} {tf32} {bfloat16}");
    assert_eq!(distance(Precision::Float32), float32);
    assert_eq!(fake::call("libcudnn.so.9", "fake_cudnn_bfloat16"), 1);
    assert_eq!(fake::call("libcudnn.so.9", "fake_cudnn_float"), 3);
}

#[test]
fn each_size_and_precision_is_planned_once() {
    const TEST: &str = "convolution::each_size_and_precision_is_planned_once";
    // The number of plans is that of the process.
    if !is_own_process(TEST, &[("FAKE_CUDA_MEMORY_MB", "2048")]) {
        return;
    }
    let plans = || fake::call("libcudnn.so.9", "fake_cudnn_plans");
    let gpu = fake::open(Precision::Float32);
    for (number, precision) in PRECISIONS.into_iter().enumerate() {
        gpu.set_precision(precision).unwrap();
        let [x, y] =
            [PLAIN.inputs(), PLAIN.outputs()].map(|len| gpu.array_of(element(precision), len).unwrap());
        let w = gpu.array(PLAIN.weights()).unwrap();
        for _ in 0..3 {
            gpu.convolution(&x, &w, &y, &PLAIN).unwrap();
            gpu.convolution_backward_data(&y, &w, &x, &PLAIN, Output::Replace).unwrap();
        }
        assert_eq!(plans(), 2 * number as i32 + 1);
        gpu.convolution(&x, &w, &y, &ConvShape { batch: 1, ..PLAIN }).unwrap();
        assert_eq!(plans(), 2 * number as i32 + 2);
    }
    drop(gpu);
    assert_eq!(plans(), 0);
}

#[test]
fn wrong_sizes_are_refused() {
    let gpu = gpu();
    let [x, w, y] = [PLAIN.inputs(), PLAIN.weights(), PLAIN.outputs()].map(|len| gpu.array(len).unwrap());
    let error = gpu.convolution(&w, &w, &y, &PLAIN).unwrap_err().to_string();
    assert!(error.contains("`input`") && error.contains("336"), "{error}");
    let half = gpu.array_of(Element::BFloat16, PLAIN.inputs()).unwrap();
    for (x, w, y) in [(&half, &w, &y), (&x, &half, &y), (&half, &half, &half)] {
        let error = gpu.convolution(x, w, y, &PLAIN).unwrap_err().to_string();
        assert!(error.contains("values, found Array of"), "{error}");
    }
    for shape in [
        ConvShape { groups: 3, ..PLAIN },
        ConvShape { stride: 0, ..PLAIN },
        ConvShape { kernel: [9, 9], padding: [(0, 0); 2], ..PLAIN },
        ConvShape { batch: 0, ..PLAIN },
    ] {
        let error = gpu.convolution(&x, &w, &y, &shape).unwrap_err().to_string();
        assert!(error.starts_with("convolution: expected sizes"), "{error}");
    }
}

#[test]
fn dense_layers_match_the_definition() {
    let gpu = gpu();
    let shape = DenseShape { rows: 5, inputs: 7, outputs: 3 };
    let (x, w, dy) = (numbers(35, 1), numbers(21, 2), numbers(15, 3));
    let (xs, ws, dys) = (doubles(&x), doubles(&w), doubles(&dy));
    let product = |x: &[f64], w: &[f64]| -> Vec<f64> {
        x.chunks(7).flat_map(|row| w.chunks(7).map(move |of| dot(row, of))).collect()
    };
    let [x, w, dy] = [&x, &w, &dy].map(|values| gpu.upload(values).unwrap());
    let [y, dx, dw] = [15, 35, 21].map(|len| gpu.array(len).unwrap());
    gpu.dense(&x, &w, &y, shape).unwrap();
    assert_close(&y, &product(&xs, &ws), 1e-6);
    gpu.dense_backward_data(&dy, &w, &dx, shape, Output::Replace).unwrap();
    assert_close(&dx, &differences(&xs, |x| dot(&product(x, &ws), &dys)), 1e-6);
    gpu.dense_backward_weights(&x, &dy, &dw, shape, Output::Replace).unwrap();
    let mut expected = differences(&ws, |w| dot(&product(&xs, w), &dys));
    assert_close(&dw, &expected, 1e-6);
    gpu.dense_backward_weights(&x, &dy, &dw, shape, Output::Add).unwrap();
    expected.iter_mut().for_each(|value| *value *= 2.0);
    assert_close(&dw, &expected, 1e-6);
    let short = gpu.array(14).unwrap();
    assert!(gpu.dense(&x, &w, &short, shape).unwrap_err().to_string().contains("15"));
}
