//! Parameters without weight decay.

use headstart::Result;
use headstart::prelude::*;

/// As in Keras: a name is a part of a parameter's path.
#[test]
fn parameters_and_layers_are_excluded_by_name() -> Result<()> {
    let cases: [(&[&str], [bool; 4]); 4] = [
        (&[], [true, true, true, true]),
        (&["bias"], [true, false, true, false]),
        (&["dense_1", "dense/bias"], [true, false, false, false]),
        (&["gamma"], [true, true, true, true]),
    ];
    for (names, decayed) in cases {
        let mut model = sequential![Input::new(2), Dense::new(2), Dense::new(1)]?;
        for param in model.params() {
            param.set(&(param.value(Mode::Inference).zeros_like()? + 1.0)?)?;
        }
        let optimizer = SGD::new(0.1).weight_decay(0.5).exclude_from_weight_decay(names);
        model.compile(optimizer, MeanSquaredError, []);
        // The outputs are right, so only the decay changes the weights.
        let x = Tensor::ones((4, 2), DType::F32, &device())?;
        let y = model.predict(&x)?.to_tensor()?;
        model.fit((&x, &y), Fit::epochs(1).batch_size(4).verbose(false).advice(false))?;
        for (param, decayed) in model.params().iter().zip(decayed) {
            let value = param.value(Mode::Inference).flatten_all()?.max(0)?.to_scalar::<f32>()?;
            let expected = if decayed { 0.95 } else { 1.0 };
            assert!((value - expected).abs() < 1e-6, "{names:?}, {}: {value}", param.name());
        }
    }
    Ok(())
}
