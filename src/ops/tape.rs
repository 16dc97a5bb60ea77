//! Gradient tape: reverse-mode differentiation of the operations in this module.
//!
//! candle's `backward` adds each gradient to a tensor of zeros, which costs four passes over a feature
//! map. It also keeps every feature map until the last gradient is known. A tape records the operations
//! of this module and runs their backward passes one by one, freeing each feature map after its last
//! use. candle still differentiates its own operations between them.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, Var, bail,
};

use super::add::Addition;

thread_local! {
    /// The active tapes of this thread, newest last; the newest records.
    static TAPES: RefCell<Vec<Tape>> = const { RefCell::new(Vec::new()) };
}

struct Tape {
    id: u64,
    steps: Vec<Step>,
}

/// Computes a loss and its gradients with respect to every variable on which it depends, as
/// TensorFlow's `GradientTape` does. `fit` uses it; so can your own training loop.
///
/// The gradients equal those of candle's `loss.backward()`, but take less time and memory. The closure
/// must compute everything that leads from the variables to the loss.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new(2), Dense::new(1)]?;
/// let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform((8, 1), 0.0, 1.0)?);
/// for _ in 0..3 {
///     let (loss, gradients) =
///         value_and_gradients(|| Ok((model.forward(&x, Mode::Training)? - &y)?.sqr()?.mean_all()?))?;
///     println!("{:.3}", loss.to_scalar::<f32>()?);
///     for param in model.trainable_params() {
///         let gradient = gradients.get(param.var()).expect("the loss depends on every weight");
///         param.set(&(param.value(Mode::Inference) - (gradient * 0.1)?)?)?;
///     }
/// }
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// Errors of the closure, and candle's error if the loss has no gradient.
pub fn value_and_gradients(
    loss: impl FnOnce() -> crate::Result<Tensor>,
) -> crate::Result<(Tensor, GradStore)> {
    let tape = GradientTape::new();
    let loss = loss()?;
    let gradients = tape.gradient(&loss)?;
    Ok((loss.detach(), gradients))
}

/// Records the operations of this module on its thread until it is dropped.
///
/// Tensors computed under a tape must not reach a user: candle's `backward` alone does not find the
/// gradients of recorded operations.
pub(crate) struct GradientTape {
    id: u64,
    /// Makes the tape `!Send`: it records its own thread.
    thread: PhantomData<*const ()>,
}

impl GradientTape {
    /// Starts recording.
    pub(crate) fn new() -> GradientTape {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        TAPES.with_borrow_mut(|tapes| tapes.push(Tape { id, steps: Vec::new() }));
        GradientTape { id, thread: PhantomData }
    }

    /// The gradients of a scalar loss with respect to every variable on which it depends.
    ///
    /// # Errors
    /// candle's error if the loss has no gradient.
    pub(crate) fn gradient(self, loss: &Tensor) -> crate::Result<GradStore> {
        let mut steps = self.stop();
        let mut gradients = loss.backward()?;
        while let Some(step) = steps.pop() {
            step.backward(&mut gradients)?;
        }
        Ok(gradients)
    }

    /// Stops recording and returns the recorded steps.
    fn stop(&self) -> Vec<Step> {
        TAPES.with_borrow_mut(|tapes| {
            let position = tapes.iter().position(|tape| tape.id == self.id);
            position.map_or(Vec::new(), |position| tapes.remove(position).steps)
        })
    }
}

impl Drop for GradientTape {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A recorded operation with its inputs and output. The output is a variable, so candle's graph ends
/// there.
struct Step {
    op: Op,
    inputs: Vec<Tensor>,
    output: Tensor,
}

enum Op {
    Unary(Box<dyn CustomOp1 + Send + Sync>),
    Binary(Box<dyn CustomOp2 + Send + Sync>),
    Ternary(Box<dyn CustomOp3 + Send + Sync>),
    /// A value computed by candle that enters the tape.
    Leaf,
}

/// [`Tensor::apply_op1`], recorded if this thread has a tape.
pub(crate) fn apply1(x: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    if should_record(&[x]) { record(Op::Unary(Box::new(op)), &[x]) } else { x.apply_op1(op) }
}

/// [`Tensor::apply_op2`], recorded if this thread has a tape.
pub(crate) fn apply2(x: &Tensor, a: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    if should_record(&[x, a]) { record(Op::Binary(Box::new(op)), &[x, a]) } else { x.apply_op2(a, op) }
}

/// [`Tensor::apply_op3`], recorded if this thread has a tape.
pub(crate) fn apply3(
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    op: impl CustomOp3 + Send + Sync + 'static,
) -> Result<Tensor> {
    if should_record(&[x, a, b]) {
        record(Op::Ternary(Box::new(op)), &[x, a, b])
    } else {
        x.apply_op3(a, b, op)
    }
}

fn should_record(inputs: &[&Tensor]) -> bool {
    inputs.iter().any(|input| input.track_op()) && TAPES.with_borrow(|tapes| !tapes.is_empty())
}

fn record(op: Op, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs = inputs.iter().map(|input| as_leaf(input)).collect::<Result<Vec<Tensor>>>()?;
    let output = op.forward(&inputs)?;
    push(Step { op, inputs, output: output.clone() });
    Ok(output)
}

fn push(step: Step) {
    TAPES.with_borrow_mut(|tapes| tapes.last_mut().expect("a tape is active").steps.push(step));
}

/// The tensor itself, or, if it is part of candle's graph, a variable in its place.
fn as_leaf(tensor: &Tensor) -> Result<Tensor> {
    if tensor.is_variable() || !tensor.track_op() {
        return Ok(tensor.clone());
    }
    let existing = TAPES.with_borrow(|tapes| {
        let steps = tapes.last()?.steps.iter();
        let mut leaves = steps.filter(|step| matches!(step.op, Op::Leaf));
        leaves.find(|leaf| leaf.inputs[0].id() == tensor.id()).map(|leaf| leaf.output.clone())
    });
    if let Some(existing) = existing {
        return Ok(existing);
    }
    let output = Var::from_tensor(tensor)?.into_inner();
    push(Step { op: Op::Leaf, inputs: vec![tensor.clone()], output: output.clone() });
    Ok(output)
}

impl Op {
    fn forward(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let storages: Vec<_> = inputs.iter().map(Tensor::storage_and_layout).collect();
        let mut cpu_inputs = Vec::with_capacity(storages.len());
        for (storage, layout) in &storages {
            match &**storage {
                Storage::Cpu(storage) => cpu_inputs.push((storage, *layout)),
                _ => bail!("expected tensors on the CPU, found one elsewhere"),
            }
        }
        let (storage, shape) = match (self, cpu_inputs.as_slice()) {
            (Op::Unary(op), &[(x, xl)]) => op.cpu_fwd(x, xl)?,
            (Op::Binary(op), &[(x, xl), (a, al)]) => op.cpu_fwd(x, xl, a, al)?,
            (Op::Ternary(op), &[(x, xl), (a, al), (b, bl)]) => op.cpu_fwd(x, xl, a, al, b, bl)?,
            _ => bail!("expected an operation of 1 to 3 inputs, found {}", inputs.len()),
        };
        match storage {
            CpuStorage::F32(values) => Ok(Var::from_vec(values, shape, inputs[0].device())?.into_inner()),
            _ => bail!("expected f32 values"),
        }
    }
}

impl Step {
    /// Backward pass of this step: adds its input gradients to `gradients`.
    fn backward(self, gradients: &mut GradStore) -> Result<()> {
        let Step { op, inputs, output } = self;
        let Some(gradient) = gradients.remove(&output) else { return Ok(()) };
        let input_gradients = match (&op, inputs.as_slice()) {
            (Op::Unary(op), [x]) => vec![op.bwd(x, &output, &gradient)?],
            (Op::Binary(op), [x, a]) => <[_; 2]>::from(op.bwd(x, a, &output, &gradient)?).into(),
            (Op::Ternary(op), [x, a, b]) => <[_; 3]>::from(op.bwd(x, a, b, &output, &gradient)?).into(),
            _ => {
                drop(output);
                return gradients.extend(inputs[0].apply_op1(Seed(gradient))?.backward()?);
            }
        };
        drop((output, gradient));
        for (input, gradient) in inputs.iter().zip(input_gradients) {
            let Some(gradient) = gradient.filter(|_| input.track_op()) else { continue };
            let sum = match gradients.remove(input) {
                Some(existing) => existing
                    .contiguous()?
                    .apply_op2_no_bwd(&gradient.contiguous()?, &Addition { relu: false })?,
                None => gradient,
            };
            gradients.insert(input, sum.detach());
        }
        Ok(())
    }
}

/// A scalar whose gradient with respect to its input is the given tensor: starts candle's `backward`
/// with a known gradient.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
