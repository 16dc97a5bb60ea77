//! Projection of features to two dimensions, by principal component analysis.

use std::fmt;

use candle_core::{DType, Device, Tensor};

use crate::data::{Images, read_class_numbers, truncated_svd};
use crate::display::debug_as_text;
use crate::{Error, Result};

/// Projection of samples to the first two principal components of their features, to show how a model
/// separates the classes: scikit-learn's `PCA(n_components=2)`.
///
/// ```
/// use headstart::prelude::*;
/// let features = Tensor::new(&[[0f32, 1.0, 0.0], [0.1, 1.1, 0.0], [5.0, 1.0, 0.0], [5.2, 0.9, 0.1]], &device())?;
/// let classes = Tensor::new(&[0u32, 0, 1, 1], &device())?;
/// let embedding = Embedding::new(&features, &classes, &["cat", "dog"])?;
/// assert!(embedding.explained_variance_ratio()[0] > 0.99);
/// assert!(embedding.of_class(1).all(|[x, _]| x > 2.0));
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone)]
pub struct Embedding {
    points: Vec<[f64; 2]>,
    explained: [f64; 2],
    classes: Vec<usize>,
    names: Vec<String>,
}

impl Embedding {
    /// Projects features, `[N, …]`, of samples with class numbers `[N]`.
    ///
    /// The time grows with the cube of the number of samples or of features, whichever is smaller.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer than three samples or two features, or if a feature is not
    /// finite. Also if the numbers of samples and classes differ, or a class has no name.
    pub fn new(features: &Tensor, classes: &Tensor, names: &[impl AsRef<str>]) -> Result<Embedding> {
        Embedding::of(features, classes, names.iter().map(|name| name.as_ref().to_owned()).collect())
    }

    fn of(features: &Tensor, classes: &Tensor, names: Vec<String>) -> Result<Embedding> {
        let samples = features.dims().first().copied().unwrap_or(0);
        let width = features.elem_count() / samples.max(1);
        let refuse =
            |name, expected: &str, found: String| Error::Argument { name, expected: expected.into(), found };
        if samples < 3 || width < 2 {
            let found = format!("{samples} samples of {width} features");
            return Err(refuse("features", "at least three samples of at least two features", found));
        }
        let classes = read_class_numbers("classes", classes)?;
        if classes.len() != samples {
            let found = format!("{} classes for {samples} samples", classes.len());
            return Err(refuse("classes", "one class per sample", found));
        }
        if let Some(class) = classes.iter().find(|class| **class >= names.len()) {
            return Err(refuse("class_names", &format!("a name for class {class}"), names.join(", ")));
        }
        let values = features.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(refuse("features", "finite values", value.to_string()));
        }
        let (points, explained) =
            principal_components(&Tensor::from_vec(values, (samples, width), &Device::Cpu)?)?;
        Ok(Embedding { points, explained, classes, names })
    }

    /// The two coordinates of each sample.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.points
    }

    /// The coordinates of the samples of one class.
    pub fn of_class(&self, class: usize) -> impl Iterator<Item = [f64; 2]> {
        let of_class = move |(point, own): (&[f64; 2], &usize)| (*own == class).then_some(*point);
        self.points.iter().zip(&self.classes).filter_map(of_class)
    }

    /// The names of the classes.
    pub fn class_names(&self) -> &[String] {
        &self.names
    }

    /// The fraction of the features' variance that each component explains.
    pub fn explained_variance_ratio(&self) -> [f64; 2] {
        self.explained
    }
}

/// Projects rows to their first two principal components; also the fraction of the variance that each
/// component explains.
fn principal_components(rows: &Tensor) -> Result<(Vec<[f64; 2]>, [f64; 2])> {
    let rows = rows.broadcast_sub(&rows.mean_keepdim(0)?)?;
    let all = rows.sqr()?.sum_all()?.to_scalar::<f64>()?.max(f64::MIN_POSITIVE);
    let mut points = vec![[0.0; 2]; rows.dim(0)?];
    let mut explained = [0.0; 2];
    for (axis, (value, direction)) in truncated_svd(&rows, 2)?.into_iter().enumerate() {
        // The sign of a component is arbitrary; make its largest entry positive, so that runs agree.
        let peak = direction.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        let direction = Tensor::from_vec(direction, (rows.dim(1)?, 1), &Device::Cpu)?;
        let scores = (rows.matmul(&direction)? * peak.signum())?.flatten_all()?.to_vec1::<f64>()?;
        points.iter_mut().zip(scores).for_each(|(point, score)| point[axis] = score);
        explained[axis] = value * value / all;
    }
    Ok((points, explained))
}

debug_as_text!(Embedding);

impl fmt::Display for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.explained.map(|share| 100.0 * share);
        write!(f, "two components have {first:.0} % and {second:.0} % of the variance")?;
        for (class, name) in self.names.iter().enumerate() {
            let count = self.of_class(class).count();
            let mean = |axis: usize| {
                self.of_class(class).map(|point| point[axis]).sum::<f64>() / count.max(1) as f64
            };
            write!(f, "\n{name}: {count} around ({:.2}, {:.2})", mean(0), mean(1))?;
        }
        Ok(())
    }
}

impl Images {
    /// Projects a model's features of these images, `[N, …]`: see [`Embedding`].
    ///
    /// # Errors
    /// Those of [`Embedding::new`].
    pub fn embedding(&self, features: &Tensor) -> Result<Embedding> {
        Embedding::new(features, &self.y, &self.class_names)
    }
}
