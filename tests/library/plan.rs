//! Execution plans: the same values as layer by layer, valid for each freezing state, and shown as a table.

use std::collections::HashSet;
use std::sync::Arc;

use headstart::Result;
use headstart::candle_core::Var;
use headstart::nn::Plan;
use headstart::prelude::*;

/// Whether tensors take the CPU path, where layers are fused.
fn fuses() -> bool {
    device().is_cpu() && std::env::var_os("HEADSTART_TEST_DEVICE_PATH").is_none_or(|value| value != "1")
}

fn networks() -> Result<Vec<Model>> {
    let small = |network: headstart::models::Network| {
        network.alpha(0.25).include_top(false).input_shape((3, 32, 32)).build()
    };
    Ok(vec![
        small(Vgg16::new(Weights::Random(1)))?,
        small(Vgg16Bn::new(Weights::Random(1)))?,
        small(ResNet50::new(Weights::Random(1)))?,
        small(EfficientNetB0::new(Weights::Random(1)))?,
        small(EfficientNetLite0::new(Weights::Random(1)))?,
    ])
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

/// The largest difference, relative to the largest expected value. Another layout of an input may select another
/// algorithm for a convolution, which sums in another order.
fn difference(found: &Tensor, expected: &Tensor) -> Result<f32> {
    let largest = |tensor: &Tensor| -> Result<f32> { Ok(tensor.abs()?.max_all()?.to_scalar()?) };
    Ok(largest(&(found - expected)?)? / largest(expected)?)
}

fn operations(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.operation.as_str()).collect()
}

#[test]
fn fused_steps_give_the_values_of_single_layers() -> Result<()> {
    for network in networks()? {
        for batch in [1, 3] {
            let x = random_uniform((batch, 3, 32, 32), -1.0, 1.0)?;
            let names = network.layer_names();
            // A requested output is not fused with the next layer.
            let outputs = network.outputs_of(&names.iter().map(String::as_str).collect::<Vec<_>>(), &x)?;
            let fused = network.forward(&x, Mode::Inference)?;
            let far = difference(&fused, &outputs[names.len() - 1])?;
            assert!(far < 1e-5, "{} with batch {batch}: {far}", network.name());
            for (name, output) in names.iter().zip(&outputs).step_by(7) {
                let far = difference(&network.outputs_of(&[name], &x)?[0], output)?;
                assert!(far < 1e-5, "{name} of {} with batch {batch}: {far}", network.name());
            }
        }
    }
    Ok(())
}

#[test]
fn values_are_freed_once_and_not_read_later() -> Result<()> {
    for network in networks()? {
        for mode in [Mode::Inference, Mode::Training] {
            let plan = network.plan_for(mode)?;
            let (mut known, mut freed) = (HashSet::from(["input"]), HashSet::new());
            let mut layers = 0;
            for step in &plan.steps {
                for input in &step.inputs {
                    assert!(known.contains(&**input) && !freed.contains(&**input), "{input} in {plan}");
                }
                if let Some(last) = step.layers.last() {
                    assert!(known.insert(last), "{last} is computed twice in {plan}");
                }
                layers += step.layers.len();
                step.frees.iter().for_each(|value| assert!(freed.insert(&**value), "{value} in {plan}"));
            }
            assert_eq!(layers, network.layer_names().len(), "{plan}");
            // Everything but the output is freed.
            assert_eq!(known.len(), freed.len() + 1, "{plan}");
        }
    }
    Ok(())
}

#[test]
fn the_plan_shows_what_is_fused_in_each_freezing_state() -> Result<()> {
    let base =
        ResNet50::new(Weights::Random(1)).alpha(0.05).include_top(false).input_shape((3, 32, 32)).build()?;
    let count =
        |plan: &Plan, operation: &str| operations(plan).iter().filter(|name| **name == operation).count();
    let whole_block = "Conv2D + BatchNormalization + Add + ReLU";
    let inference = base.plan()?;
    if !fuses() {
        assert_eq!(count(&inference, whole_block), 0);
        return Ok(());
    }
    assert_eq!(count(&inference, whole_block), 16);
    assert_eq!(count(&inference, "BatchNormalization"), 0);
    let training = base.plan_for(Mode::Training)?;
    assert_eq!((count(&training, whole_block), count(&training, "BatchNormalization + ReLU")), (0, 33));
    assert_eq!(count(&training, "Add + ReLU"), 16);
    base.freeze();
    assert_eq!(operations(&base.plan_for(Mode::Training)?), operations(&inference));
    base.unfreeze_from("conv5_block3_1_conv")?;
    let partly = base.plan_for(Mode::Training)?;
    assert_eq!((count(&partly, whole_block), count(&partly, "Add + ReLU")), (15, 1));
    Ok(())
}

#[test]
fn a_plan_is_replaced_when_freezing_changes() -> Result<()> {
    let model = sequential![
        Input::new((3, 8, 8)),
        Conv2D::new(4, 3),
        BatchNormalization::default(),
        Relu,
        Flatten,
        Dense::new(2)
    ]?;
    let x = random_uniform((2, 3, 8, 8), -1.0, 1.0)?;
    let trained = |model: &Model| -> Result<usize> {
        let (_, gradients) = value_and_gradients(|| {
            let input = Var::from_tensor(&x)?;
            Ok(model.forward(input.as_tensor(), Mode::Training)?.sqr()?.sum_all()?)
        })?;
        Ok(model.params().iter().filter(|param| gradients.get(param.var()).is_some()).count())
    };
    assert_eq!(trained(&model)?, 6);
    model.freeze();
    assert_eq!(trained(&model)?, 0);
    model.unfreeze_from("dense")?;
    assert_eq!(trained(&model)?, 2);
    // Batch normalisation that was frozen stays in inference mode until its statistics are unfrozen.
    model.unfreeze();
    let resting = model.forward(&x, Mode::Training)?.to_vec2::<f32>()?;
    model.unfreeze_statistics();
    assert_ne!(model.forward(&x, Mode::Training)?.to_vec2::<f32>()?, resting);
    assert_eq!(trained(&model)?, 6);
    Ok(())
}

/// A layer that adds a variable that is none of its parameters.
struct HiddenShift(Var);

struct BuiltHiddenShift {
    shift: Var,
    shape: Vec<usize>,
}

impl Build for HiddenShift {
    fn default_name(&self) -> &str {
        "shift"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(BuiltHiddenShift { shift: self.0.clone(), shape: context.inputs[0].to_vec() }))
    }
}

impl Layer for BuiltHiddenShift {
    fn kind(&self) -> &'static str {
        "HiddenShift"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].broadcast_add(self.shift.as_tensor())?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

#[test]
fn a_gradient_passes_a_fused_step_to_a_variable_of_a_custom_layer() -> Result<()> {
    let block = |shift: Option<&Var>| -> Result<Model> {
        let mut builder = ModelBuilder::with_random("block", &[4, 8, 8], headstart::random::seeded(5))?;
        let mut start = builder.input();
        if let Some(shift) = shift {
            start = builder.add("", HiddenShift(shift.clone()), &[start])?;
        }
        let mut last = builder.add("", Conv2D::new(4, 3).padding(Padding::Same), &[start])?;
        last = builder.add("", BatchNormalization::default(), &[last])?;
        last = builder.add("", Add, &[start, last])?;
        last = builder.add("", Relu, &[last])?;
        let model = builder.finish(last)?;
        model.freeze();
        Ok(model)
    };
    let x = Var::from_tensor(&random_uniform((2, 4, 8, 8), -1.0, 1.0)?)?;
    let shift = Var::zeros((4, 8, 8), DType::F32, &device())?;
    for mode in [Mode::Inference, Mode::Training] {
        let gradient = |model: &Model, input: &Tensor, of: &Var| -> Result<Tensor> {
            let gradients = model.forward(input, mode)?.sqr()?.sum_all()?.backward()?;
            Ok(gradients.get(of).expect("the output depends on the variable").clone())
        };
        let by_input = gradient(&block(None)?, x.as_tensor(), &x)?.sum(0)?;
        let by_shift = gradient(&block(Some(&shift))?, &x.as_detached_tensor(), &shift)?;
        let difference = (by_input - by_shift)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(difference < 1e-5, "{difference}");
    }
    Ok(())
}

#[test]
fn a_custom_layer_gets_nchw_and_may_return_channels_last() -> Result<()> {
    struct Swap;
    struct BuiltSwap(Vec<usize>);
    impl Build for Swap {
        fn default_name(&self) -> &str {
            "swap"
        }
        fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
            Ok(Arc::new(BuiltSwap(context.inputs[0].to_vec())))
        }
    }
    impl Layer for BuiltSwap {
        fn kind(&self) -> &'static str {
            "Swap"
        }
        fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
            assert!(inputs[0].is_contiguous());
            Ok(inputs[0].permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?)
        }
        fn output_shape(&self) -> &[usize] {
            &self.0
        }
    }
    let with = sequential![Input::new((3, 8, 8)), Conv2D::new(32, 3), Swap, Swap, Flatten]?;
    let without = with.up_to("conv2d")?;
    let x = random_uniform((2, 3, 8, 8), -1.0, 1.0)?;
    let expected = without.forward(&x, Mode::Inference)?.flatten_from(1)?;
    assert_eq!(bits(&with.forward(&x, Mode::Inference)?)?, bits(&expected)?);
    Ok(())
}

#[test]
fn a_plan_is_shown_as_text_and_as_a_table() -> Result<()> {
    let inner = sequential![Input::new((3, 8, 8)), Conv2D::new(4, 3).activation(Relu), MaxPooling2D::new(2)]?;
    let model = sequential![inner, Flatten, Dense::new(2).activation(Softmax)]?;
    let plan = model.plan()?;
    let text = plan.to_string();
    assert!(text.starts_with("Plan of \"sequential\" in inference mode"), "{text}");
    for part in ["sequential/conv2d", "sequential/max_pooling2d", "Operation", "Flatten", "Dense"] {
        assert!(text.contains(part), "{text}");
    }
    if fuses() {
        assert!(text.contains("Conv2D + ReLU") && text.contains("to NCHW"), "{text}");
    }
    let html =
        plan.bundle().into_iter().find(|(mime, _)| mime == "text/html").map(|(_, html)| html.to_string());
    assert!(html.is_some_and(|html| html.contains("<table>") && html.contains("sequential/conv2d")));
    Ok(())
}

#[test]
fn an_output_beyond_the_memory_is_an_error_that_names_the_first_layer() -> Result<()> {
    let model = sequential![Input::new(1), Dense::new(2), Dense::new(8), Dense::new(4)]?;
    // One value, repeated without memory.
    let x = Tensor::zeros((1, 1), DType::F32, &device())?.broadcast_as((1 << 44, 1))?;
    let problem = model.forward(&x, Mode::Inference).unwrap_err().to_string();
    assert!(problem.contains("batch: expected at most") && problem.contains("of `dense`, "), "{problem}");
    Ok(())
}
