//! Classification by nearest neighbours in feature space.

use candle_core::{DType, Device, Tensor};

use crate::nn::{Activation, ClassLayout, Predictions};
use crate::{Error, Result, check_interrupt};

/// Number of queries whose distances are computed at once.
const CHUNK: usize = 256;

/// Nearest neighbours by Euclidean distance, each with one vote: scikit-learn's `KNeighborsClassifier`.
///
/// Nothing is trained, so it is a quick test of whether features separate the classes.
///
/// ```
/// use headstart::prelude::*;
/// let features = Tensor::new(&[[0f32, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 6.0]], &device())?;
/// let classes = Tensor::new(&[0u32, 0, 1, 1], &device())?;
/// let neighbors = KNeighborsClassifier::new(&features, &classes, 2)?;
/// let predictions = neighbors.predict(&Tensor::new(&[[1f32, 1.0], [4.0, 4.0]], &device())?)?;
/// assert_eq!(predictions.classes(), [0, 1]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KNeighborsClassifier {
    /// Features of the known samples, `[N, features]`, as f64, and their squared lengths.
    features: Tensor,
    squares: Vec<f64>,
    classes: Vec<usize>,
    neighbors: usize,
}

impl KNeighborsClassifier {
    /// Keeps features, `[N, …]`, of samples with class numbers `[N]`. The `neighbors` nearest of them vote.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no samples, fewer samples than `neighbors`, or `neighbors` is 0. Also if the
    /// numbers of samples and classes differ, a feature is not finite, or a class is not a whole number from 0.
    pub fn new(features: &Tensor, classes: &Tensor, neighbors: usize) -> Result<KNeighborsClassifier> {
        let refuse = |name, expected: String, found: String| Err(Error::Argument { name, expected, found });
        let features = rows(features)?;
        let samples = features.dim(0)?;
        let classes = classes.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if classes.len() != samples {
            return refuse("classes", format!("{samples}, one per sample"), classes.len().to_string());
        }
        if let Some(class) = classes.iter().find(|class| class.fract() != 0.0 || !(0.0..1e6).contains(*class))
        {
            return refuse("classes", "class numbers from 0".into(), class.to_string());
        }
        if !(1..=samples).contains(&neighbors) {
            return refuse(
                "neighbors",
                format!("a number from 1 to {samples}, the number of samples"),
                neighbors.to_string(),
            );
        }
        let squares = features.sqr()?.sum(1)?.to_vec1::<f64>()?;
        let classes = classes.into_iter().map(|class| class as usize).collect();
        Ok(KNeighborsClassifier { features, squares, classes, neighbors })
    }

    /// The share of the neighbours' votes for each class, `[N, classes]`. Of equally distant neighbours, the first
    /// samples count.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is another number of features; [`Error::Argument`] if a feature is not finite;
    /// [`Error::Interrupted`].
    pub fn predict(&self, features: &Tensor) -> Result<Predictions> {
        let features = rows(features)?;
        let (samples, width) = features.dims2()?;
        if width != self.features.dim(1)? {
            let expected = format!("[N, {}]", self.features.dim(1)?);
            return Err(Error::shape(
                "features",
                expected,
                features.dims(),
                "take the features of the same layer",
            ));
        }
        let columns = self.classes.iter().max().map_or(2, |max| max + 1).max(2);
        let mut values = vec![0f32; samples * columns];
        let known = self.features.t()?.contiguous()?;
        for start in (0..samples).step_by(CHUNK) {
            check_interrupt()?;
            let chunk = features.narrow(0, start, CHUNK.min(samples - start))?;
            for (at, products) in chunk.matmul(&known)?.to_vec2::<f64>()?.iter().enumerate() {
                // The squared length of the query is the same for all neighbours.
                let mut order: Vec<(f64, usize)> = products
                    .iter()
                    .zip(&self.squares)
                    .map(|(product, square)| square - 2.0 * product)
                    .zip(0..)
                    .collect();
                let by_distance =
                    |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
                if self.neighbors < order.len() {
                    order.select_nth_unstable_by(self.neighbors, by_distance);
                }
                for (_, neighbor) in &order[..self.neighbors] {
                    values[(start + at) * columns + self.classes[*neighbor]] += 1.0;
                }
            }
        }
        // Divided once, because a sum of rounded shares could exceed 1.
        values.iter_mut().for_each(|votes| *votes /= self.neighbors as f32);
        Ok(Predictions::new(values, ClassLayout::of(&[columns]), Activation::Linear))
    }
}

/// Finite features as f64, one row per sample.
pub(super) fn rows(features: &Tensor) -> Result<Tensor> {
    let samples = features.dims().first().copied().unwrap_or(0);
    if samples == 0 || features.elem_count() == 0 {
        let (expected, found) =
            ("features [N, …] of at least one sample".into(), format!("{:?}", features.dims()));
        return Err(Error::Argument { name: "features", expected, found });
    }
    let values = features.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        let (expected, found) = ("finite values".into(), value.to_string());
        return Err(Error::Argument { name: "features", expected, found });
    }
    let width = values.len() / samples;
    Ok(Tensor::from_vec(values, (samples, width), &Device::Cpu)?)
}
