//! Grad-CAM: heat maps of the image regions that contribute to the score of a class (Selvaraju et al.
//! 2016, "Grad-CAM: visual explanations from deep networks via gradient-based localization").

use candle_core::{D, DType, Tensor, Var};

use crate::display::ImageGrid;
use crate::nn::{Mode, Model, SplitPoint, class_of, probabilities};
use crate::ops::GradientTape;
use crate::train::BATCH;
use crate::{Error, Result, check_interrupt};

/// Options of [`Model::grad_cam`]. Defaults: the last convolution, and each image's most likely class.
#[derive(Clone, Debug, Default)]
pub struct GradCam {
    layer: Option<String>,
    class: Option<usize>,
}

impl GradCam {
    /// The default options.
    pub fn new() -> GradCam {
        GradCam::default()
    }

    /// Sets the layer whose feature maps are weighted, in the model or a nested one, by its name or path
    /// (`vgg16/block5_conv3`).
    pub fn layer(self, name: &str) -> GradCam {
        GradCam { layer: Some(name.to_owned()), ..self }
    }

    /// Sets the class by its number. For a model with one output, 1 is the class for which the output is
    /// large, and 0 is the other class.
    pub fn class(self, number: usize) -> GradCam {
        GradCam { class: Some(number), ..self }
    }
}

/// Heat maps: for each image, how much each pixel contributes to the score of a class.
#[derive(Clone, Debug)]
pub struct HeatMaps {
    /// `[N, height, width]` of the images, from 0 to 1.
    pub maps: Tensor,
    /// The class of each heat map.
    pub classes: Vec<usize>,
    names: Vec<String>,
}

impl Model {
    /// Computes Grad-CAM heat maps: the feature maps of a layer, each weighted by the mean gradient of the
    /// class's score with respect to it.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let network = Vgg16::new(Weights::Demo).build()?;
    /// let pixels = random_uniform((1, 3, 64, 64), 0.0, 255.0)?;
    /// let heat = network.grad_cam(&network.preprocess(&pixels)?, GradCam::new())?;
    /// assert_eq!(heat.maps.dims(), [1, 64, 64]);
    /// display(&heat.over(&pixels)?);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Shapes
    /// `[N, channels, height, width]`, preprocessed as for `predict`.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`]; [`Error::Argument`] if the layer has no feature maps, a path of the
    /// model bypasses it, or the class does not exist; [`Error::Shape`] if the images do not fit the
    /// model.
    pub fn grad_cam(&self, x: &Tensor, what: GradCam) -> Result<HeatMaps> {
        self.check_input(x)?;
        let &[count, _, height, width] = x.dims() else {
            let hint = "Grad-CAM explains models of images";
            return Err(Error::shape("images", "[N, channels, height, width]", x.dims(), hint));
        };
        let split = self.feature_maps_split(what.layer.as_deref())?.ok_or_else(|| {
            self.refuse_layer(&what, "a layer with feature maps that every path passes through")
        })?;
        let (mut values, mut classes) =
            (Vec::with_capacity(count * height * width), Vec::with_capacity(count));
        for start in (0..count).step_by(BATCH) {
            check_interrupt()?;
            let batch = x.narrow(0, start, BATCH.min(count - start))?;
            let (heat, of_batch) = self.heat_of_batch(&batch, start, &split, &what)?;
            let (_, rows, columns) = heat.dims3()?;
            for map in heat.flatten_from(1)?.to_vec2::<f32>()? {
                let max = map.iter().copied().fold(0.0, f32::max);
                let scaled: Vec<f32> = map.iter().map(|value| value / max.max(f32::MIN_POSITIVE)).collect();
                values.extend(enlarge(&scaled, (rows, columns), (height, width)));
            }
            classes.extend(of_batch);
        }
        Ok(HeatMaps {
            maps: Tensor::from_vec(values, (count, height, width), x.device())?,
            classes,
            names: Vec::new(),
        })
    }

    fn refuse_layer(&self, what: &GradCam, expected: &str) -> Error {
        let found = what.layer.clone().unwrap_or_else(|| self.name().to_owned());
        Error::Argument { name: "layer", expected: expected.into(), found }
    }

    /// The weighted feature maps of a batch, whose first image has the number `start`, and the images' classes.
    fn heat_of_batch(
        &self,
        x: &Tensor,
        start: usize,
        split: &SplitPoint,
        what: &GradCam,
    ) -> Result<(Tensor, Vec<usize>)> {
        let count = x.dim(0)?;
        let maps = self.forward_before(split, x)?;
        if maps.rank() != 4 {
            return Err(self.refuse_layer(what, "a layer with feature maps, [channels, height, width]"));
        }
        let maps = Var::from_tensor(&maps)?;
        let tape = GradientTape::new();
        let scores = self.forward_after(split, maps.as_tensor(), Mode::Inference)?;
        if scores.rank() != 2 {
            let hint =
                "Grad-CAM needs class scores: add a classification head, or build the network with its top";
            return Err(Error::shape("the model's output", "[batch, classes]", scores.dims(), hint));
        }
        let outputs = scores.dim(D::Minus1)?;
        let known = outputs.max(2);
        if let Some(class) = what.class.filter(|class| *class >= known) {
            let (expected, found) = (format!("a class from 0 to {}", known - 1), class.to_string());
            return Err(Error::Argument { name: "class", expected, found });
        }
        let rows = self.last_activation().apply(&scores.detach())?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        if let Some(row) = rows.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
            let (expected, found) = ("finite outputs of the model".into(), format!("{:?}", rows[row]));
            let found = format!("{found} for image {}", start + row);
            return Err(Error::Argument { name: "x", expected, found });
        }
        let function = self.probability_function();
        let class = |row: &Vec<f32>| what.class.unwrap_or_else(|| class_of(&probabilities(function, row)));
        let classes: Vec<usize> = rows.iter().map(class).collect();
        let mut sign = vec![0f32; count * outputs];
        for (row, class) in classes.iter().enumerate() {
            match outputs {
                1 => sign[row] = if *class == 1 { 1.0 } else { -1.0 },
                _ => sign[row * outputs + class] = 1.0,
            }
        }
        let sign = Tensor::from_vec(sign, (count, outputs), x.device())?;
        let gradients = tape.gradient(&(scores * sign)?.sum_all()?)?;
        let gradient = gradients
            .get(&maps)
            .ok_or_else(|| self.refuse_layer(what, "a layer on which the output depends"))?;
        let weights = gradient.mean_keepdim((2, 3))?;
        let heat = maps.as_tensor().detach().broadcast_mul(&weights)?.sum(1)?.relu()?;
        Ok((heat, classes))
    }
}

/// Bilinear upsampling with half-pixel centres.
fn enlarge(values: &[f32], (rows, columns): (usize, usize), (height, width): (usize, usize)) -> Vec<f32> {
    let position = |at: usize, from: usize, to: usize| {
        let position = ((at as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        let low = position as usize;
        (low, (low + 1).min(from - 1), position - low as f32)
    };
    let mut large = Vec::with_capacity(height * width);
    for row in 0..height {
        let (top, bottom, down) = position(row, rows, height);
        for column in 0..width {
            let (left, right, along) = position(column, columns, width);
            let at = |row: usize, column: usize| values[row * columns + column];
            let upper = at(top, left) * (1.0 - along) + at(top, right) * along;
            let lower = at(bottom, left) * (1.0 - along) + at(bottom, right) * along;
            large.push(upper * (1.0 - down) + lower * down);
        }
    }
    large
}

impl HeatMaps {
    /// Sets the names of the classes, which become captions of the images.
    pub fn class_names(self, names: &[impl AsRef<str>]) -> HeatMaps {
        HeatMaps { names: names.iter().map(|name| name.as_ref().to_owned()).collect(), ..self }
    }

    /// Overlays the heat maps on their images, `[N, 3, height, width]` from 0 to 255: black for 0, yellow
    /// for 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number or size of the images differs from the heat maps.
    pub fn over(&self, images: &Tensor) -> Result<ImageGrid> {
        let (count, height, width) = self.maps.dims3()?;
        if images.dims() != [count, 3, height, width] {
            let expected = format!("[{count}, 3, {height}, {width}]");
            return Err(Error::shape("images under heat maps", expected, images.dims(), ""));
        }
        let heat = self.maps.flatten_all()?.to_vec1::<f32>()?;
        let pixels = height * width;
        let mut colours = vec![0f32; count * 3 * pixels];
        for (at, heat) in heat.iter().enumerate() {
            let (image, pixel) = (at / pixels, at % pixels);
            for (channel, value) in colour(*heat).into_iter().enumerate() {
                colours[(image * 3 + channel) * pixels + pixel] = value;
            }
        }
        let colours = Tensor::from_vec(colours, images.dims(), images.device())?;
        let mixed = ((images.to_dtype(DType::F32)? * 0.5)? + (colours * 0.5)?)?;
        let name =
            |class: &usize| self.names.get(*class).cloned().unwrap_or_else(|| format!("class {class}"));
        ImageGrid::new(&mixed, &self.classes.iter().map(name).collect::<Vec<_>>())
    }
}

/// Colour map from black through violet and orange to yellow: matplotlib's inferno at five points.
fn colour(heat: f32) -> [f32; 3] {
    const COLOURS: [[f32; 3]; 5] = [
        [0.0, 0.0, 4.0],
        [87.0, 16.0, 110.0],
        [188.0, 55.0, 84.0],
        [249.0, 142.0, 9.0],
        [252.0, 255.0, 164.0],
    ];
    let position = heat.clamp(0.0, 1.0) * 4.0;
    let low = (position as usize).min(3);
    std::array::from_fn(|c| {
        COLOURS[low][c] + (COLOURS[low + 1][c] - COLOURS[low][c]) * (position - low as f32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn heat_maps_locate_the_class() -> Result<()> {
        // A network that classifies by brightness, and an image with one bright corner.
        let model = sequential![
            Input::new((3, 32, 32)),
            Conv2D::new(1, 1).activation(Relu).kernel_initializer(Initializer::Ones),
            GlobalAveragePooling2D,
            Dense::new(1).activation(Sigmoid).kernel_initializer(Initializer::Ones)
        ]?;
        let mut pixels = vec![0f32; 3 * 32 * 32];
        (0..3).for_each(|c| (0..8).for_each(|r| pixels[(c * 32 + r) * 32..][..8].fill(1.0)));
        let x = Tensor::from_vec(pixels, (1, 3, 32, 32), &device())?;
        let heat = model.grad_cam(&x, GradCam::new())?;
        let row = heat.maps.i((0, 4))?.to_vec1::<f32>()?;
        assert_eq!((heat.classes[0], row[4], row[20]), (1, 1.0, 0.0));
        // No pixel contributes to the other class.
        let other = model.grad_cam(&x, GradCam::new().class(0))?;
        assert_eq!(other.maps.max_all()?.to_scalar::<f32>()?, 0.0);
        assert!(model.grad_cam(&x, GradCam::new().class(2)).unwrap_err().to_string().contains("0 to 1"));
        assert!(model.grad_cam(&x, GradCam::new().layer("dense")).is_err());
        Ok(())
    }
}
