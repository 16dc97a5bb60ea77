//! ONNX files of vision transformers become trainable models (`tests/fixtures/onnx_transformers.py`).

use headstart::models::Network;
use headstart::prelude::*;

use crate::onnx_import::{assert_near, changed, check_round_trip, check_torch, import, known, replaced};

const TRANSFORMERS: [&str; 8] = [
    "vit",
    "vit_new",
    "vit_timm",
    "vit_timm_new",
    "vit_registers",
    "vit_registers_new",
    "vit_separate",
    "vit_separate_new",
];

fn kinds(model: &Model) -> Vec<&'static str> {
    model.summary().rows.iter().map(|row| row.kind).collect()
}

#[test]
fn vision_transformers_match_onnxruntime_and_torch() -> HeadstartResult<()> {
    let fixture = known("transformers.safetensors");
    for name in TRANSFORMERS {
        check_torch(&fixture, name);
        let model = import(&format!("torch_{name}"))?;
        let kinds = kinds(&model);
        let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
        assert_eq!(count("MultiHeadAttention"), 2, "{name}: {kinds:?}");
        assert_eq!(count("FirstToken"), 1, "{name}: {kinds:?}");
        assert_eq!(count("ClassToken"), if name.contains("registers") { 3 } else { 1 }, "{name}: {kinds:?}");
        // Gradient of the first block's queries, keys and values.
        let Some(expected) = fixture.get(&format!("{name}.qkv")) else { continue };
        let rows = model.summary().rows;
        let label = &rows.iter().find(|row| row.kind == "MultiHeadAttention").unwrap().name;
        let attention = model.layer(&**label)?;
        let w = &fixture[&format!("{name}.w")];
        let loss = || {
            let y = model.forward(&fixture[&format!("{name}.x")], Mode::Training)?;
            (y * w)?.sum_all().map_err(Into::into)
        };
        let (_, gradients) = headstart::ops::value_and_gradients(loss)?;
        let found = gradients.get(attention.params()[0].var()).unwrap();
        assert_near(&format!("{name}, gradient of {label}"), found, expected);
    }
    Ok(())
}

#[test]
fn attention_has_the_name_of_its_weights() -> HeadstartResult<()> {
    for (name, layer) in [
        ("vit_timm", "blocks.0.attn"),
        ("vit_timm_new", "blocks.1.attn"),
        ("vit", "encoder.layers.encoder_layer_1.self_attention"),
    ] {
        let model = import(&format!("torch_{name}"))?;
        assert_eq!(model.layer(layer)?.kind(), "MultiHeadAttention", "{name}: {:?}", model.layer_names());
    }
    Ok(())
}

#[test]
fn imported_transformers_are_exported_again() -> HeadstartResult<()> {
    for name in TRANSFORMERS {
        check_round_trip(name, &import(&format!("torch_{name}"))?)?;
    }
    let own =
        Network::named("vit_tiny_patch16_224", Weights::Random(2))?.alpha(1.0 / 3.0).input_shape((3, 32, 32));
    let again = check_round_trip("vit_tiny", &own.build()?)?;
    assert_eq!(kinds(&again).iter().filter(|kind| **kind == "MultiHeadAttention").count(), 12);
    Ok(())
}

#[test]
fn an_imported_transformer_is_fine_tuned_with_a_new_head() -> HeadstartResult<()> {
    let whole = import("torch_vit_timm")?;
    let rows = whole.summary().rows;
    let first = rows.iter().find(|row| row.kind == "FirstToken").unwrap();
    let trunk = whole.up_to(&*first.name)?;
    trunk.freeze();
    let mut model = sequential![&trunk, Dense::new(2).activation(Softmax)]?;
    model.compile(Adam::new(0.01), SparseCategoricalCrossentropy, []);
    let x = &known("transformers.safetensors")["vit_timm.x"];
    let y = Tensor::new(&[0u32, 1], &device())?;
    let fit = || Fit::epochs(15).verbose(false).chart(false).advice(false);
    let history = model.fit((x, &y), fit())?;
    assert!(history["loss"][14] < history["loss"][0]);
    let kernel = model.layer("blocks.1.attn")?.params()[0].clone();
    let before = kernel.value(Mode::Inference).copy()?;
    model.unfreeze_from("blocks.1.attn")?;
    model.fit((x, &y), fit())?;
    let moved = (kernel.value(Mode::Inference) - before)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(moved > 1e-4, "{moved}");
    Ok(())
}

/// A file whose attention has another scale must not become a layer with the default scale.
#[test]
fn attention_of_another_form_is_an_error() -> HeadstartResult<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.onnx");
    sequential![Input::new((5, 8)), MultiHeadAttention::new(2)]?.export_onnx(&path)?;
    Model::from_onnx(&path)?;
    // 1 / √4 becomes 1.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, replaced(bytes, &0.5f32.to_le_bytes(), &1f32.to_le_bytes())).unwrap();
    let error = Model::from_onnx(&path).unwrap_err().to_string();
    assert!(error.contains("scaled dot-product attention") && error.contains("node "), "{error}");
    Ok(())
}

#[test]
fn damaged_transformers_are_errors() {
    for name in ["torch_vit", "torch_vit_timm_new"] {
        let (_folder, path) = changed(name, |bytes| bytes);
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for place in (0..whole.len()).step_by(whole.len() / 300 + 1) {
            for value in [0u8, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                std::fs::write(&path, &bytes).unwrap();
                refused += usize::from(Model::from_onnx(&path).is_err());
            }
        }
        assert!(refused > 0, "{name}: every damaged file was accepted");
    }
}
