//! Class numbering that is the same in all datasets.

use std::collections::HashSet;

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// Returns an error if the class names of the data differ from `expected`. An empty list means unknown
/// names and is accepted.
pub(crate) fn check_same(data: &'static str, expected: &[String], found: &[String]) -> Result<()> {
    if expected.is_empty() || found.is_empty() || expected == found {
        return Ok(());
    }
    let expected = expected.join("`, `");
    Err(Error::Argument {
        name: data,
        found: format!(
            "`{}`, so that a class number means another class\n\
             hint: number both alike: `ImageFiles::from_directory(folder, size)?.classes([\"{}\"])?`",
            found.join("`, `"),
            expected.replace("`, `", "\", \"")
        ),
        expected: format!("the classes of the training data, `{expected}`"),
    })
}

/// The class numbers in a tensor of any shape. Returns an error for a value that is no class number.
pub(crate) fn read_class_numbers(name: &'static str, classes: &Tensor) -> Result<Vec<usize>> {
    let classes = classes.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    match classes.iter().find(|class| **class < 0.0 || class.fract() != 0.0 || !class.is_finite()) {
        None => Ok(classes.into_iter().map(|class| class as usize).collect()),
        Some(class) => {
            let (expected, found) = ("class numbers from 0".into(), class.to_string());
            Err(Error::Argument { name, expected, found })
        }
    }
}

/// Returns an error if a class has another number than in `before`. Other classes are accepted: a model can be trained
/// for a new task.
pub(crate) fn check_numbers(data: &'static str, before: &[String], found: &[String]) -> Result<()> {
    let number_before = |name: &String| before.iter().position(|known| known == name);
    match (0..).zip(found).any(|(number, name)| number_before(name).is_some_and(|before| before != number)) {
        true => check_same(data, before, found),
        false => Ok(()),
    }
}

/// Returns the indices of the samples of the wanted classes, and their class numbers in the order of
/// `wanted`. Prints which classes are left out and which have no sample.
pub(super) fn renumber(
    labels: &[u32],
    names: &[String],
    wanted: &[String],
) -> Result<(Vec<usize>, Vec<u32>)> {
    let refuse = |expected: &str, found: String| {
        Err(Error::Argument { name: "classes", expected: expected.into(), found })
    };
    if wanted.iter().collect::<HashSet<_>>().len() != wanted.len() {
        return refuse("each class once", wanted.join(", "));
    }
    let number = |name: &String| wanted.iter().position(|known| known == name).map(|at| at as u32);
    let numbers: Vec<Option<u32>> = names.iter().map(number).collect();
    let kept = labels.iter().enumerate();
    let kept = kept.filter_map(|(at, label)| Some((at, numbers.get(*label as usize).copied().flatten()?)));
    let (samples, labels): (Vec<usize>, Vec<u32>) = kept.unzip();
    if samples.is_empty() {
        return refuse(&format!("some of {}", names.join(", ")), wanted.join(", "));
    }
    let left_out: Vec<&str> =
        names.iter().filter(|name| !wanted.contains(name)).map(String::as_str).collect();
    if !left_out.is_empty() {
        println!("left out: class {}", left_out.join(", "));
    }
    let missing: Vec<&str> = wanted.iter().filter(|name| !names.contains(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        println!("no images of class {}", missing.join(", "));
    }
    Ok((samples, labels))
}
