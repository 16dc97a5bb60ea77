//! bfloat16 against PyTorch's (`torch.autocast` on the CPU): a small residual network, whose reference is PyTorch in double
//! precision. `tests/fixtures/bfloat16.py` wrote the values.

use headstart_gpu::{
    Activation, Array, Gpu, Loss, LossOutput, Network, Node, Operation, Parameter, Precision, Rule, Update,
    Window,
};

use super::{doubles, fake};

const FIXTURE: &[u8] = include_bytes!("../../../tests/fixtures/bfloat16.safetensors");
const BATCH: usize = 12;
const CLASSES: usize = 3;
/// The first steps of the fixture: the fake driver takes long for each.
const STEPS: usize = 4;
const RATE: f32 = 0.02;
/// The parameters, and those that are moving statistics.
const PARAMS: usize = 19;
const MOVING: [usize; 6] = [3, 4, 8, 9, 13, 14];

/// The bytes of a tensor of the fixture: the file has the length of a JSON header, the header, and the values.
fn bytes(name: &str) -> &'static [u8] {
    let (length, rest) = FIXTURE.split_at(8);
    let (header, values) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header = std::str::from_utf8(header).unwrap();
    let (_, entry) = header.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}"));
    let (_, range) = entry.split_once("\"data_offsets\":[").unwrap();
    let (start, end) = range.split_once(']').unwrap().0.split_once(',').unwrap();
    &values[start.parse().unwrap()..end.parse().unwrap()]
}

fn values(name: &str) -> Vec<f32> {
    bytes(name).chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
}

fn one_hot() -> Vec<f32> {
    let mut rows = vec![0.0; BATCH * CLASSES];
    for (row, class) in bytes("y").chunks_exact(4).enumerate() {
        rows[row * CLASSES + u32::from_le_bytes(class.try_into().unwrap()) as usize] = 1.0;
    }
    rows
}

/// The network of the fixture.
fn network(gpu: &Gpu) -> Network {
    let conv = |weights: usize, bias: Option<usize>, side: usize| Operation::Convolution {
        weights,
        bias,
        kernel: [side; 2],
        padding: [(side / 2, side / 2); 2],
        stride: 1,
        dilation: 1,
        groups: 1,
    };
    let norm = |first: usize| Operation::Normalization {
        params: [first, first + 1, first + 2, first + 3],
        epsilon: 1e-3,
        momentum: 0.99,
        is_frozen: false,
    };
    let relu = || Operation::Activation(Activation::Relu);
    let window = Window { size: 2, stride: 2, before: [0, 0] };
    let layers: Vec<(Operation, Vec<usize>, Vec<usize>)> = vec![
        (Operation::Input, vec![], vec![3, 16, 16]),
        (conv(0, None, 3), vec![0], vec![8, 16, 16]),
        (norm(1), vec![1], vec![8, 16, 16]),
        (relu(), vec![2], vec![8, 16, 16]),
        (Operation::MaxPool(window), vec![3], vec![8, 8, 8]),
        (conv(5, None, 3), vec![4], vec![8, 8, 8]),
        (norm(6), vec![5], vec![8, 8, 8]),
        (Operation::Add, vec![6, 4], vec![8, 8, 8]),
        (relu(), vec![7], vec![8, 8, 8]),
        (conv(10, None, 3), vec![8], vec![16, 8, 8]),
        (norm(11), vec![9], vec![16, 8, 8]),
        (relu(), vec![10], vec![16, 8, 8]),
        (Operation::AveragePool(window), vec![11], vec![16, 4, 4]),
        (conv(15, Some(16), 1), vec![12], vec![16, 4, 4]),
        (relu(), vec![13], vec![16, 4, 4]),
        (Operation::Add, vec![14, 12], vec![16, 4, 4]),
        (Operation::GlobalMean, vec![15], vec![16]),
        (Operation::Dense { weights: 17, bias: Some(18) }, vec![16], vec![CLASSES]),
    ];
    let nodes =
        layers.into_iter().map(|(operation, inputs, shape)| Node { operation, inputs, shape }).collect();
    let params: Vec<Vec<f32>> = (0..PARAMS).map(|index| values(&format!("p{index}"))).collect();
    let parameter = |(index, values): (usize, &Vec<f32>)| Parameter {
        len: values.len(),
        is_trainable: !MOVING.contains(&index),
    };
    let parameters: Vec<Parameter> = params.iter().enumerate().map(parameter).collect();
    let network = Network::new(gpu, nodes, &parameters).unwrap();
    params.iter().enumerate().for_each(|(index, values)| network.set_param(index, values).unwrap());
    network
}

/// Outputs, all gradients of the first step, and the losses of the first steps.
fn results(precision: Precision) -> [Vec<f32>; 3] {
    let gpu = &fake::open(precision);
    let network = network(gpu);
    let [x, targets] = [values("x"), one_hot()].map(|values| gpu.upload(&values).unwrap());
    let array = |len: usize| -> Array { gpu.array(len).unwrap() };
    let output = network.predict(std::slice::from_ref(&x), BATCH).unwrap();
    let (outputs, mut gradients, mut losses) = (gpu.download(&output).unwrap(), Vec::new(), Vec::new());
    let chunks = gpu.chunks(network.segments()).unwrap();
    let settings: Vec<f32> = network.segments().iter().flat_map(|_| [RATE, 1.0]).collect();
    let (settings, stopped) = (gpu.upload(&settings).unwrap(), gpu.upload(&[0.0]).unwrap());
    for step in 0..STEPS {
        let pass = network.forward(std::slice::from_ref(&x), BATCH, 1).unwrap();
        let [of_samples, mean] = [array(BATCH), array(1)];
        let [probabilities, gradient] = [0; 2].map(|_| array(BATCH * CLASSES));
        let written = LossOutput {
            losses: &of_samples,
            probabilities: &probabilities,
            gradient: Some(&gradient),
            mean: &mean,
            stopped: &stopped,
        };
        let loss = Loss::SoftmaxCrossEntropy { label_smoothing: 0.0 };
        gpu.loss(loss, pass.output(), &targets, None, [BATCH, CLASSES], written).unwrap();
        network.backward(pass, gradient).unwrap();
        losses.extend(gpu.download(&mean).unwrap());
        if step == 0 {
            let trainable = (0..PARAMS).filter_map(|index| network.gradient(index));
            gradients = trainable.flat_map(|gradient| gpu.download(gradient).unwrap()).collect();
        }
        let (weights, gradients) = network.weights();
        let update = Update { weights, gradients, state: &[], settings: &settings, stopped: Some(&stopped) };
        let rule = Rule::Sgd { momentum: 0.0, nesterov: false };
        gpu.optimizer_step(rule, None, &chunks, &update).unwrap();
    }
    [outputs, gradients, losses]
}

/// The same results of PyTorch.
fn of_pytorch(precision: &str) -> [Vec<f32>; 3] {
    let trainable = (0..PARAMS).filter(|index| !MOVING.contains(index));
    let gradients = trainable.flat_map(|index| values(&format!("{precision}.g{index}"))).collect();
    let losses = values(&format!("{precision}.losses"))[..STEPS].to_vec();
    [values(&format!("{precision}.outputs")), gradients, losses]
}

#[test]
fn bfloat16_is_as_near_to_double_precision_as_in_pytorch() {
    let expected = of_pytorch("double");
    let [ours, theirs, float32] =
        [results(Precision::BFloat16), of_pytorch("bfloat16"), results(Precision::Float32)];
    for (at, name) in ["outputs", "gradients", "losses"].into_iter().enumerate() {
        let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let expected = doubles(&expected[at]);
        let distance = |found: &[f32]| -> f64 {
            assert_eq!(found.len(), expected.len(), "{name}");
            let difference: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| f64::from(*a) - b).collect();
            norm(&difference) / norm(&expected)
        };
        let [ours, theirs, float32] = [&ours, &theirs, &float32].map(|found| distance(&found[at]));
        println!("{name}: {ours:.1e}, PyTorch {theirs:.1e}, float32 {float32:.1e}");
        // Evidence that the network is the same one, and that it was computed in bfloat16.
        assert!(float32 < 1e-4 && 10.0 * float32 < ours, "{name}: float32 {float32}, bfloat16 {ours}");
        assert!(ours < 2.0 * theirs, "{name}: {ours}, PyTorch {theirs}");
    }
}
