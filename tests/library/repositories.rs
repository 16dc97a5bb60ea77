//! Weights of repositories in timm's form: `config.json` and `model.safetensors`, in a folder or in the Hub's cache.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use headstart::models::Network;
use headstart::prelude::*;
use headstart::weights::Hub;

const CONFIG: &str = r#"{
  "architecture": "ARCHITECTURE", "num_classes": 7, "num_features": 512, "pretrained_cfg": {
    "tag": "mine", "input_size": [3, 96, 96], "interpolation": "bicubic", "crop_pct": 0.95,
    "mean": [0.5, 0.25, 0.75], "std": [0.5, 0.2, 0.1], "num_classes": 7, "license": "apache-2.0"
  }
}"#;

/// Writes weights of a ResNet18 with seven classes, with torchvision's names.
fn write_weights(folder: &Path) {
    let state: HashMap<String, Tensor> = super::families::resnet18_state(7).into_iter().collect();
    candle_core::safetensors::save(&state, folder.join("model.safetensors")).unwrap();
}

fn repository(architecture: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), CONFIG.replace("ARCHITECTURE", architecture)).unwrap();
    folder
}

fn weights_at(folder: &Path) -> Weights {
    Weights::hub(folder.to_str().unwrap())
}

#[test]
fn a_repository_gives_size_classes_and_preprocessing() -> HeadstartResult<()> {
    let folder = repository("resnet18");
    write_weights(folder.path());
    let model = Network::named("resnet18", weights_at(folder.path()))?.build()?;
    assert_eq!((model.input_shape(), model.output_shape()), (&[3, 96, 96][..], &[7][..]));
    let white = (Tensor::ones((1, 3, 96, 96), DType::F32, &device())? * 255.0)?;
    let pixel = model.preprocess(&white)?.i((0, .., 0, 0))?.to_vec1::<f32>()?;
    let expected = [0.5 / 0.5, 0.75 / 0.2, 0.25 / 0.1];
    assert!(pixel.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-4), "{pixel:?}");
    // An explicit size and number of classes take precedence. With another number of classes, the top does not fit.
    let base =
        ResNet18::new(weights_at(folder.path())).include_top(false).input_shape((3, 64, 64)).build()?;
    assert_eq!(base.output_shape(), [512, 2, 2]);
    let error = ResNet18::new(weights_at(folder.path())).classes(5).build().unwrap_err().to_string();
    assert!(error.contains("the file is for 7 classes"), "{error}");
    Ok(())
}

/// Mean and largest absolute difference from the pixels of `tests/fixtures/resizing.py`.
fn distances(found: &Tensor, pixels: &Tensor) -> (f32, f32) {
    let far = (found - pixels.to_dtype(DType::F32).unwrap()).unwrap().abs().unwrap();
    (far.mean_all().unwrap().to_scalar().unwrap(), far.max_all().unwrap().to_scalar().unwrap())
}

#[test]
fn images_for_a_model_are_resized_as_timm_does() -> HeadstartResult<()> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resizing.safetensors");
    let known = candle_core::safetensors::load(fixture, &Device::Cpu)?;
    let cases = [
        ([32, 32], "bicubic", 0.95, "center"),
        ([32, 32], "bilinear", 0.875, "center"),
        ([32, 32], "bicubic", 1.0, "center"),
        ([48, 48], "bicubic", 0.9, "center"),
        ([40, 40], "bicubic", 0.6, "center"),
        ([32, 32], "bicubic", 0.9, "squash"),
        ([32, 40], "bilinear", 0.8, "center"),
    ];
    let folder = repository("resnet18");
    write_weights(folder.path());
    for (number, ([height, width], interpolation, crop, mode)) in cases.into_iter().enumerate() {
        let config = CONFIG
            .replace("ARCHITECTURE", "resnet18")
            .replace("\"bicubic\"", &format!("\"{interpolation}\""));
        let config = config.replace("0.95", &format!("{crop}, \"crop_mode\": \"{mode}\""));
        fs::write(folder.path().join("config.json"), config).unwrap();
        let network = ResNet18::new(weights_at(folder.path())).include_top(false);
        let model = network.input_shape((3, height, width)).build()?;
        let path = folder.path().join(format!("{number}.png"));
        fs::write(&path, known[&format!("{number}.file")].to_vec1::<u8>()?).unwrap();
        let images = ImageFiles::from_paths([(&path, "class")], &model)?.load()?;
        let (mean, most) = distances(&images.x.get(0)?, &known[&format!("{number}.pixels")]);
        println!("{number}: {interpolation} {crop} {mode}, mean difference {mean}, largest {most}");
        assert!(mean < 0.05 && most <= 1.0, "{number}: {mean}, {most}");
        // With a size only, the whole image is resized.
        let whole = ImageFiles::from_paths([(&path, "class")], (height, width))?.load()?;
        assert!(distances(&whole.x.get(0)?, &known[&format!("{number}.pixels")]).0 > 1.0);
    }
    // The settings of a nested model's weights are used, and are saved with the model.
    let base =
        ResNet18::new(weights_at(folder.path())).include_top(false).input_shape((3, 32, 32)).build()?;
    let model = sequential![base, GlobalAveragePooling2D, Dense::new(2)]?;
    let saved = folder.path().join("model.safetensors.saved");
    model.save(&saved)?;
    let path = folder.path().join("0.png");
    let read = |model: &Model| ImageFiles::from_paths([(&path, "class")], model)?.load();
    let (expected, found) = (read(&model)?, read(&Model::load(&saved)?)?);
    assert_eq!(found.x.flatten_all()?.to_vec1::<f32>()?, expected.x.flatten_all()?.to_vec1::<f32>()?);
    let error =
        ImageFiles::from_paths([(&path, "class")], &sequential![Input::new(4), Dense::new(1)]?).unwrap_err();
    assert!(error.to_string().contains("(height, width)"), "{error}");
    Ok(())
}

#[test]
fn weights_of_another_network_are_refused() {
    let folder = repository("resnet34");
    write_weights(folder.path());
    let error = ResNet18::new(weights_at(folder.path())).build().unwrap_err().to_string();
    assert!(error.contains("weights for resnet18") && error.contains("which are for resnet34"), "{error}");
    let error = ResNet18::new(Weights::named("resnet50.a1_in1k")).build().unwrap_err().to_string();
    assert!(error.contains("weights for resnet18"), "{error}");
    let error = ResNet18::new(Weights::named("resnet34.a1_in1k")).build().unwrap_err().to_string();
    assert!(error.contains("resnet34.a1_in1k"), "{error}");
    let error = ResNet18::new(Weights::hub("not a repository")).build().unwrap_err().to_string();
    assert!(error.contains("owner and name") && error.contains("not a repository"), "{error}");
    for path in ["../secret", "a/b/c", "a/..", "/etc"] {
        assert!(ResNet18::new(Weights::hub(path)).build().is_err(), "{path}");
    }
}

/// timm's `tf_…` networks have TensorFlow's padding and epsilon, and the same tensors as those without `tf_`.
#[test]
fn weights_from_tensorflow_get_their_own_form() -> HeadstartResult<()> {
    let x = (Tensor::arange(0f32, 12288.0, &device())?.reshape((1, 3, 64, 64))? / 12288.0)?;
    let small = |network: Network| network.alpha(1.0 / 16.0).input_shape((3, 64, 64)).include_top(false);
    let outputs = |name: &str, weights: Weights| -> HeadstartResult<Vec<f32>> {
        let model = small(Network::named(name, weights)?).build()?;
        Ok(model.predict(&x)?.to_tensor()?.flatten_all()?.to_vec1()?)
    };
    for name in ["efficientnet_b0", "efficientnet_b1"] {
        let with_prefix = format!("tf_{name}");
        let (plain, tensorflow) = (repository(name), repository(&with_prefix));
        let path = plain.path().join("model.safetensors");
        small(Network::named(name, Weights::Random(0))?).build()?.save_weights(&path)?;
        fs::copy(&path, tensorflow.path().join("model.safetensors")).unwrap();
        let found = outputs(name, weights_at(tensorflow.path()))?;
        assert_ne!(found, outputs(name, weights_at(plain.path()))?, "{name}");
        assert_eq!(found, outputs(&with_prefix, weights_at(tensorflow.path()))?, "{name}");
        assert_eq!(found, outputs(&with_prefix, Weights::file(&path))?, "{name}");
        let error = outputs(&with_prefix, weights_at(plain.path())).unwrap_err().to_string();
        assert!(
            error.contains(&format!("weights for {with_prefix}")) && error.contains("padding"),
            "{error}"
        );
    }
    // Lite0 has TensorFlow's form only, and ResNet18 PyTorch's only.
    for (name, published, fits) in [
        ("efficientnet_lite0", "tf_efficientnet_lite0", true),
        ("efficientnet_lite0", "efficientnet_lite0", false),
        ("resnet18", "tf_resnet18", false),
    ] {
        let folder = repository(published);
        let path = folder.path().join("model.safetensors");
        small(Network::named(name, Weights::Random(0))?).build()?.save_weights(path)?;
        assert_eq!(outputs(name, weights_at(folder.path())).is_ok(), fits, "{published}");
    }
    assert!(Network::named("tf_resnet18", Weights::Random(0)).is_err());
    Ok(())
}

/// A file without metadata of its own, as timm's.
#[test]
fn the_description_beside_a_file_is_read() -> HeadstartResult<()> {
    let x = (Tensor::arange(0f32, 12288.0, &device())?.reshape((1, 3, 64, 64))? / 48.0)?;
    let build = |weights: Weights| {
        let network = Network::named("efficientnet_b0", weights)?.alpha(1.0 / 16.0);
        network.input_shape((3, 64, 64)).include_top(false).build()
    };
    let outputs = |weights: Weights| -> HeadstartResult<Vec<f32>> {
        let model = build(weights)?;
        Ok(model.predict(&model.preprocess(&x)?)?.to_tensor()?.flatten_all()?.to_vec1()?)
    };
    let folder = repository("tf_efficientnet_b0");
    let [own, file, named] =
        ["own.safetensors", "model.safetensors", "tf_efficientnet_b0_ns-c0e6a31c.safetensors"]
            .map(|name| folder.path().join(name));
    build(Weights::Random(0))?.save_weights(&own)?;
    let tensors = headstart::weights::read_file(&own)?;
    candle_core::safetensors::save(&tensors, &file)?;
    fs::copy(&file, &named).unwrap();
    let expected = outputs(weights_at(folder.path()))?;
    assert_eq!(outputs(Weights::file(&file))?, expected);
    // The name of a file says the form, but not the preprocessing.
    let tensorflow = build(Weights::file(&named))?;
    let prepared = build(weights_at(folder.path()))?.preprocess(&x)?;
    assert_eq!(tensorflow.predict(&prepared)?, build(Weights::file(&file))?.predict(&prepared)?);
    // Descriptions of other networks and of other programs are ignored.
    let config = folder.path().join("config.json");
    fs::write(&config, "{\"model_type\": \"bert\"}").unwrap();
    let plain = outputs(Weights::file(&file))?;
    assert_ne!(plain, expected);
    fs::write(&config, CONFIG.replace("ARCHITECTURE", "resnet18")).unwrap();
    assert_eq!(outputs(Weights::file(&file))?, plain);
    fs::write(&config, "{\"architecture\": \"efficientnet_b0\"}").unwrap();
    let error = outputs(Weights::file(&file)).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("pretrained_cfg"), "{error}");
    // A file of this library describes itself.
    fs::write(&config, CONFIG.replace("ARCHITECTURE", "tf_efficientnet_b0")).unwrap();
    fs::copy(&own, &file).unwrap();
    assert_eq!(outputs(Weights::file(&file))?, plain);
    Ok(())
}

#[test]
fn incomplete_repositories_are_refused() {
    let folder = repository("resnet18");
    let error = |expected: &[&str]| {
        let error = ResNet18::new(weights_at(folder.path())).build().unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    error(&["model.safetensors or pytorch_model.bin"]);
    let config = folder.path().join("config.json");
    for (text, expected) in [
        ("{", "architecture"),
        ("[]", "architecture"),
        (r#"{"architecture": "resnet18"}"#, "pretrained_cfg"),
        (&CONFIG.replace("0.2, 0.1", "0.0, 0.1"), "positive deviations"),
        (&CONFIG.replace("[3, 96, 96]", "[1, 96, 96]"), "square RGB images"),
        (&CONFIG.replace("[3, 96, 96]", "[3, 96, 64]"), "square RGB images"),
        (&CONFIG.replace("[3, 96, 96]", "[3, -1, -1]"), "input_size"),
    ] {
        fs::write(&config, text.replace("ARCHITECTURE", "resnet18")).unwrap();
        error(&["config.json", expected]);
    }
    fs::remove_file(&config).unwrap();
    error(&["config.json"]);
}

#[test]
fn weights_without_a_top_need_include_top_false() {
    let folder = repository("vit_small_patch14_dinov2");
    let config = CONFIG.replace("ARCHITECTURE", "vit_small_patch14_dinov2").replace(": 7", ": 0");
    fs::write(folder.path().join("config.json"), config.replace("96", "70")).unwrap();
    let network = Network::named("vit_small_patch14_dinov2", weights_at(folder.path())).unwrap();
    let error = network.build().unwrap_err().to_string();
    assert!(error.contains("include_top") && error.contains("no top"), "{error}");
}

#[test]
fn a_description_is_downloaded_once() -> HeadstartResult<()> {
    let folder = tempfile::tempdir().unwrap();
    let config = CONFIG.replace("ARCHITECTURE", "resnet18");
    let server = super::hub::serve(config.as_bytes(), vec![super::hub::Conduct::Well]);
    let hub = Hub {
        endpoint: Some(server.address.clone()),
        shared_cache: None,
        folder: folder.path().to_owned(),
        offline: false,
        timeout: Duration::from_secs(5),
    };
    let about = hub.describe("timm/resnet18.mine")?;
    assert_eq!((&*about.network, about.classes, about.side), ("resnet18", Some(7), Some(96)));
    assert_eq!((about.interpolation.as_deref(), about.crop), (Some("bicubic"), Some(0.95)));
    assert_eq!((&*about.repository, &*about.file), ("timm/resnet18.mine", "model.safetensors"));
    assert_eq!(about.licence, "apache-2.0");
    // The second time it comes from the cache.
    let offline = Hub { offline: true, ..hub.clone() };
    assert_eq!(offline.describe("timm/resnet18.mine")?.network, "resnet18");
    assert!(offline.describe("timm/resnet18.other").is_err());
    // An error page is not a valid description.
    let server = super::hub::serve(config.as_bytes(), vec![super::hub::Conduct::Page]);
    let error = Hub { endpoint: Some(server.address.clone()), ..hub }.describe("timm/page").unwrap_err();
    assert!(error.to_string().contains("expected config.json to be JSON"), "{error}");
    Ok(())
}
