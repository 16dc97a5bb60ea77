//! Convolutions and fully connected layers.

use headstart_gpu::{Array, ConvShape, DenseShape, Gpu, Output, Precision};

use super::{assert_close, assert_within, differences, dot, doubles, fake, gpu, numbers};

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

/// Compares all directions of a convolution with the definition and its differences. `ran` is called after each
/// direction: 0 forward, 1 the input's gradient, 2 the kernel's gradient.
pub(super) fn check(gpu: &Gpu, s: &ConvShape, tolerance: f64, mut ran: impl FnMut(usize)) {
    let assert_close =
        |found: &Array, expected: &[f64]| assert_within(&gpu.download(found).unwrap(), expected, tolerance);
    let (x, w) = (numbers(s.inputs(), 1), numbers(s.weights(), 2));
    let dy = numbers(s.outputs(), 3);
    let (xs, ws, dys) = (doubles(&x), doubles(&w), doubles(&dy));
    let [gx, gw, gdy] = [&x, &w, &dy].map(|values| gpu.upload(values).unwrap());
    let y = gpu.array(s.outputs()).unwrap();
    gpu.convolution(&gx, &gw, &y, s).unwrap();
    ran(0);
    assert_close(&y, &convolve(&xs, &ws, s));

    let dx = gpu.array(x.len()).unwrap();
    gpu.convolution_backward_data(&gdy, &gw, &dx, s, Output::Replace).unwrap();
    ran(1);
    let mut expected = differences(&xs, |x| dot(&convolve(x, &ws, s), &dys));
    assert_close(&dx, &expected);
    // A second contribution.
    gpu.convolution_backward_data(&gdy, &gw, &dx, s, Output::Add).unwrap();
    expected.iter_mut().for_each(|value| *value *= 2.0);
    assert_close(&dx, &expected);

    let dw = gpu.array(w.len()).unwrap();
    gpu.convolution_backward_filter(&gx, &gdy, &dw, s, Output::Replace).unwrap();
    ran(2);
    let mut expected = differences(&ws, |w| dot(&convolve(&xs, w, s), &dys));
    assert_close(&dw, &expected);
    gpu.convolution_backward_filter(&gx, &gdy, &dw, s, Output::Add).unwrap();
    expected.iter_mut().for_each(|value| *value *= 2.0);
    assert_close(&dw, &expected);
}

#[test]
fn convolutions_match_the_definition_and_its_differences() {
    // cuDNN may choose Winograd or FFT algorithms, whose sums of float32 values have larger errors (1.5e-5 measured).
    let tolerance = if fake::is_real() { 5e-5 } else { 1e-6 };
    for shape in shapes() {
        check(gpu(), &shape, tolerance, |_| ());
    }
}

#[test]
fn convolutions_in_tensor_float_32_are_near_the_definition() {
    // Factors have 11 bits, so each product has an error of at most 2⁻¹⁰ of its size.
    let tolerance = if fake::is_real() { 2e-3 } else { 1e-6 };
    let gpu = fake::open(Precision::TensorFloat32);
    for shape in shapes() {
        check(&gpu, &shape, tolerance, |_| ());
    }
}

#[test]
fn each_size_is_planned_once() {
    for precision in [Precision::Float32, Precision::TensorFloat32] {
        let gpu = fake::open(precision);
        let [x, w, y] = [PLAIN.inputs(), PLAIN.weights(), PLAIN.outputs()].map(|len| gpu.array(len).unwrap());
        for _ in 0..3 {
            gpu.convolution(&x, &w, &y, &PLAIN).unwrap();
            gpu.convolution_backward_data(&y, &w, &x, &PLAIN, Output::Replace).unwrap();
        }
        assert_eq!(gpu.cached_plans(), 1);
        gpu.convolution(&x, &w, &y, &ConvShape { batch: 1, ..PLAIN }).unwrap();
        assert_eq!((gpu.cached_plans(), gpu.precision()), (2, precision));
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let gpu = gpu();
    let [x, w, y] = [PLAIN.inputs(), PLAIN.weights(), PLAIN.outputs()].map(|len| gpu.array(len).unwrap());
    let error = gpu.convolution(&w, &w, &y, &PLAIN).unwrap_err().to_string();
    assert!(error.contains("`input`") && error.contains("336"), "{error}");
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
