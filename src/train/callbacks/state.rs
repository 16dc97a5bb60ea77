//! The state of callbacks as named tensors, as a backup stores it.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::Callback;
use crate::Result;

/// Returns the state of all callbacks. Each key starts with the name of its callback:
/// `EarlyStopping/best`.
pub(crate) fn collect(callbacks: &[Box<dyn Callback>]) -> Result<HashMap<String, Tensor>> {
    let mut all = HashMap::new();
    for (name, callback) in names(callbacks).into_iter().zip(callbacks) {
        all.extend(callback.state()?.into_iter().map(|(key, value)| (format!("{name}/{key}"), value)));
    }
    Ok(all)
}

/// Gives each callback the state that [`collect`] returned. A callback without a stored state is not
/// changed.
pub(crate) fn restore(callbacks: &mut [Box<dyn Callback>], all: &HashMap<String, Tensor>) -> Result<()> {
    for (name, callback) in names(callbacks).into_iter().zip(callbacks) {
        let prefix = format!("{name}/");
        let own = all
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())));
        let own: HashMap<String, Tensor> = own.collect();
        if !own.is_empty() {
            callback.set_state(&own)?;
        }
    }
    Ok(())
}

/// Returns a name for each callback. From the second callback of a type on, names are numbered:
/// `EarlyStopping`, `EarlyStopping_1`.
fn names(callbacks: &[Box<dyn Callback>]) -> Vec<String> {
    let types: Vec<String> = callbacks.iter().map(|callback| short(callback.type_name())).collect();
    let number = |at: usize| types[..at].iter().filter(|known| **known == types[at]).count();
    (0..types.len())
        .map(|at| match number(at) {
            0 => types[at].clone(),
            number => format!("{}_{number}", types[at]),
        })
        .collect()
}

/// The last segment of a type's path, without generic parameters.
fn short(type_name: &str) -> String {
    let path = type_name.split('<').next().unwrap_or_default();
    path.rsplit("::").next().unwrap_or_default().to_owned()
}

/// Converts numbers to a tensor for a state or a file. Unlike JSON, it can hold NaN and infinity.
pub(super) fn numbers(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

/// Returns the numbers stored under `name`, if any.
pub(super) fn read_numbers(state: &HashMap<String, Tensor>, name: &str) -> Result<Option<Vec<f64>>> {
    let read = |tensor: &Tensor| Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    state.get(name).map(read).transpose()
}

/// Returns the single number stored under `name`, if any.
pub(super) fn read_number(state: &HashMap<String, Tensor>, name: &str) -> Result<Option<f64>> {
    Ok(read_numbers(state, name)?.and_then(|values| values.first().copied()))
}

/// Returns the count stored under `name`, or 0.
pub(super) fn read_count(state: &HashMap<String, Tensor>, name: &str) -> Result<usize> {
    Ok(read_number(state, name)?.map_or(0, |value| value as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_keeps_nan_and_infinity() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let values = [0.1, f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE];
        crate::weights::save_tensors(vec![("values".into(), numbers(&values)?)], HashMap::new(), &path)?;
        let found = read_numbers(&crate::weights::read_file(&path)?, "values")?.unwrap();
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
        assert_eq!(bits(&found), bits(&values));
        Ok(())
    }

    #[test]
    fn callbacks_of_the_same_type_have_different_names() {
        use crate::train::{EarlyStopping, LearningRateScheduler, TerminateOnNaN};
        let callbacks: Vec<Box<dyn Callback>> = vec![
            Box::new(EarlyStopping::new("loss")),
            Box::new(TerminateOnNaN),
            Box::new(EarlyStopping::new("val_loss")),
            Box::new(LearningRateScheduler::new(|_, rate| rate)),
        ];
        let expected = ["EarlyStopping", "TerminateOnNaN", "EarlyStopping_1", "LearningRateScheduler"];
        assert_eq!(names(&callbacks), expected);
    }
}
