//! A training step on the GPU path does not wait for the GPU: loss, accuracy, clipping and dropout are computed there, and
//! the results are read after the next step is launched.

use std::ffi::CStr;

use headstart::Result;
use headstart::prelude::*;

use crate::gpu::{drawn, fake, of_driver, of_driver_with, run_on_gpu};

/// Counts of the fake driver.
#[derive(Clone, Copy, Debug)]
struct Counts {
    /// Waits of the host after which the GPU had nothing to do.
    idle_waits: u64,
    /// Waits after which the GPU still had work, and its operations after all of them.
    waits: u64,
    left: u64,
    downloaded: u64,
    uploaded: u64,
    host_allocations: u64,
    launches: u64,
    kernels: [u64; KERNELS.len()],
}

/// The kernels of a step that are counted.
const KERNELS: [&CStr; 6] =
    [c"optimizer_step", c"gradient_squares", c"clip_factors", c"dropout", c"class_matches", c"mean_loss"];

impl Counts {
    fn now() -> Counts {
        Counts {
            idle_waits: of_driver(c"fake_cuda_waits"),
            waits: of_driver(c"fake_cuda_waits_ahead"),
            left: of_driver(c"fake_cuda_left_by_waits"),
            downloaded: of_driver(c"fake_cuda_downloaded"),
            uploaded: of_driver(c"fake_cuda_uploaded"),
            host_allocations: of_driver(c"fake_cuda_host_allocations"),
            launches: of_driver(c"fake_cuda_launches"),
            kernels: KERNELS.map(|kernel| of_driver_with(c"fake_cuda_launches_of", kernel)),
        }
    }

    /// The change from other counts, for each of `steps` steps. Fails if it is not a whole number, because then steps
    /// differ.
    fn per_step(self, from: Counts, steps: u64) -> Counts {
        let per_step = |to: u64, from: u64| {
            assert!((to - from).is_multiple_of(steps), "{self:?} from {from:?}");
            (to - from) / steps
        };
        let mut kernels = self.kernels;
        kernels.iter_mut().zip(from.kernels).for_each(|(to, from)| *to = per_step(*to, from));
        Counts {
            idle_waits: per_step(self.idle_waits, from.idle_waits),
            waits: per_step(self.waits, from.waits),
            left: (self.left - from.left) / steps,
            downloaded: per_step(self.downloaded, from.downloaded),
            uploaded: per_step(self.uploaded, from.uploaded),
            host_allocations: per_step(self.host_allocations, from.host_allocations),
            launches: per_step(self.launches, from.launches),
            kernels,
        }
    }
}

const BATCH: usize = 4;
const CLASSES: usize = 3;

/// The counts of one step of a network with dropout and clipping, whose epochs differ only in their number of steps.
fn of_step(metrics: Vec<MetricSpec>) -> Result<Counts> {
    let mut model = sequential![
        Input::new((2, 8, 8)),
        Conv2D::new(4, 3).activation(Relu),
        Dropout::new(0.5),
        Conv2D::new(4, 3).activation(Relu),
        GlobalAveragePooling2D,
        Dense::new(CLASSES).activation(Softmax)
    ]?;
    let adam = Adam::new(1e-3).global_clipnorm(1.0);
    model.compile(adam, SparseCategoricalCrossentropy, metrics);
    let mut of_epoch = |steps: usize| -> Result<Counts> {
        let x = drawn(1, &[steps * BATCH, 2, 8, 8]);
        let classes: Vec<u32> = (0..(steps * BATCH) as u32).map(|sample| sample % CLASSES as u32).collect();
        let y = Tensor::from_vec(classes, steps * BATCH, &device())?;
        let before = Counts::now();
        model.fit((&x, &y), Fit::epochs(1).batch_size(BATCH).verbose(false).advice(false))?;
        Ok(Counts::now().per_step(before, 1))
    };
    // The first epoch allocates page-locked memory.
    of_epoch(12)?;
    let short = of_epoch(4)?;
    Ok(of_epoch(24)?.per_step(short, 20))
}

#[test]
#[ignore = "started by a_step_waits_once_while_the_gpu_has_the_next_one in a process of its own"]
fn count_waits() -> Result<()> {
    let bytes = |values: usize| (values * size_of::<f32>()) as u64;
    let counted = of_step(vec![Accuracy])?;
    println!("{counted:?}");
    assert_eq!((counted.idle_waits, counted.waits, counted.host_allocations), (0, 1, 0), "{counted:?}");
    // The results of a step are read when the next step is launched completely.
    assert!(counted.left >= counted.launches, "{counted:?}");
    // Loss and number of correct samples.
    assert_eq!(counted.downloaded, bytes(2), "{counted:?}");
    // Images, targets, and two settings of the optimizer for each of six parameters.
    assert_eq!(counted.uploaded, bytes(BATCH * (2 * 8 * 8 + CLASSES) + 2 * 6), "{counted:?}");
    // One launch updates all parameters. The mask of dropout is drawn in both passes.
    assert_eq!(counted.kernels, [1, 1, 1, 2, 1, 1], "{counted:?}");
    // Without metrics only the loss is read.
    let without = of_step(Vec::new())?;
    assert_eq!((without.waits, without.downloaded, without.kernels[4]), (1, bytes(1), 0), "{without:?}");
    // Other metrics take the output, which is copied together with the loss.
    let others = of_step(vec![Accuracy, F1Score])?;
    let expected = (0, bytes(1 + BATCH * CLASSES), 0);
    assert_eq!((others.idle_waits, others.downloaded, others.kernels[4]), expected, "{others:?}");
    assert!(others.waits <= 2 && others.left >= others.launches, "{others:?}");
    Ok(())
}

#[test]
fn a_step_waits_once_while_the_gpu_has_the_next_one() {
    // The driver works only when the host waits.
    if !fake::is_real() {
        let test = ["--exact", "gpu_steps::count_waits", "--ignored"];
        run_on_gpu(&test, None, &[("FAKE_CUDA_ORDER", "late")]);
    }
}

/// The accuracies of each epoch of a training with these metrics.
fn accuracies(
    head: usize,
    activation: Activation,
    loss: impl Loss + Copy + 'static,
    y: &Tensor,
    metrics: &[MetricSpec],
) -> Result<Vec<f64>> {
    let x = drawn(1, &[10, 4]);
    let mut model =
        sequential![Input::new(4), Dense::new(8).activation(Tanh), Dense::new(head).activation(activation)]?;
    for (seed, param) in model.params().iter().enumerate() {
        param.set(&drawn(seed as u64, param.value(Mode::Inference).dims()))?;
    }
    model.compile(Adam::new(3e-2), loss, metrics.to_vec());
    let fit = Fit::epochs(8).batch_size(4).shuffle(false).verbose(false).advice(false);
    Ok(model.fit((&x, y), fit)?["accuracy"].to_vec())
}

#[test]
#[ignore = "started by the_gpu_counts_the_same_accuracy_as_the_cpu in a process of its own"]
fn compare_accuracies() -> Result<()> {
    let classes: Vec<u32> = (0..10).map(|sample| sample * 7 % 3).collect();
    let sparse = Tensor::new(classes.clone(), &device())?;
    let of = |row: usize, class: usize| f32::from(u8::from(classes[row] as usize == class));
    let one_hot: Vec<f32> = (0..30).map(|at| of(at / 3, at % 3)).collect();
    let one_hot = Tensor::from_vec(one_hot, (10, 3), &device())?;
    let binary = Tensor::from_vec((0..10).map(|row| of(row, 0)).collect::<Vec<f32>>(), (10, 1), &device())?;
    // With a second metric, the CPU computes both from the output.
    let (alone, both) = ([Accuracy], [Accuracy, F1Score]);
    let pairs = [
        [&alone[..], &both].map(|m| accuracies(3, Softmax, SparseCategoricalCrossentropy, &sparse, m)),
        [&alone[..], &both].map(|m| accuracies(3, Softmax, CategoricalCrossentropy, &one_hot, m)),
        [&alone[..], &both]
            .map(|m| accuracies(3, Linear, SparseCategoricalCrossentropy.from_logits(true), &sparse, m)),
        [&alone[..], &both].map(|m| accuracies(1, Sigmoid, BinaryCrossentropy, &binary, m)),
        [&alone[..], &both].map(|m| accuracies(1, Linear, BinaryCrossentropy.from_logits(true), &binary, m)),
        [&alone[..], &both].map(|m| accuracies(3, Sigmoid, BinaryCrossentropy, &one_hot, m)),
        [&alone[..], &both].map(|m| accuracies(1, Linear, MeanSquaredError, &binary, m)),
    ];
    for (number, [counted, computed]) in pairs.into_iter().enumerate() {
        let (counted, computed) = (counted?, computed?);
        assert_eq!(counted, computed, "{number}");
        assert!(counted.iter().any(|share| *share != counted[0] && *share > 0.0), "{number}: {counted:?}");
    }
    assert!(of_driver_with(c"fake_cuda_launches_of", c"class_matches") >= 7 * 8 * 3);
    Ok(())
}

#[test]
fn the_gpu_counts_the_same_accuracy_as_the_cpu() {
    if !fake::is_real() {
        run_on_gpu(&["--exact", "gpu_steps::compare_accuracies", "--ignored"], None, &[]);
    }
}
