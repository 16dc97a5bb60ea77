//! Weight files as PyTorch and Keras users save them. `tests/fixtures/torch_files.py` wrote the PyTorch files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use headstart::Result;
use headstart::prelude::*;
use headstart::weights::read_file;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch_files").join(name)
}

/// The network of the files, with a 64th of the channels.
fn network(file: &Path) -> Result<Model> {
    let network = Vgg16::new(Weights::file(file)).alpha(1.0 / 64.0).include_top(false);
    network.input_shape((3, 32, 32)).build()
}

#[test]
fn pytorch_checkpoints_and_prefixes_give_the_plain_weights() -> Result<()> {
    let x = random_uniform((2, 3, 32, 32), -2.0, 2.0)?;
    let expected = network(&fixture("plain.pth"))?.predict(&x)?;
    let mut read = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pth") {
            let found = network(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(found.predict(&x)?, expected, "{}", path.display());
            read += 1;
        }
    }
    assert!(read >= 16, "{read}");
    Ok(())
}

#[test]
fn buffers_and_rounded_weights_of_pytorch_are_read() -> Result<()> {
    for file in ["buffers.pth", "buffers_legacy.pth"] {
        let tensors = read_file(fixture(file))?;
        let values = |name: &str| tensors[name].flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>();
        assert_eq!(values("index")?, [-3, 100, 7, -128]);
        assert_eq!(values("short")?, [-3, 30000]);
        assert_eq!(values("int")?, [-3, 1 << 30]);
        assert_eq!(values("long")?, [-3, 1 << 40]);
        assert_eq!(values("byte")?, [3, 255]);
        assert_eq!(values("mask")?, [1, 0]);
    }
    let plain = network(&fixture("plain.pth"))?;
    for (file, dtype) in [("float16.pt", DType::F16), ("bfloat16.pt", DType::BF16)] {
        let rounded = network(&fixture(file))?;
        for (found, exact) in rounded.params().iter().zip(plain.params()) {
            let expected = exact.value(Mode::Inference).to_dtype(dtype)?.to_dtype(DType::F32)?;
            let [found, expected] =
                [found.value(Mode::Inference), expected].map(|tensor| tensor.flatten_all());
            assert_eq!(found?.to_vec1::<f32>()?, expected?.to_vec1::<f32>()?, "{file}: {}", exact.name());
        }
    }
    Ok(())
}

/// The network of `plain.pth` with its weights under other names, and zeros of these shapes.
fn renamed(prefixes: &[&str], more: &[(&str, &[usize])]) -> Result<Model> {
    let plain = read_file(fixture("plain.pth"))?;
    let names =
        prefixes.iter().flat_map(|prefix| plain.iter().map(move |(name, t)| (format!("{prefix}{name}"), t)));
    let mut tensors: HashMap<String, Tensor> = names.map(|(name, tensor)| (name, tensor.clone())).collect();
    for (name, shape) in more {
        tensors.insert((*name).to_owned(), Tensor::zeros(*shape, DType::F32, &device())?);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    candle_core::safetensors::save(&tensors, &path)?;
    network(&path)
}

#[test]
fn a_network_inside_a_larger_model_is_found() -> Result<()> {
    let x = random_uniform((2, 3, 32, 32), -2.0, 2.0)?;
    let expected = network(&fixture("plain.pth"))?.predict(&x)?;
    type More = &'static [(&'static str, &'static [usize])];
    let head: More = &[("fc.weight", &[2, 8]), ("fc.bias", &[2])];
    let perceptron: More =
        &[("mlp.0.weight", &[4, 8]), ("mlp.0.bias", &[4]), ("mlp.2.weight", &[2, 4]), ("mlp.2.bias", &[2])];
    let decoder: More = &[("decoder.0.weight", &[8, 8, 3, 3]), ("decoder.0.bias", &[8])];
    let cases: [(&str, More); 6] = [
        ("encoder.", &[]),
        ("0.", &[]),
        ("student.backbone.", head),
        ("encoder.", decoder),
        ("backbone.", head),
        ("backbone.", perceptron),
    ];
    for (prefix, more) in cases {
        assert_eq!(renamed(&[prefix], more)?.predict(&x)?, expected, "{prefix}, {more:?}");
    }
    // Which one is wanted is unknown; and a larger network is no head.
    assert!(renamed(&["student.", "teacher."], &[]).is_err());
    assert!(renamed(&["encoder."], &[("encoder.features.99.weight", &[8, 8, 3, 3])]).is_err());
    assert!(renamed(&["backbone."], &[("features.99.weight", &[8, 8])]).is_err());
    Ok(())
}

#[test]
fn pickled_pytorch_models_are_rejected_with_a_remedy() {
    for (file, parts) in [
        ("whole_model.pt", ["a whole model of class `__main__.Net`", "weights_only=False).state_dict()"]),
        (
            "whole_sequential.pt",
            ["torch.nn.modules.container.Sequential", "weights_only=False).state_dict()"],
        ),
        ("script.pt", ["it is TorchScript", "torch.jit.load("]),
    ] {
        let error = network(&fixture(file)).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part) && error.contains(file), "{file}: {part} is not in: {error}");
        }
        assert!(!error.contains("damaged"), "{error}");
    }
}

#[test]
fn pointers_and_web_pages_in_place_of_weights_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for (content, remedy) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 102469840\n", "git lfs pull"),
        ("<!DOCTYPE html><html><head><title>Sign in</title></head></html>", "a web page"),
        ("\n<html><body>Not found</body></html>", "a web page"),
    ] {
        fs::write(&path, content).unwrap();
        for error in [read_file(&path).unwrap_err(), Model::load(&path).unwrap_err()] {
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
}

/// Every truncated archive is an error, never a panic.
#[test]
fn truncated_archives_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(fixture("checkpoint.pth")).unwrap();
    let path = folder.path().join("cut.pth");
    for length in (0..whole.len()).step_by(whole.len() / 97) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(read_file(&path).is_err(), "{length} of {}", whole.len());
    }
}

/// Path of a Keras file, written by `tests/fixtures/keras_saved.py`.
fn keras(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keras_saved").join(name)
}

fn narrow(network: headstart::models::Network) -> headstart::models::Network {
    network.alpha(1.0 / 32.0).input_shape((3, 64, 64)).include_top(false)
}

fn transfer_model() -> Result<Model> {
    let base = narrow(Vgg16::new(Weights::Random(0))).build()?;
    let (hidden, last) = (Dense::new(8).activation(Relu), Dense::new(1).activation(Sigmoid));
    sequential![&base, Flatten, hidden, Dropout::new(0.5), last]
}

#[test]
fn keras_models_load_from_every_file_format() -> Result<()> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let known = candle_core::safetensors::load(files.join("keras_files.safetensors"), &device())?;
    let pixels: Vec<f32> =
        crate::parity::draw(1000, &[2, 3, 64, 64]).iter().map(|value| value * 2.0 - 1.0).collect();
    let x = Tensor::from_vec(pixels, (2, 3, 64, 64), &device())?;
    // With `dense_2` and `dense_3` of a session's second model; a flat functional model; archives of both.
    for file in ["transfer.keras", "transfer.h5", "flat.weights.h5", "flat.keras"] {
        let model = transfer_model()?;
        model.load_weights(keras(file))?;
        let found = model.predict(&x)?.to_tensor()?;
        let far = (found - &known["transfer"])?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(far < 1e-5, "{file}: {far}");
    }
    Ok(())
}

#[test]
fn nested_networks_load_from_whole_models() -> Result<()> {
    let x = random_uniform((1, 3, 64, 64), -1.0, 1.0)?;
    let model = transfer_model()?;
    model.load_weights(keras("transfer.keras"))?;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.safetensors");
    model.save(&own)?;
    let expected = model.outputs_of(&["block5_pool"], &x)?.swap_remove(0).flatten_all()?.to_vec1::<f32>()?;
    for file in [keras("transfer.keras"), keras("transfer.h5"), own] {
        let base = narrow(Vgg16::new(Weights::file(&file))).build()?;
        let found = base.forward(&x, Mode::Inference)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(found, expected, "{}", file.display());
    }
    let inside = narrow(ResNet50::new(Weights::file(keras("resnet50_inside.weights.h5")))).build()?;
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keras_resnet50.weights.h5");
    let whole = narrow(ResNet50::new(Weights::file(whole))).build()?;
    assert_eq!(inside.predict(&x)?, whole.predict(&x)?);
    Ok(())
}

#[test]
fn weights_with_another_top_get_a_hint() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let network = |weights| Vgg16::new(weights).alpha(1.0 / 64.0);
    network(Weights::Random(0)).input_shape((3, 64, 64)).classes(7).build()?.save_weights(&path)?;
    let says = |network: headstart::models::Network, part: &str| {
        let error = network.build().unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("fc2"), "{error}");
    };
    let file = || network(Weights::file(&path));
    says(file().input_shape((3, 64, 64)), "the file is for 7 classes: `.classes(7)`");
    says(file().input_shape((3, 96, 96)).classes(7), "images of another size");
    network(Weights::Random(0)).input_shape((3, 64, 64)).include_top(false).build()?.save_weights(&path)?;
    says(file().input_shape((3, 64, 64)), "`.include_top(false)`");
    Ok(())
}

/// Like Keras's `load_weights(path, skip_mismatch=True)`: a layer is loaded completely or not at all.
#[test]
fn mismatched_layers_are_skipped() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let of = |inputs: usize, classes: usize| {
        sequential![Input::new(inputs), Dense::new(8), BatchNormalization::default(), Dense::new(classes)]
    };
    let values = |model: &Model| -> Result<Vec<Vec<f32>>> {
        let values =
            model.params().into_iter().map(|param| param.value(Mode::Inference).flatten_all()?.to_vec1());
        Ok(values.collect::<candle_core::Result<_>>()?)
    };
    let saved = of(4, 5)?;
    for param in saved.params() {
        param.set(&random_uniform(param.value(Mode::Inference).dims(), 1.0, 2.0)?)?;
    }
    saved.save_weights(&path)?;
    let (saved, other_top, other_input) = (values(&saved)?, of(4, 3)?, of(6, 5)?);
    for (model, kept) in [(&other_top, 6..8), (&other_input, 0..2)] {
        let before = values(model)?;
        assert!(model.load_weights(&path).is_err());
        assert_eq!(values(model)?, before);
        model.load_weights_skip_mismatch(&path)?;
        for (at, value) in values(model)?.iter().enumerate() {
            assert_eq!(value, if kept.contains(&at) { &before[at] } else { &saved[at] }, "{at}");
        }
    }
    let none = sequential![Input::new(3), Dense::new(2)]?;
    let problem = none.load_weights_skip_mismatch(&path).unwrap_err().to_string();
    assert!(problem.contains("no layer fits") && problem.contains("dense/kernel"), "{problem}");
    Ok(())
}

#[test]
fn keras_files_with_other_classes_load_the_other_layers() -> Result<()> {
    let whole = transfer_model()?;
    for file in ["transfer.keras", "transfer.h5", "flat.weights.h5"] {
        whole.load_weights(keras(file))?;
        let base = narrow(Vgg16::new(Weights::Random(0))).build()?;
        let model =
            sequential![&base, Flatten, Dense::new(8).activation(Relu), Dropout::new(0.5), Dense::new(3)]?;
        let last = model.params().last().unwrap().value(Mode::Inference).copy()?;
        model.load_weights_skip_mismatch(keras(file))?;
        let (found, expected) = (model.params(), whole.params());
        let count = found.len();
        for (found, expected) in found[..count - 2].iter().zip(&expected) {
            let [found, expected] = [found, expected].map(|param| param.value(Mode::Inference).flatten_all());
            assert_eq!(found?.to_vec1::<f32>()?, expected?.to_vec1::<f32>()?, "{file}");
        }
        assert_eq!(found[count - 1].value(Mode::Inference).to_vec1::<f32>()?, last.to_vec1::<f32>()?);
    }
    Ok(())
}

#[test]
fn networks_skip_mismatched_layers() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let network = |weights| Vgg16::new(weights).alpha(1.0 / 64.0).input_shape((3, 32, 32));
    let saved = network(Weights::Random(1)).classes(7).build()?;
    saved.save_weights(&path)?;
    let built = network(Weights::file(&path)).classes(3).skip_mismatch(true).build()?;
    let (saved, built) = (saved.params(), built.params());
    for (at, (built, saved)) in built.iter().zip(&saved).enumerate().take(saved.len() - 2) {
        let [built, saved] = [built, saved].map(|param| param.value(Mode::Inference).flatten_all());
        assert_eq!(built?.to_vec1::<f32>()?, saved?.to_vec1::<f32>()?, "{at}");
    }
    // The skipped kernel has random values, not zeros.
    let kernel = built[built.len() - 2].value(Mode::Inference);
    assert!(kernel.sqr()?.sum_all()?.to_scalar::<f32>()? > 0.0);
    Ok(())
}

/// A checkpoint of PyTorch's ImageNet example (`main.py`): `best_acc1` is a tensor beside `state_dict`.
const BEST: &str = "504b0304140000000000e0927e5d55cf8d1d6b0100006b01000010000000617263686976652f646174612e706b6c80027d710028580500\
    000065706f636871014b03580400000061726368710258030000006e65747103580a00000073746174655f64696374710463636f6c6c65\
    6374696f6e730a4f726465726564446963740a71052952710628580900000066632e776569676874710763746f7263682e5f7574696c73\
    0a5f72656275696c645f74656e736f725f76320a71082828580700000073746f72616765710963746f7263680a466c6f617453746f7261\
    67650a710a580100000030710b5803000000637075710c4b0674710d514b004b024b0386710e4b034b0186710f89680529527110747111\
    527112580700000066632e626961737113680828286809680a5801000000317114680c4b02747115514b004b028571164b018571178968\
    052952711874711952711a755809000000626573745f61636331711b680828286809680a580100000032711c680c4b0174711d514b004b\
    0185711e4b0185711f89680529527120747121527122752e504b0304140000000000e0927e5d853de31906000000060000001100000061\
    7263686976652f627974656f726465726c6974746c65504b0304140000000000e0927e5d24e5391918000000180000000e000000617263\
    686976652f646174612f300000803f0000004000004040000080400000a0400000c040504b0304140000000000e0927e5dde75b1bc0800\
    0000080000000e000000617263686976652f646174612f310000003f0000803e504b0304140000000000e0927e5d865f09900400000004\
    0000000e000000617263686976652f646174612f320000af42504b0304140000000000e0927e5dd19e675502000000020000000f000000\
    617263686976652f76657273696f6e330a504b01021403140000000000e0927e5d55cf8d1d6b0100006b01000010000000000000000000\
    0000800100000000617263686976652f646174612e706b6c504b01021403140000000000e0927e5d853de3190600000006000000110000\
    000000000000000000800199010000617263686976652f627974656f72646572504b01021403140000000000e0927e5d24e53919180000\
    00180000000e00000000000000000000008001ce010000617263686976652f646174612f30504b01021403140000000000e0927e5dde75\
    b1bc08000000080000000e0000000000000000000000800112020000617263686976652f646174612f31504b01021403140000000000e0\
    927e5d865f099004000000040000000e0000000000000000000000800146020000617263686976652f646174612f32504b010214031400\
    00000000e0927e5dd19e675502000000020000000f0000000000000000000000800176020000617263686976652f76657273696f6e504b\
    050600000000060006006e010000a50200000000";

#[test]
fn checkpoints_with_a_tensor_beside_the_state_dict_are_unwrapped() -> Result<()> {
    let bytes: Vec<u8> =
        (0..BEST.len()).step_by(2).map(|at| u8::from_str_radix(&BEST[at..at + 2], 16).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.pth");
    fs::write(&path, bytes).unwrap();
    let tensors = read_file(&path)?;
    assert!(tensors.contains_key("fc.weight"), "{:?}", tensors.keys());
    Ok(())
}

#[test]
fn a_folder_is_no_weight_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = sequential![Input::new(2), Dense::new(1)]?;
    for error in [Model::load(folder.path()).unwrap_err(), model.load_weights(folder.path()).unwrap_err()] {
        assert!(error.to_string().contains("this is a folder"), "{error}");
    }
    Ok(())
}
