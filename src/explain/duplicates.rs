//! Near-duplicate images, and the images with the largest losses.

use std::fmt;

use candle_core::Tensor;

use super::neighbors::rows;
use crate::data::Images;
use crate::display::{Bundle, ImageGrid, Show, debug_as_text};
use crate::nn::Predictions;
use crate::{Error, Result, check_interrupt};

/// Number of images whose similarities are computed at once.
const CHUNK: usize = 256;
/// Largest rounding error of a similarity.
const ROUNDING: f64 = 1e-9;
/// Number of pairs in the figure.
const SHOWN: usize = 10;

/// Pairs of similar images, the most similar first: the result of [`Images::near_duplicates`].
#[derive(Clone)]
pub struct NearDuplicates {
    pairs: Vec<(usize, usize, f64)>,
    grid: ImageGrid,
}

impl NearDuplicates {
    /// The numbers of both images, the lower first, and their similarity.
    pub fn pairs(&self) -> &[(usize, usize, f64)] {
        &self.pairs
    }
}

impl Images {
    /// Finds pairs of images whose features, `[N, …]`, have a cosine similarity of at least `similarity`. The mean of
    /// all features is subtracted first: features after a ReLU are never negative, so all their similarities are high.
    ///
    /// Features of a pretrained network find many changed copies, such as darkened or shifted ones. Flipped copies are
    /// harder to find. The time grows with the square of the number of images.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and [`Error::Argument`] if:
    /// - there are not as many features as images;
    /// - a feature is not finite;
    /// - the similarity is not above 0 and at most 1.
    pub fn near_duplicates(&self, features: &Tensor, similarity: f64) -> Result<NearDuplicates> {
        let features = rows(features)?;
        if features.dim(0)? != self.len() {
            let (expected, found) =
                (format!("{} rows, one per image", self.len()), format!("{} rows", features.dim(0)?));
            return Err(Error::Argument { name: "features", expected, found });
        }
        if !(similarity > 0.0 && similarity <= 1.0) {
            let (expected, found) = ("a number above 0 and at most 1".into(), similarity.to_string());
            return Err(Error::Argument { name: "similarity", expected, found });
        }
        let mut pairs = similar(&features, similarity)?;
        pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
        let grid = self.side_by_side(&pairs[..pairs.len().min(SHOWN)])?;
        Ok(NearDuplicates { pairs, grid })
    }

    /// One image for each pair: both images side by side.
    fn side_by_side(&self, pairs: &[(usize, usize, f64)]) -> Result<ImageGrid> {
        let pick = |at: &dyn Fn(&(usize, usize, f64)) -> usize| {
            let numbers: Vec<u32> = pairs.iter().map(|pair| at(pair) as u32).collect();
            Ok::<_, Error>(self.select(&numbers)?.x)
        };
        let labels = self.labels()?;
        let captions = pairs.iter().map(|(a, b, similarity)| {
            let names = if labels[*a] == labels[*b] {
                labels[*a].to_owned()
            } else {
                format!("{}, {}", labels[*a], labels[*b])
            };
            format!("{a} and {b}: {similarity:.3}\n{names}")
        });
        ImageGrid::new(
            &Tensor::cat(&[pick(&|pair| pair.0)?, pick(&|pair| pair.1)?], 3)?,
            &captions.collect::<Vec<_>>(),
        )
    }

    /// Shows the images with the largest losses, in descending order, at most `count`: candidates for wrong labels. Each
    /// caption has the image's number, its label, the predicted class, and the loss ([`Predictions::losses`]).
    ///
    /// # Errors
    /// Those of [`Predictions::losses`].
    pub fn top_losses(&self, predictions: &Predictions, count: usize) -> Result<ImageGrid> {
        let (order, captions) = self.by_loss(predictions, count)?;
        ImageGrid::new(&self.select(&order)?.x, &captions)
    }

    /// The numbers and captions of the images with the largest losses.
    pub(super) fn by_loss(&self, predictions: &Predictions, count: usize) -> Result<(Vec<u32>, Vec<String>)> {
        let losses = predictions.losses(&self.y)?;
        let (classes, labels) = (predictions.classes(), self.labels()?);
        let mut order: Vec<u32> = (0..losses.len() as u32).collect();
        order.sort_by(|a, b| losses[*b as usize].total_cmp(&losses[*a as usize]));
        order.truncate(count);
        let name =
            |class: usize| self.class_names.get(class).map_or_else(|| class.to_string(), String::clone);
        let caption = |at: &u32| {
            let at = *at as usize;
            format!("{at}: labelled {}\npredicted {}\nloss {:.2}", labels[at], name(classes[at]), losses[at])
        };
        let captions = order.iter().map(caption).collect();
        Ok((order, captions))
    }
}

/// All pairs of rows with at least this cosine similarity.
fn similar(features: &Tensor, min_similarity: f64) -> Result<Vec<(usize, usize, f64)>> {
    // Two centred rows always have opposite directions.
    let centred = match features.dim(0)? {
        ..=2 => features.clone(),
        _ => features.broadcast_sub(&features.mean_keepdim(0)?)?,
    };
    let lengths = centred.sqr()?.sum_keepdim(1)?.sqrt()?;
    let whole = features.sqr()?.sum_keepdim(1)?.sqrt()?;
    // Rows that are equal to the mean have no direction. They are equal to each other.
    let at_mean = lengths.le(&(whole * ROUNDING)?)?.flatten_all()?.to_vec1::<u8>()?;
    let rows = centred.broadcast_div(&lengths.maximum(f64::MIN_POSITIVE)?)?;
    let columns = rows.t()?.contiguous()?;
    let samples = rows.dim(0)?;
    let mut pairs = Vec::new();
    for start in (0..samples).step_by(CHUNK) {
        check_interrupt()?;
        let products = rows.narrow(0, start, CHUNK.min(samples - start))?.matmul(&columns)?;
        for (row, products) in products.to_vec2::<f64>()?.iter().enumerate() {
            let first = start + row;
            let similarity = |second: usize| match at_mean[first] == 1 || at_mean[second] == 1 {
                true => f64::from(at_mean[first] & at_mean[second]),
                false => products[second].min(1.0),
            };
            let pair = |second: usize| (first, second, similarity(second));
            pairs.extend((first + 1..samples).map(pair).filter(|pair| pair.2 >= min_similarity - ROUNDING));
        }
    }
    Ok(pairs)
}

impl Show for NearDuplicates {
    fn bundle(&self) -> Bundle {
        let text = |(mime, content): (String, String)| match mime.as_str() {
            "text/plain" => (mime, self.to_string()),
            _ => (mime, content),
        };
        self.grid.bundle().into_iter().map(text).collect()
    }
}

debug_as_text!(NearDuplicates);

impl fmt::Display for NearDuplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pairs of similar images", self.pairs.len())?;
        for (a, b, similarity) in self.pairs.iter().take(SHOWN) {
            write!(f, "\n{a} and {b}: {similarity:.3}")?;
        }
        Ok(())
    }
}
