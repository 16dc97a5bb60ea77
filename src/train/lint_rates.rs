//! Advice on learning rates that are too high for pretrained layers.

use super::Compiled;
use crate::nn::{Model, Param};

/// Largest learning rate recommended for pretrained layers. Larger steps destroy their weights.
const FINE_TUNING_RATE: f64 = 1e-4;

/// Warns if trainable pretrained layers, at any depth, get a high learning rate in the next `steps` steps.
pub(super) fn pretrained_rate_advice(model: &Model, compiled: &Compiled, steps: usize) -> Option<String> {
    let mut found = Vec::new();
    // Without a new layer, the training of a loaded model goes on.
    let is_new = model.trainable_params().iter().any(|param| !param.is_adapter() && !param.is_loaded());
    collect(model, false, is_new, &mut found);
    let optimizer = &compiled.optimizer;
    let rate = |params: &[Param]| {
        params.iter().map(|param| optimizer.highest_learning_rate_of(param, steps)).fold(0.0, f64::max)
    };
    let mut rates = found.into_iter().map(|(part, params)| (part, rate(&params)));
    let (part, rate) = rates.find(|(_, rate)| *rate > FINE_TUNING_RATE)?;
    let name = part.name();
    // Three digits, for the highest rate of a schedule.
    let rate: f64 = format!("{rate:.2e}").parse().unwrap_or(rate);
    let freeze = match std::ptr::eq(part, model) {
        true => "freeze its first layers with `freeze_until`".to_owned(),
        false => format!("freeze `{name}`"),
    };
    Some(format!(
        "pretrained layers of `{name}` learn at a rate of {rate}, which is for a new head and can spoil them; \
         fine-tune with `Adam::new(1e-5)`, or {freeze}"
    ))
}

/// The pretrained models in a model, or the model itself, each with its trainable pretrained parameters. Pretrained are
/// networks that were built with weights and, beside new layers, nested models whose weights all came from files.
fn collect<'a>(model: &'a Model, is_nested: bool, is_new: bool, found: &mut Vec<(&'a Model, Vec<Param>)>) {
    let params = model.params();
    let is_file = is_nested && is_new && !params.is_empty() && params.iter().all(Param::is_loaded);
    if !model.is_pretrained() {
        let before = found.len();
        let nested = model.nodes().iter().filter_map(|node| node.layer.model());
        nested.for_each(|nested| collect(nested, true, is_new, found));
        if !is_file || found.len() > before {
            return;
        }
    }
    // The layers of a new top are not loaded.
    let is_known = params.iter().any(Param::is_loaded);
    let trained = |param: &Param| param.is_trainable() && !param.is_adapter();
    let params = params.into_iter().filter(|param| trained(param) && (!is_known || param.is_loaded()));
    found.push((model, params.collect()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use crate::prelude::*;

    fn advice_for(model: &mut Model, optimizer: impl crate::train::Optimizer + 'static) -> String {
        model.compile(optimizer, BinaryCrossentropy, []);
        let compiled = model.training_state().unwrap().compiled.as_ref().unwrap();
        pretrained_rate_advice(model, compiled, 100).unwrap_or_default()
    }

    #[test]
    fn pretrained_layers_are_seen_at_any_depth() -> Result<()> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let features = sequential![&base, GlobalAveragePooling2D]?;
        let mut deep = sequential![&features, Dense::new(1).activation(Sigmoid)]?;
        let advice = advice_for(&mut deep, Adam::default());
        assert!(advice.contains("freeze `vgg16`"), "{advice}");
        assert_eq!(advice_for(&mut deep, Adam::new(1e-5)), "");
        base.freeze();
        assert_eq!(advice_for(&mut deep, Adam::default()), "");
        // A network that is trained itself, with a new top.
        let mut whole = Vgg16::new(Weights::Demo).classes(2).skip_mismatch(true).build()?;
        assert!(advice_for(&mut whole, Adam::default()).contains("`freeze_until`"));
        whole.freeze_until("block5_pool")?;
        let top = whole.layer("predictions")?;
        whole.freeze();
        top.params().iter().for_each(|param| param.set_trainable(true));
        assert_eq!(advice_for(&mut whole, Adam::default()), "", "only the new layer is trained");
        Ok(())
    }

    #[test]
    fn weights_from_a_file_are_pretrained_beside_new_layers() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.safetensors");
        let make = || sequential![Input::new(4), Dense::new(3), Dense::new(2)];
        make()?.save_weights(&path)?;
        let base = make()?;
        let mut model = sequential![&base, Dense::new(1).activation(Sigmoid)]?;
        assert_eq!(advice_for(&mut model, Adam::default()), "", "random weights");
        base.load_weights(&path)?;
        assert!(advice_for(&mut model, Adam::default()).contains("1e-5"));
        // The training of a loaded model goes on.
        let whole = folder.path().join("whole.safetensors");
        model.save(&whole)?;
        assert_eq!(advice_for(&mut Model::load(&whole)?, Adam::default()), "");
        Ok(())
    }

    #[test]
    fn the_highest_rate_of_a_schedule_counts() -> Result<()> {
        let base =
            sequential![Vgg16::new(Weights::Demo).include_top(false).build()?, GlobalAveragePooling2D]?;
        let mut model = sequential![&base, Dense::new(1).activation(Sigmoid)]?;
        for schedule in [Schedule::cosine_decay(0.0, 1000).warmup(1e-2, 50), Schedule::one_cycle(2e-3, 90)] {
            assert!(schedule.at(0) < FINE_TUNING_RATE);
            assert!(advice_for(&mut model, Adam::new(schedule)).contains("pretrained layers"));
        }
        let advice = advice_for(&mut model, Adam::new(Schedule::one_cycle(2e-3, 100)));
        assert!(advice.contains("at a rate of 0.002,"), "{advice}");
        assert_eq!(advice_for(&mut model, Adam::new(Schedule::cosine_decay(0.0, 1000).warmup(1e-4, 50))), "");
        // The warmup is not over in 100 steps.
        assert_eq!(
            advice_for(&mut model, Adam::new(Schedule::cosine_decay(0.0, 9).warmup(1e-2, 100_000))),
            ""
        );
        Ok(())
    }
}
