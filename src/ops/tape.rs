//! The gradients of a training step.
//!
//! candle adds each gradient to a tensor of zeros, which takes four passes over a map where none is
//! needed, and keeps every map until the last gradient is known. So ops of this folder are taken
//! down here while a tape runs, and played backwards one by one; what candle computes between them
//! stays candle's.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, Var, bail,
};

use super::plus::Plus;

thread_local! {
    /// The tapes that run, the latest last: it takes down what is computed.
    static TAPES: RefCell<Vec<Tape>> = const { RefCell::new(Vec::new()) };
}

struct Tape {
    number: u64,
    steps: Vec<Step>,
}

/// A loss, and its gradient by every variable on which it depends: what TensorFlow has its
/// `GradientTape` for. `fit` finds its gradients so; so can a training loop of your own.
///
/// The gradients are those of candle's `loss.backward()`, sooner and in less memory. All that leads
/// from the variables to the loss must be computed within.
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
///         let gradient = gradients.get(param.var()).expect("every weight has its part");
///         param.set(&(param.value(Mode::Inference) - (gradient * 0.1)?)?)?;
///     }
/// }
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// The loss's own, and what candle says of one that has no gradient.
pub fn value_and_gradients(
    loss: impl FnOnce() -> crate::Result<Tensor>,
) -> crate::Result<(Tensor, GradStore)> {
    let tape = GradientTape::new();
    let loss = loss()?;
    let gradients = tape.gradient(&loss)?;
    Ok((loss.detach(), gradients))
}

/// Takes down what is computed on its thread until it is gone. Nothing of it may be left to a user:
/// while one runs, `backward` alone does not find the gradients of what ops of this folder computed.
pub(crate) struct GradientTape {
    number: u64,
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl GradientTape {
    /// Begins to take down.
    pub(crate) fn new() -> GradientTape {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        TAPES.with_borrow_mut(|tapes| tapes.push(Tape { number, steps: Vec::new() }));
        GradientTape { number, thread: PhantomData }
    }

    /// The gradient of a loss (one number) by every variable on which it depends.
    ///
    /// # Errors
    /// What candle says of a loss that has no gradient.
    pub(crate) fn gradient(self, loss: &Tensor) -> crate::Result<GradStore> {
        let mut steps = self.take();
        let mut gradients = loss.backward()?;
        while let Some(step) = steps.pop() {
            step.play_back(&mut gradients)?;
        }
        Ok(gradients)
    }

    /// Ends it.
    fn take(&self) -> Vec<Step> {
        TAPES.with_borrow_mut(|tapes| {
            let own = tapes.iter().position(|tape| tape.number == self.number);
            own.map_or(Vec::new(), |own| tapes.remove(own).steps)
        })
    }
}

impl Drop for GradientTape {
    fn drop(&mut self) {
        self.take();
    }
}

/// An op, what went in and what came out: a variable, so that candle's graph ends there.
struct Step {
    op: Op,
    inputs: Vec<Tensor>,
    output: Tensor,
}

enum Op {
    One(Box<dyn CustomOp1 + Send + Sync>),
    Two(Box<dyn CustomOp2 + Send + Sync>),
    Three(Box<dyn CustomOp3 + Send + Sync>),
    /// Where a value that candle computed becomes one of the tape's.
    Cut,
}

/// [`Tensor::apply_op1`], on this thread's tape if there is one.
pub(crate) fn apply1(x: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    if is_taken_down(&[x]) { take_down(Op::One(Box::new(op)), &[x]) } else { x.apply_op1(op) }
}

/// [`Tensor::apply_op2`], on this thread's tape if there is one.
pub(crate) fn apply2(x: &Tensor, a: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    if is_taken_down(&[x, a]) { take_down(Op::Two(Box::new(op)), &[x, a]) } else { x.apply_op2(a, op) }
}

/// [`Tensor::apply_op3`], on this thread's tape if there is one.
pub(crate) fn apply3(
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    op: impl CustomOp3 + Send + Sync + 'static,
) -> Result<Tensor> {
    if is_taken_down(&[x, a, b]) {
        take_down(Op::Three(Box::new(op)), &[x, a, b])
    } else {
        x.apply_op3(a, b, op)
    }
}

fn is_taken_down(inputs: &[&Tensor]) -> bool {
    inputs.iter().any(|input| input.track_op()) && TAPES.with_borrow(|tapes| !tapes.is_empty())
}

fn take_down(op: Op, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs = inputs.iter().map(|input| cut(input)).collect::<Result<Vec<Tensor>>>()?;
    let output = op.forward(&inputs)?;
    push(Step { op, inputs, output: output.clone() });
    Ok(output)
}

fn push(step: Step) {
    TAPES.with_borrow_mut(|tapes| tapes.last_mut().expect("a tape runs").steps.push(step));
}

/// The tensor, or, if it is of candle's graph, a variable in its place.
fn cut(tensor: &Tensor) -> Result<Tensor> {
    if tensor.is_variable() || !tensor.track_op() {
        return Ok(tensor.clone());
    }
    let known = TAPES.with_borrow(|tapes| {
        let steps = tapes.last()?.steps.iter();
        let mut cuts = steps.filter(|step| matches!(step.op, Op::Cut));
        cuts.find(|cut| cut.inputs[0].id() == tensor.id()).map(|cut| cut.output.clone())
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let output = Var::from_tensor(tensor)?.into_inner();
    push(Step { op: Op::Cut, inputs: vec![tensor.clone()], output: output.clone() });
    Ok(output)
}

impl Op {
    fn forward(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let read: Vec<_> = inputs.iter().map(Tensor::storage_and_layout).collect();
        let mut near = Vec::with_capacity(read.len());
        for (storage, layout) in &read {
            match &**storage {
                Storage::Cpu(storage) => near.push((storage, *layout)),
                _ => bail!("expected tensors on the CPU, found one elsewhere"),
            }
        }
        let (storage, shape) = match (self, near.as_slice()) {
            (Op::One(op), &[(x, xl)]) => op.cpu_fwd(x, xl)?,
            (Op::Two(op), &[(x, xl), (a, al)]) => op.cpu_fwd(x, xl, a, al)?,
            (Op::Three(op), &[(x, xl), (a, al), (b, bl)]) => op.cpu_fwd(x, xl, a, al, b, bl)?,
            _ => bail!("an op of {} inputs", inputs.len()),
        };
        match storage {
            CpuStorage::F32(values) => Ok(Var::from_vec(values, shape, inputs[0].device())?.into_inner()),
            _ => bail!("expected f32 values"),
        }
    }
}

impl Step {
    /// Adds to the gradients what comes through this step.
    fn play_back(self, gradients: &mut GradStore) -> Result<()> {
        let Step { op, inputs, output } = self;
        let Some(gradient) = gradients.remove(&output) else { return Ok(()) };
        let found = match (&op, inputs.as_slice()) {
            (Op::One(op), [x]) => vec![op.bwd(x, &output, &gradient)?],
            (Op::Two(op), [x, a]) => <[_; 2]>::from(op.bwd(x, a, &output, &gradient)?).into(),
            (Op::Three(op), [x, a, b]) => <[_; 3]>::from(op.bwd(x, a, b, &output, &gradient)?).into(),
            _ => {
                drop(output);
                return gradients.extend(inputs[0].apply_op1(Seed(gradient))?.backward()?);
            }
        };
        drop((output, gradient));
        for (input, gradient) in inputs.iter().zip(found) {
            let Some(gradient) = gradient.filter(|_| input.track_op()) else { continue };
            let sum = match gradients.remove(input) {
                Some(known) => {
                    known.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &Plus { relu: false })?
                }
                None => gradient,
            };
            gradients.insert(input, sum.detach());
        }
        Ok(())
    }
}

/// A number whose gradient by a tensor is the one given: where candle's part of the way back begins.
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
