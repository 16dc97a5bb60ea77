//! Graphs: several inputs and outputs, sub-models that share layers, layers by path, and errors for every misuse.

use std::ops::RangeInclusive;
use std::sync::Arc;

use headstart::Result;
use headstart::prelude::*;

fn message<T>(result: Result<T>) -> String {
    result.err().expect("it was accepted").to_string()
}

fn assert_says<T>(result: Result<T>, parts: &[&str]) {
    let text = message(result);
    assert!(parts.iter().all(|part| text.contains(part)), "{text}\nlacks one of {parts:?}");
}

/// Inputs `image` and `age`, outputs `class` and `features`.
fn two_inputs() -> Result<Model> {
    let mut builder = ModelBuilder::new("two", &[3, 8, 8])?.input_name("image")?;
    let maps = builder.add("conv", Conv2D::new(4, 3).activation(Relu), &[builder.input()])?;
    let pooled = builder.add("pooled", GlobalAveragePooling2D, &[maps])?;
    let age = builder.add_input("age", &[4])?;
    let features = builder.add("sum", Add, &[pooled, age])?;
    let class = builder.add("dense", Dense::new(3).activation(Softmax), &[features])?;
    builder.finish_many(&[("class", class), ("features", features)])
}

fn inputs(samples: usize) -> Result<(Tensor, Tensor)> {
    Ok((random_uniform((samples, 3, 8, 8), 0.0, 1.0)?, random_uniform((samples, 4), 0.0, 1.0)?))
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

#[test]
fn an_id_of_another_builder_is_an_error_that_names_both() -> Result<()> {
    let builders =
        || -> Result<_> { Ok((ModelBuilder::new("mine", &[4])?, ModelBuilder::new("yours", &[4])?)) };
    let (mut mine, mut yours) = builders()?;
    let own = mine.add("d", Dense::new(4), &[mine.input()])?;
    // The same index exists in both builders.
    let other = yours.add("d", Dense::new(4), &[yours.input()])?;
    assert_says(mine.add("e", Dense::new(4), &[other]), &["`mine`", "`yours`", "`e`"]);
    assert_says(mine.add("e", Dense::new(4), &[yours.input()]), &["`mine`", "`yours`"]);
    assert_says(mine.add("sum", Add, &[own, other]), &["`mine`", "`yours`", "`sum`"]);
    assert_says(mine.finish(other), &["`mine`", "`yours`", "finish"]);
    let (mine, yours) = builders()?;
    assert_says(mine.finish_many(&[("one", yours.input())]), &["`mine`", "`yours`"]);
    let (one, namesake) = (ModelBuilder::new("net", &[4])?, ModelBuilder::new("net", &[4])?);
    assert_says(one.finish(namesake.input()), &["`net`", "the same name"]);
    // A long name is truncated between letters.
    let long = ModelBuilder::new(&"ä".repeat(40), &[4])?;
    assert_says(ModelBuilder::new("net", &[4])?.finish(long.input()), &["`ääää"]);
    Ok(())
}

#[test]
fn every_misuse_of_a_builder_is_an_error() -> Result<()> {
    let fresh = || ModelBuilder::new("net", &[4]);
    let builder = fresh()?;
    let input = builder.input();
    assert_says(builder.finish(input), &["the input `input`", "after its inputs"]);
    assert_says(fresh()?.finish_many(&[]), &["at least one output", "none"]);
    let mut builder = fresh()?;
    assert_says(builder.add_input("input", &[4]), &["name", "input"]);
    assert_says(builder.add_input("", &[4]), &["name", "at least one letter"]);
    assert_says(builder.add_input("other", &[]), &["net's input `other`", "sizes of at least 1"]);
    assert_says(builder.add_input("other", &[3, 0]), &["sizes of at least 1"]);
    let other = builder.add_input("other", &[4])?;
    let dense = builder.add("dense", Dense::new(4), &[builder.input()])?;
    assert_says(builder.add("dense", Dense::new(4), &[dense]), &["a name that no other layer has"]);
    assert_says(builder.add("other", Dense::new(4), &[dense]), &["a name that no other layer has"]);
    assert_says(builder.finish(dense), &["the unused input `other`", "lead to an output"]);
    let mut builder = fresh()?;
    let dense = builder.add("dense", Dense::new(4), &[builder.input()])?;
    builder.add("forgotten", Dense::new(4), &[dense])?;
    assert_says(builder.finish(dense), &["the unused layer `forgotten`"]);
    let mut builder = fresh()?;
    let dense = builder.add("dense", Dense::new(4), &[builder.input()])?;
    assert_says(builder.finish_many(&[("a", dense), ("a", dense)]), &["a name for each output", "\"a\""]);
    assert_says(fresh()?.input_name(""), &["at least one letter"]);
    assert!(fresh()?.input_name("input")?.finish(other).is_err());
    assert_says(sequential![Input::new(4)], &["at least one layer after `Input`"]);
    Ok(())
}

/// A layer that takes two or three inputs, and returns the first.
struct First;

impl Build for First {
    fn default_name(&self) -> &str {
        "first"
    }

    fn input_counts(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn build(&self, _: Context) -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(First))
    }
}

impl Layer for First {
    fn kind(&self) -> &'static str {
        "First"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].clone())
    }

    fn output_shape(&self) -> &[usize] {
        &[4]
    }
}

#[test]
fn a_layer_states_how_many_inputs_it_takes() -> Result<()> {
    let mut builder = ModelBuilder::new("net", &[4])?;
    let input = builder.input();
    for count in [0, 1, 4] {
        let found = builder.add("f", First, &vec![input; count]);
        assert_says(found, &["2 to 3 inputs for `f`", &format!("found {count}")]);
    }
    let first = builder.add("f", First, &[input, input])?;
    // A nested model takes as many inputs as it has.
    assert_says(
        builder.add("two", two_inputs()?.up_to("sum")?, &[first]),
        &["2 inputs for `two`", "found 1"],
    );
    assert_eq!(builder.finish(first)?.output_shape(), [4]);
    Ok(())
}

#[test]
fn several_inputs_and_outputs_are_computed_by_name() -> Result<()> {
    let model = two_inputs()?;
    assert_eq!(
        (model.input_names().join(","), model.output_names().join(",")),
        ("image,age".into(), "class,features".into())
    );
    let (image, age) = inputs(40)?;
    let outputs = model.forward_many(&[("age", &age), ("image", &image)], Mode::Inference)?;
    let pooled = model.up_to("pooled")?;
    assert_eq!(pooled.input_names(), ["image"]);
    let features = (pooled.forward(&image, Mode::Inference)? + &age)?;
    assert_eq!(values(&outputs["features"])?, values(&features)?);
    let predicted = model.predict_many(&[("image", &image), ("age", &age)])?;
    assert_eq!(values(&predicted["class"].to_tensor()?)?, values(&outputs["class"])?);
    assert_eq!(predicted["features"].len(), 40);
    // Gradients reach the weights through both outputs.
    let outputs = model.forward_many(&[("image", &image), ("age", &age)], Mode::Training)?;
    let loss = (outputs["class"].sqr()?.sum_all()? + outputs["features"].sqr()?.sum_all()?)?;
    let gradients = loss.backward()?;
    assert!(model.params().iter().all(|param| gradients.get(param.var()).is_some()));
    let wrong = |given: &[(&str, &Tensor)]| model.forward_many(given, Mode::Inference);
    assert_says(wrong(&[("image", &image)]), &["no batch for `age`", "image, age"]);
    assert_says(wrong(&[("image", &image), ("years", &age)]), &["`years`, which is no input"]);
    assert_says(wrong(&[("image", &image), ("age", &age), ("age", &age)]), &["`age` twice"]);
    assert_says(wrong(&[("image", &age), ("age", &age)]), &["input `image` of `two`"]);
    assert_says(
        wrong(&[("image", &image), ("age", &age.narrow(0, 0, 3)?)]),
        &["the same number of samples", "40"],
    );
    assert_says(model.predict_many(&[]), &["no batch for `image`"]);
    Ok(())
}

#[test]
fn functions_for_one_input_and_output_refuse_several() -> Result<()> {
    let mut model = two_inputs()?;
    let (image, age) = inputs(4)?;
    let y = Tensor::zeros(4, DType::U32, &device())?;
    model.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
    let several = ["`two` with 2 inputs (`image`, `age`) and 2 outputs (`class`, `features`)"];
    let training = [several[0], "`value_and_gradients`, `forward_many` and `Optimizer::step`"];
    assert_says(model.fit((&image, &y), Fit::epochs(1).verbose(false)), &training);
    assert_says(model.evaluate(&image, &y), &[several[0], "`predict_many`"]);
    assert_says(model.predict(&image), &several);
    assert_says(model.forward(&image, Mode::Inference), &several);
    assert_says(model.outputs_of(&["pooled"], &image), &several);
    assert_says(model.grad_cam(&image, GradCam::new()), &several);
    assert_says(model.find_learning_rate((&image, &y), 2), &training);
    assert_says(sequential![Input::new((3, 8, 8)), &model], &["2 inputs for `two`"]);
    let mut builder = ModelBuilder::new("outer", &[3, 8, 8])?;
    let ages = builder.add_input("ages", &[4])?;
    let found = builder.add("inner", &model, &[builder.input(), ages]);
    assert_says(found, &["a model with one output for `inner`", "2 outputs"]);
    // One of its outputs can be part of another model.
    let trunk = model.up_to("sum")?;
    let inner = builder.add("inner", &trunk, &[builder.input(), ages])?;
    let outer = builder.finish(inner)?;
    let found = outer.forward_many(&[("input", &image), ("ages", &age)], Mode::Inference)?;
    let expected = model.forward_many(&[("image", &image), ("age", &age)], Mode::Inference)?;
    assert_eq!(values(&found["inner"])?, values(&expected["features"])?);
    assert_says(builder_input_as_sequential(&trunk), &["2 inputs"]);
    Ok(())
}

/// A `Sequential` whose first layer is a model with two inputs.
fn builder_input_as_sequential(model: &Model) -> Result<Model> {
    sequential![model, Dense::new(1)]
}

#[test]
fn models_with_several_ends_are_saved_and_shown() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.safetensors");
    let model = two_inputs()?;
    model.save(&path)?;
    let loaded = Model::load(&path)?;
    let (image, age) = inputs(3)?;
    let run = |model: &Model| model.forward_many(&[("image", &image), ("age", &age)], Mode::Inference);
    assert_eq!(values(&run(&loaded)?["class"])?, values(&run(&model)?["class"])?);
    assert_eq!(loaded.summary().to_string(), model.summary().to_string());
    assert_eq!((loaded.input_names(), loaded.output_names()), (model.input_names(), model.output_names()));
    let text = model.summary().to_string();
    assert!(text.contains("image (InputLayer)") && text.contains("age (InputLayer)"), "{text}");
    let onnx = folder.path().join("two.onnx");
    model.export_onnx(&onnx)?;
    let content = std::fs::read(&onnx).unwrap();
    for name in ["image", "age", "class", "features"] {
        assert!(content.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
    }
    Ok(())
}

fn small_base(seed: u64) -> Result<Model> {
    Vgg16::new(Weights::Random(seed)).alpha(0.1).include_top(false).input_shape((3, 32, 32)).build()
}

#[test]
fn a_sub_model_shares_its_layers_with_the_model() -> Result<()> {
    let base = small_base(1)?;
    let trunk = base.up_to("block3_conv2")?;
    let x = random_uniform((2, 3, 32, 32), -1.0, 1.0)?;
    let of_base = || values(&base.outputs_of(&["block3_conv2"], &x)?[0]);
    assert_eq!(values(&trunk.forward(&x, Mode::Inference)?)?, of_base()?);
    assert_eq!((trunk.name(), trunk.output_shape()), ("vgg16", &[26, 8, 8][..]));
    assert_eq!(trunk.layer_names().last().map(String::as_str), Some("block3_conv2"));
    // A change of one is visible in the other.
    let kernel = &trunk.params()[0];
    kernel.set(&(kernel.value(Mode::Inference) * 2.0)?)?;
    assert_eq!(values(&trunk.forward(&x, Mode::Inference)?)?, of_base()?);
    trunk.freeze();
    assert_eq!(base.trainable_params().len(), base.params().len() - trunk.params().len());
    base.unfreeze_from("block3_conv1")?;
    assert_eq!(trunk.trainable_params().len(), 4);
    assert_eq!(values(&trunk.preprocess(&x)?)?, values(&base.preprocess(&x)?)?);
    // By index, as in Keras: the same layer.
    let number = base.summary().rows.iter().find(|row| row.name == "block3_conv2").map(|row| row.number);
    assert_eq!(base.up_to(number.unwrap())?.layer_names(), trunk.layer_names());
    assert_says(
        base.up_to("block9_conv1"),
        &["no layer named `block9_conv1`", "block5_conv1", "block5_pool"],
    );
    assert_says(base.up_to("input"), &["after its inputs", "the input `input`"]);
    assert_says(base.up_to(99), &["layer", "found 99"]);
    Ok(())
}

#[test]
fn a_sub_model_is_trained_saved_and_exported() -> Result<()> {
    let base = small_base(2)?;
    base.freeze();
    let trunk = base.up_to("block4_pool")?;
    trunk.unfreeze_from("block4_conv3")?;
    let before = values(&base.layer("block4_conv3")?.params()[0].value(Mode::Inference))?;
    let mut model = sequential![&trunk, Flatten, Dense::new(2).activation(Softmax)]?;
    model.compile(SGD::new(0.1), SparseCategoricalCrossentropy, [Accuracy]);
    let x = random_uniform((8, 3, 32, 32), -1.0, 1.0)?;
    let y = Tensor::new(&[0u32, 1, 0, 1, 0, 1, 0, 1], &device())?;
    // With cached features the frozen part runs once.
    let quiet = || Fit::epochs(2).shuffle(false).verbose(false).chart(false).advice(false);
    let cached = model.fit((&x, &y), quiet())?;
    assert_eq!(cached.epochs(), 2);
    let after = values(&base.layer("block4_conv3")?.params()[0].value(Mode::Inference))?;
    assert_ne!(before, after, "training the sub-model changes the base");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path)?;
    let loaded = Model::load(&path)?;
    assert_eq!(loaded.predict(&x)?, model.predict(&x)?);
    assert_eq!(loaded.summary().to_string(), model.summary().to_string());
    trunk.save(&path)?;
    assert_eq!(
        values(&Model::load(&path)?.forward(&x, Mode::Inference)?)?,
        values(&trunk.forward(&x, Mode::Inference)?)?
    );
    trunk.save_weights(&path)?;
    trunk.load_weights(&path)?;
    model.export_onnx(folder.path().join("model.onnx"))?;
    trunk.export_onnx(folder.path().join("trunk.onnx"))?;
    assert_eq!(model.grad_cam(&x, GradCam::new())?.maps.dims(), [8, 32, 32]);
    assert_eq!(trunk.summary().rows.len(), trunk.layer_names().len());
    assert!(!trunk.plan()?.steps.is_empty());
    Ok(())
}

#[test]
fn a_sub_model_ends_inside_a_branch() -> Result<()> {
    let base =
        ResNet50::new(Weights::Random(1)).alpha(0.05).include_top(false).input_shape((3, 32, 32)).build()?;
    let x = random_uniform((2, 3, 32, 32), -1.0, 1.0)?;
    for name in ["conv2_block1_0_bn", "conv2_block1_2_conv", "conv3_block2_add", "conv4_block6_out"] {
        let trunk = base.up_to(name)?;
        let expected = base.outputs_of(&[name], &x)?;
        assert_eq!(values(&trunk.forward(&x, Mode::Inference)?)?, values(&expected[0])?, "{name}");
        assert_eq!(trunk.up_to(name)?.layer_names(), trunk.layer_names());
        let same = trunk.layer_names().iter().all(|known| base.layer_names().contains(known));
        assert!(same && trunk.layer_names().len() < base.layer_names().len());
    }
    Ok(())
}

#[test]
fn layers_of_nested_models_have_paths() -> Result<()> {
    let base = small_base(3)?;
    let model = sequential![&base, Flatten, Dense::new(2).activation(Softmax)]?;
    let x = random_uniform((2, 3, 32, 32), -1.0, 1.0)?;
    let path = "vgg16/block5_conv1";
    let names = [path, "vgg16/block5_pool", "flatten", "vgg16", "block5_conv1"];
    let outputs = model.outputs_of(&names, &x)?;
    assert_eq!(values(&outputs[0])?, values(&base.outputs_of(&["block5_conv1"], &x)?[0])?);
    assert_eq!(values(&outputs[0])?, values(&outputs[4])?);
    assert_eq!(values(&outputs[1])?, values(&outputs[3])?);
    assert_eq!(values(&outputs[2])?, values(&outputs[3])?);
    assert!(Arc::ptr_eq(&model.layer(path)?, &base.layer("block5_conv1")?));
    assert_eq!(model.layer("vgg16")?.kind(), "Model");
    let heat =
        |name: &str| -> Result<Vec<f32>> { values(&model.grad_cam(&x, GradCam::new().layer(name))?.maps) };
    assert_eq!(heat(path)?, heat("block5_conv1")?);
    model.params().iter().for_each(|param| param.set_trainable(false));
    model.unfreeze_from(path)?;
    assert_eq!(base.trainable_params().len(), 6);
    model.freeze_until("vgg16")?;
    assert_eq!((base.trainable_params().len(), model.trainable_params().len()), (0, 2));
    model.unfreeze_from("vgg16")?;
    assert_eq!(base.trainable_params().len(), base.params().len());
    let trunk = model.up_to(path)?;
    assert_eq!(values(&trunk.forward(&x, Mode::Inference)?)?, values(&outputs[0])?);
    assert!(Arc::ptr_eq(&trunk.layer(path)?, &base.layer("block5_conv1")?));
    for unknown in ["vgg16/none", "none/block5_conv1", "vgg16/", "/", ""] {
        assert_says(model.layer(unknown), &["no layer named", "block5_conv1"]);
    }
    Ok(())
}

#[test]
fn fine_tuning_takes_a_path() -> Result<()> {
    let x = random_uniform((4, 3, 64, 64), -1.0, 1.0)?;
    let y = Tensor::new(&[0u32, 1, 0, 1], &device())?;
    let trainable = |from: &str| -> Result<(Model, usize)> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let mut model = sequential![&base, Flatten, Dense::new(2).activation(Softmax)]?;
        model.compile(SGD::new(0.01), SparseCategoricalCrossentropy, [Accuracy]);
        let fit = || Fit::epochs(1).verbose(false).chart(false).advice(false);
        model.fine_tune((&x, &y), from, fit(), fit())?;
        Ok((model, base.trainable_params().len()))
    };
    assert_eq!(trainable("block5_conv2")?.1, 4);
    assert_eq!(trainable("vgg16/block5_conv2")?.1, 4);
    assert_eq!(trainable("vgg16")?.1, 26);
    assert_says(trainable("vgg16/block9").map(|_| ()), &["no layer named `vgg16/block9`"]);
    Ok(())
}

#[test]
fn a_name_in_several_nested_models_needs_a_path() -> Result<()> {
    let branch = || sequential![Input::new(4), Dense::new(4)];
    let mut builder = ModelBuilder::new("both", &[4])?;
    let left = builder.add("left", branch()?, &[builder.input()])?;
    let right = builder.add("right", branch()?, &[builder.input()])?;
    let sum = builder.add("sum", Add, &[left, right])?;
    let model = builder.finish(sum)?;
    let x = random_uniform((2, 4), -1.0, 1.0)?;
    let ambiguous = ["`left/dense`", "`right/dense`", "found dense"];
    assert_says(model.layer("dense"), &ambiguous);
    assert_says(model.unfreeze_from("dense"), &ambiguous);
    assert_says(model.outputs_of(&["dense"], &x), &ambiguous);
    assert_says(model.up_to("dense"), &ambiguous);
    let outputs = model.outputs_of(&["left/dense", "right/dense", "sum"], &x)?;
    assert_eq!(values(&(&outputs[0] + &outputs[1])?)?, values(&outputs[2])?);
    // A layer of the model itself comes first.
    let outer = sequential![model, Dense::new(2)]?;
    assert_eq!(outer.layer("dense")?.output_shape(), [2]);
    assert_eq!(outer.layer("both/left/dense")?.output_shape(), [4]);
    Ok(())
}
