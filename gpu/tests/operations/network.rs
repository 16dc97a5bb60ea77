//! Networks: outputs, gradients, fusion, and the number of operations.

use headstart_gpu::{Activation, Gpu, Network, Node, Operation, Parameter, Pass, Window};

use super::{assert_within, dot, doubles, fake, gpu, numbers};

/// A small graph that is built layer by layer.
#[derive(Default)]
pub(super) struct Builder {
    nodes: Vec<Node>,
    params: Vec<Parameter>,
}

impl Builder {
    fn new(shape: &[usize]) -> Builder {
        let mut builder = Builder::default();
        builder.add(Operation::Input, &[], shape);
        builder
    }

    fn add(&mut self, operation: Operation, inputs: &[usize], shape: &[usize]) -> usize {
        self.nodes.push(Node { operation, inputs: inputs.to_vec(), shape: shape.to_vec() });
        self.nodes.len() - 1
    }

    pub(super) fn params(&self) -> std::ops::Range<usize> {
        0..self.params.len()
    }

    /// The number of values of a batch.
    pub(super) fn inputs(&self) -> usize {
        BATCH * self.nodes[0].shape.iter().product::<usize>()
    }

    fn param(&mut self, len: usize, is_trainable: bool) -> usize {
        self.params.push(Parameter { len, is_trainable });
        self.params.len() - 1
    }

    fn conv(&mut self, input: usize, filters: usize, kernel: usize, stride: usize, groups: usize) -> usize {
        let &[channels, height, width] = self.nodes[input].shape.as_slice() else { panic!() };
        let weights = self.param(filters * channels / groups * kernel * kernel, true);
        let bias = (kernel == 3).then(|| self.param(filters, true));
        let (kernel, around) = ([kernel; 2], (kernel / 2, kernel / 2));
        let operation = Operation::Convolution {
            weights,
            bias,
            kernel,
            padding: [around; 2],
            stride,
            dilation: 1,
            groups,
        };
        let shape = [filters, height.div_ceil(stride), width.div_ceil(stride)];
        self.add(operation, &[input], &shape)
    }

    fn norm(&mut self, input: usize, is_frozen: bool) -> usize {
        let shape = self.nodes[input].shape.clone();
        let params = [true, true, false, false].map(|trains| self.param(shape[0], trains));
        self.add(
            Operation::Normalization { params, epsilon: 1e-3, momentum: 0.9, is_frozen },
            &[input],
            &shape,
        )
    }

    fn act(&mut self, input: usize, function: Activation) -> usize {
        let shape = self.nodes[input].shape.clone();
        self.add(Operation::Activation(function), &[input], &shape)
    }

    fn sum(&mut self, inputs: &[usize]) -> usize {
        let shape = self.nodes[inputs[0]].shape.clone();
        self.add(Operation::Add, inputs, &shape)
    }

    fn dense(&mut self, input: usize, outputs: usize) -> usize {
        let inputs = self.nodes[input].shape[0];
        let (weights, bias) = (self.param(inputs * outputs, true), Some(self.param(outputs, true)));
        self.add(Operation::Dense { weights, bias }, &[input], &[outputs])
    }

    fn mean(&mut self, input: usize) -> usize {
        let channels = self.nodes[input].shape[0];
        self.add(Operation::GlobalMean, &[input], &[channels])
    }

    /// The network, with parameters that depend on their index only.
    fn build(&self) -> Network {
        self.build_on(gpu())
    }

    /// Sets the weights of convolutions and dense layers to values of both signs, so that no activation saturates.
    pub(super) fn center_weights(&self, network: &Network) {
        for node in &self.nodes {
            if let Operation::Convolution { weights, .. } | Operation::Dense { weights, .. } = node.operation
            {
                let values: Vec<f32> = numbers(self.params[weights].len, 50 + weights as u64);
                network.set_param(weights, &values.iter().map(|x| 0.5 * x).collect::<Vec<f32>>()).unwrap();
            }
        }
    }

    /// The same network on a GPU.
    pub(super) fn build_on(&self, gpu: &Gpu) -> Network {
        let network = Network::new(gpu, self.nodes.clone(), &self.params).unwrap();
        for (index, param) in self.params.iter().enumerate() {
            // Variances are positive.
            let values =
                numbers(param.len, index as u64 + 1).iter().map(|x| 0.5 + 0.4 * x).collect::<Vec<_>>();
            network.set_param(index, &values).unwrap();
        }
        network
    }
}

pub(super) const BATCH: usize = 3;

fn run(network: &Network, x: &[f32]) -> Pass {
    network.forward(&[gpu().upload(x).unwrap()], BATCH, 1).unwrap()
}

/// Compares the gradients of all trainable parameters with central differences of the network itself. The differences
/// are of float32 values, so the step is large and the tolerance too.
fn check_gradients(builder: &Builder) {
    let gpu = gpu();
    let network = builder.build();
    let size: usize = builder.nodes[0].shape.iter().product();
    let x = numbers(BATCH * size, 77);
    let pass = run(&network, &x);
    let dy = numbers(pass.output().len(), 78);
    network.backward(pass, gpu.upload(&dy).unwrap()).unwrap();
    let dys = doubles(&dy);
    for (index, param) in builder.params.iter().enumerate() {
        let Some(gradient) = network.gradient(index) else {
            assert!(!param.is_trainable);
            continue;
        };
        let found = gpu.download(gradient).unwrap();
        let values = gpu.download(network.param(index).unwrap()).unwrap();
        let max = found.iter().fold(1e-2f32, |max, value| max.max(value.abs()));
        for at in (0..param.len).step_by(param.len.div_ceil(5)) {
            const STEP: f32 = 1e-2;
            let loss = |moved: f32| {
                let mut values = values.clone();
                values[at] += moved;
                network.set_param(index, &values).unwrap();
                dot(&doubles(&gpu.download(run(&network, &x).output()).unwrap()), &dys)
            };
            let slope = (loss(STEP) - loss(-STEP)) / f64::from(2.0 * STEP);
            network.set_param(index, &values).unwrap();
            let distance = (slope - f64::from(found[at])).abs() / f64::from(max);
            assert!(distance < 2e-2, "parameter {index}, value {at}: {slope} and {}", found[at]);
        }
    }
}

/// A plain network as VGG16: convolutions with bias and ReLU, pooling, dense layers.
fn vgg() -> Builder {
    let mut b = Builder::new(&[3, 8, 8]);
    let mut x = 0;
    for filters in [4, 6] {
        x = b.conv(x, filters, 3, 1, 1);
        x = b.act(x, Activation::Relu);
        let [channels, height, width] = b.nodes[x].shape[..] else { panic!() };
        let window = Window { size: 2, stride: 2, before: [0, 0] };
        x = b.add(Operation::MaxPool(window), &[x], &[channels, height / 2, width / 2]);
    }
    x = b.add(Operation::Reshape, &[x], &[24]);
    x = b.dense(x, 5);
    x = b.act(x, Activation::Tanh);
    b.dense(x, 2);
    b
}

/// Residual blocks with batch normalisation.
fn resnet(is_frozen: bool) -> Builder {
    let mut b = Builder::new(&[3, 8, 8]);
    let stem = b.conv(0, 4, 3, 1, 1);
    let norm = b.norm(stem, is_frozen);
    let mut x = b.act(norm, Activation::Relu);
    for stride in [1, 2] {
        let shortcut = if stride == 1 { x } else { b.conv(x, 4, 1, 2, 1) };
        let main = b.conv(x, 4, 3, stride, 1);
        let norm = b.norm(main, is_frozen);
        let sum = b.sum(&[norm, shortcut]);
        x = b.act(sum, Activation::Relu);
    }
    let mean = b.mean(x);
    b.dense(mean, 2);
    b
}

/// Inverted residual blocks with squeeze and excitation, as EfficientNet.
fn efficientnet() -> Builder {
    let mut b = Builder::new(&[3, 6, 6]);
    let stem = b.conv(0, 4, 3, 1, 1);
    let mut x = b.act(stem, Activation::Silu);
    let start = x;
    x = b.conv(x, 4, 3, 1, 4);
    x = b.norm(x, false);
    x = b.act(x, Activation::Silu);
    let mean = b.mean(x);
    let narrow = b.dense(mean, 2);
    let narrow = b.act(narrow, Activation::Silu);
    let gates = b.dense(narrow, 4);
    let gates = b.act(gates, Activation::Sigmoid);
    x = b.add(Operation::ScaleMaps, &[x, gates], &[4, 6, 6]);
    x = b.sum(&[x, start]);
    let mean = b.mean(x);
    b.dense(mean, 2);
    b
}

/// All networks, with their names.
pub(super) fn examples() -> Vec<(&'static str, Builder)> {
    vec![
        ("vgg", vgg()),
        ("resnet", resnet(false)),
        ("frozen resnet", resnet(true)),
        ("efficientnet", efficientnet()),
    ]
}

/// Compares the gradients of all networks with differences.
pub(super) fn check_all_gradients() {
    for (_, builder) in examples() {
        check_gradients(&builder);
    }
}

#[test]
fn gradients_match_differences() {
    check_all_gradients();
}

#[test]
fn a_value_that_is_used_twice_has_the_sum_of_both_gradients() {
    let mut b = Builder::new(&[4]);
    let x = b.dense(0, 3);
    // Twice in one sum, and as input and residual of one normalisation.
    let twice = b.sum(&[x, x]);
    let norm = b.norm(twice, false);
    let sum = b.sum(&[norm, twice]);
    let other = b.add(Operation::Affine { scale: -0.5, offset: 1.0 }, &[x], &[3]);
    let sum = b.sum(&[sum, other, x]);
    b.dense(sum, 2);
    check_gradients(&b);
}

#[test]
fn shared_parameters_have_the_sum_of_their_gradients() {
    let mut b = Builder::new(&[3]);
    let first = b.dense(0, 3);
    let Operation::Dense { weights, bias } = b.nodes[first].operation else { panic!() };
    let act = b.act(first, Activation::Tanh);
    b.add(Operation::Dense { weights, bias }, &[act], &[3]);
    check_gradients(&b);
}

#[test]
fn inference_uses_moving_statistics_and_changes_nothing() {
    let (gpu, builder) = (gpu(), resnet(false));
    let network = builder.build();
    let x = gpu.upload(&numbers(BATCH * 192, 5)).unwrap();
    let params = || -> Vec<Vec<f32>> {
        (0..builder.params.len()).map(|i| gpu.download(network.param(i).unwrap()).unwrap()).collect()
    };
    let before = params();
    let y = gpu.download(&network.predict(std::slice::from_ref(&x), BATCH).unwrap()).unwrap();
    assert_eq!(before, params());
    // A sample's output does not depend on the others. cuDNN may choose another algorithm for another batch.
    let first = network.predict(&[x.part(0, 192).unwrap()], 1).unwrap();
    let first = gpu.download(&first).unwrap();
    assert_within(&first, &doubles(&y[..first.len()]), if fake::is_real() { 1e-4 } else { 1e-6 });
    // Training with frozen statistics computes the same.
    let frozen = resnet(true).build();
    let trained = gpu.download(frozen.forward(&[x], BATCH, 1).unwrap().output()).unwrap();
    assert_eq!(trained, y);
}

#[test]
fn frozen_layers_cost_no_backward_pass() {
    let mut b = vgg();
    let trained = operations(&b, true);
    // All but the last dense layer.
    for param in &mut b.params[..6] {
        param.is_trainable = false;
    }
    // Only the gradients of its weights and bias are computed.
    let frozen = operations(&b, true);
    assert_eq!(frozen - operations(&b, false), 2);
    assert!(trained - operations(&b, false) > 10);
}

/// The operations of a forward pass, and of a backward pass.
fn operations(builder: &Builder, with_backward: bool) -> u64 {
    let gpu = super::fake::open(headstart_gpu::Precision::Float32);
    let network = Network::new(&gpu, builder.nodes.clone(), &builder.params).unwrap();
    let x = gpu.upload(&numbers(BATCH * builder.nodes[0].shape.iter().product::<usize>(), 1)).unwrap();
    let before = gpu.launches();
    let pass = network.forward(&[x], BATCH, 1).unwrap();
    if with_backward {
        let gradient = gpu.array(pass.output().len()).unwrap();
        network.backward(pass, gradient).unwrap();
    }
    gpu.launches() - before
}

#[test]
fn normalisation_sum_and_activation_are_one_step() {
    // Per block: convolution, bias, statistics, normalisation with sum and ReLU. The second block's shortcut is a
    // convolution. Stem: four. Head: mean, product, bias.
    assert_eq!(operations(&resnet(false), false), 4 + 4 + 5 + 3);
}

#[test]
fn graphs_that_do_not_fit_are_refused() {
    let fits = vgg();
    let refuse = |change: &dyn Fn(&mut Builder)| {
        let mut builder = vgg();
        change(&mut builder);
        let error = Network::new(gpu(), builder.nodes, &builder.params).err().expect("a refusal").to_string();
        assert!(error.starts_with("network: expected"), "{error}");
    };
    refuse(&|b| b.nodes[1].inputs = vec![5]);
    refuse(&|b| b.nodes[1].inputs = vec![]);
    refuse(&|b| b.nodes[1].shape = vec![4, 8, 9]);
    refuse(&|b| b.params[0].len += 1);
    refuse(&|b| b.nodes.truncate(1));
    let network = Network::new(gpu(), fits.nodes, &fits.params).unwrap();
    let short = gpu().array(5).unwrap();
    assert!(network.predict(&[short], BATCH).unwrap_err().to_string().contains("576"));
    assert!(network.predict(&[], BATCH).is_err());
    assert!(network.param(100).is_err() && network.gradient(100).is_none());
}

#[test]
fn masks_do_not_depend_on_the_layers_before() {
    let gpu = gpu();
    let x = gpu.upload(&vec![1.0; BATCH * 100]).unwrap();
    let with = |layers: usize| {
        let mut b = Builder::new(&[100]);
        let mut last = 0;
        for _ in 0..layers {
            last = b.add(Operation::Affine { scale: 1.0, offset: 0.0 }, &[last], &[100]);
        }
        for _ in 0..2 {
            last = b.add(Operation::Dropout { rate: 0.5, by_sample: false }, &[last], &[100]);
        }
        let network = Network::new(gpu, b.nodes, &[]).unwrap();
        gpu.download(network.forward(std::slice::from_ref(&x), BATCH, 1).unwrap().output()).unwrap()
    };
    assert_eq!(with(0), with(3));
    // Two layers with the same mask would keep half of the values, and not a quarter.
    let kept = with(0).iter().filter(|value| **value > 0.0).count();
    assert!((40..110).contains(&kept), "{kept} of {}", BATCH * 100);
}

#[test]
fn dropout_is_random_in_training_and_absent_in_inference() {
    let gpu = gpu();
    let mut b = Builder::new(&[1000]);
    b.add(Operation::Dropout { rate: 0.5, by_sample: false }, &[0], &[1000]);
    let network = Network::new(gpu, b.nodes, &[]).unwrap();
    let x = gpu.upload(&vec![1.0; BATCH * 1000]).unwrap();
    let of = |seed| {
        gpu.download(network.forward(std::slice::from_ref(&x), BATCH, seed).unwrap().output()).unwrap()
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    assert_eq!(gpu.download(&network.predict(&[x], BATCH).unwrap()).unwrap(), vec![1.0; BATCH * 1000]);
}
