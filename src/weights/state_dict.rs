//! Finds the state dict in files that PyTorch saved: alone, in a checkpoint, or with prefixed names.

use std::collections::HashMap;

use candle_core::Tensor;
use candle_core::pickle::Object;

/// Keys of a model's tensors in checkpoints, in order of preference: averaged weights (EMA) first, then plain ones.
const WRAPPERS: [&str; 8] = [
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
];
/// Prefixes that training wrappers add to names.
const PREFIXES: [&str; 7] =
    ["module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "base_model."];

/// The dictionary of tensors.
pub(super) struct StateDict {
    pub(super) entries: Vec<(Object, Object)>,
    /// The keys that lead to it.
    pub(super) keys: Vec<&'static str>,
}

/// Finds the dictionary of tensors.
///
/// # Errors
/// A description of what the file holds instead.
pub(super) fn find(mut object: Object) -> Result<StateDict, String> {
    let mut keys = Vec::new();
    loop {
        object = match object {
            // An OrderedDict with attributes, such as `_metadata`.
            Object::Build { callable, .. } if matches!(*callable, Object::Dict(_)) => *callable,
            other => other,
        };
        let Object::Dict(mut entries) = object else { return Err(described(&object)) };
        let at = |key: &str| entries.iter().position(|(known, _)| *known == Object::Unicode(key.to_owned()));
        let has_tensors = entries.iter().any(|(_, value)| is_tensor(value));
        // Beside its state dict a checkpoint can hold further tensors, such as the best accuracy.
        let mut found = WRAPPERS.iter().filter_map(|key| Some((*key, at(key)?)));
        let found = found.find(|(_, at)| !has_tensors || holds_tensors(&entries[*at].1));
        if has_tensors && found.is_none() {
            return Ok(StateDict { entries, keys });
        }
        let Some((key, at)) = found.filter(|_| keys.len() < WRAPPERS.len()) else {
            return Ok(StateDict { entries, keys });
        };
        keys.push(key);
        object = entries.swap_remove(at).1;
    }
}

/// Whether the object is a dictionary with tensors.
fn holds_tensors(object: &Object) -> bool {
    match object {
        Object::Build { callable, .. } => holds_tensors(callable),
        Object::Dict(entries) => entries.iter().any(|(_, value)| is_tensor(value)),
        _ => false,
    }
}

/// Whether the object is a pickled tensor.
fn is_tensor(object: &Object) -> bool {
    let Object::Reduce { callable, .. } = object else { return false };
    matches!(&**callable, Object::Class { module_name, .. } if module_name == "torch._utils" || module_name == "torch._tensor")
}

/// Describes what was pickled, and what to run in Python.
fn described(object: &Object) -> String {
    match class_of(object) {
        Some(class) => {
            format!("it holds a whole model of class `{class}`, which only Python can create; {REMEDY}")
        }
        None => "expected a dictionary of tensors".into(),
    }
}

/// What to run for a pickled model.
pub(super) const REMEDY: &str = "run in Python: `torch.save(torch.load(\"FILE\", weights_only=False).state_dict(), \"weights.pth\")`, \
     and load weights.pth";
/// What to run for TorchScript.
pub(super) const SCRIPT_REMEDY: &str = "it is TorchScript, a program with its weights; run in Python: \
     `torch.save(torch.jit.load(\"FILE\").state_dict(), \"weights.pth\")`, and load weights.pth";

fn class_of(object: &Object) -> Option<String> {
    match object {
        Object::Class { module_name, class_name } => Some(format!("{module_name}.{class_name}")),
        Object::Reduce { callable, args } => match (class_of(callable)?, &**args) {
            // `copyreg._reconstructor(Class, object, None)`: how protocol 2 pickles some classes.
            (name, Object::Tuple(args)) if name.starts_with("copyreg") || name.starts_with("copy_reg") => {
                args.first().and_then(class_of)
            }
            (name, _) => Some(name),
        },
        Object::Build { callable, .. } => class_of(callable),
        // Before PyTorch 1.6, with the source code: `("module", Class, file, source)`.
        Object::PersistentLoad(about) => match &**about {
            Object::Tuple(parts) => parts.iter().find_map(class_of),
            _ => None,
        },
        _ => None,
    }
}

/// Removes prefixes that more than half of the names have, and returns them.
pub(super) fn strip_prefixes(
    mut tensors: HashMap<String, Tensor>,
) -> (HashMap<String, Tensor>, Vec<&'static str>) {
    let mut stripped = Vec::new();
    loop {
        // Other layers, such as a head, may have another prefix.
        let is_of_most = |prefix: &&&str| {
            let with = tensors.keys().filter(|name| name.starts_with(**prefix)).count();
            2 * with > tensors.len()
        };
        let Some(prefix) = PREFIXES.iter().find(is_of_most) else { return (tensors, stripped) };
        let shorter = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
        tensors = tensors.into_iter().map(|(name, tensor)| (shorter(name), tensor)).collect();
        stripped.push(*prefix);
    }
}
