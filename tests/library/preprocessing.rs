//! Images are preprocessed once: by the library or by the model's own layers.

use headstart::Result;
use headstart::prelude::*;

use super::parity::farthest;

const SIDE: usize = 32;

/// A network whose preprocessing is `(pixel - 127) / 128`.
fn base() -> Result<Model> {
    let network = EfficientNetLite0::new(Weights::Random(0)).alpha(0.1).include_top(false);
    network.input_shape((3, SIDE, SIDE)).build()
}

#[test]
fn images_are_not_preprocessed_again_for_a_model_with_rescaling() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    draw_demo_images(folder.path().join("images"), 2, SIDE as u32, 1)?;
    let files = ImageFiles::from_directory(folder.path().join("images"), (SIDE, SIDE))?;
    let x = files.load()?.x;
    let base = base()?;
    let rescaling = || Rescaling::new(1.0 / 128.0).offset(-127.0 / 128.0);
    let input = || Input::new((3, SIDE, SIDE));
    let plain = sequential![&base, GlobalAveragePooling2D]?;
    let inside = sequential![input(), rescaling(), ZeroPadding2D::new(0), &base, GlobalAveragePooling2D]?;
    let first = sequential![input(), rescaling()]?;
    let nested = sequential![first, sequential![&base, GlobalAveragePooling2D]?]?;
    let expected = plain.predict(&plain.preprocess(&x)?)?.to_tensor()?;
    for (name, model) in [("plain", &plain), ("inside", &inside), ("nested", &nested)] {
        let found = model.predict(&model.preprocess(&x)?)?.to_tensor()?;
        assert!(farthest(&found, &expected)? < 1e-4, "{name}: preprocess");
        let flow = ImageDataGenerator::new().preprocess_for(model)?.flow_files(&files, 4)?;
        assert!(farthest(&model.predict(flow)?.to_tensor()?, &expected)? < 1e-4, "{name}: preprocess_for");
        let features = folder.path().join(name);
        model.extract_features(&files, &features, (0, 1))?;
        let found = ImageFeatures::load(&features)?.x;
        assert!(farthest(&found, &expected)? < 1e-4, "{name}: extract_features");
    }
    Ok(())
}
