//! Where in a picture a class is seen: Grad-CAM (Selvaraju et al. 2016).

use candle_core::{D, DType, Tensor, Var};

use crate::display::Pictures;
use crate::nn::{Mode, Model};
use crate::ops::GradientTape;
use crate::train::{class_of, probabilities};
use crate::{Error, Result};

/// What [`Model::grad_cam`] is to look at; by itself, the last convolution and the likeliest class.
#[derive(Clone, Debug, Default)]
pub struct GradCam {
    layer: Option<String>,
    class: Option<usize>,
}

impl GradCam {
    /// The last convolution, and of each picture its likeliest class.
    pub fn new() -> GradCam {
        GradCam::default()
    }

    /// Sets the layer whose feature maps are weighed, here or in a model inside.
    pub fn layer(self, name: &str) -> GradCam {
        GradCam { layer: Some(name.to_owned()), ..self }
    }

    /// Sets the class, by its number; for one output 1 is what it tells, and 0 the other.
    pub fn class(self, number: usize) -> GradCam {
        GradCam { class: Some(number), ..self }
    }
}

/// For each picture, how much each place in it speaks for a class.
#[derive(Clone, Debug)]
pub struct HeatMaps {
    /// `[N, height, width]` of the pictures, from 0 to 1.
    pub maps: Tensor,
    /// The class that each is about.
    pub classes: Vec<usize>,
    names: Vec<String>,
}

impl Model {
    /// Where in each picture the model sees a class: the feature maps of a layer, each weighed by
    /// how much more of it would raise the class's score.
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
    /// `[N, channels, height, width]`, prepared as for `predict`.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`]; [`Error::Argument`] if the layer has no feature maps, or some way
    /// leads around it, or there is no such class; [`Error::Shape`].
    pub fn grad_cam(&self, x: &Tensor, what: GradCam) -> Result<HeatMaps> {
        self.check_input(x)?;
        let (count, _, height, width) = x.dims4()?;
        let name = what.layer.as_deref();
        let refuse = |expected: &str| Error::Argument {
            name: "layer",
            expected: expected.into(),
            found: name.unwrap_or(self.name()).to_owned(),
        };
        let cut =
            self.maps_cut(name)?.ok_or_else(|| refuse("one with feature maps, around which no way leads"))?;
        let maps = self.forward_before(&cut, x)?;
        if maps.rank() != 4 {
            return Err(refuse("one with feature maps, [channels, height, width]"));
        }
        let maps = Var::from_tensor(&maps)?;
        let tape = GradientTape::new();
        let scores = self.forward_after(&cut, maps.as_tensor(), Mode::Inference)?;
        if scores.rank() != 2 {
            let hint =
                "Grad-CAM tells where a class is seen: put a head on the network, or build it with its top";
            return Err(Error::shape("the model's output", "[batch, classes]", scores.dims(), hint));
        }
        let outputs = scores.dim(D::Minus1)?;
        let known = outputs.max(2);
        if let Some(class) = what.class.filter(|class| *class >= known) {
            let (expected, found) = (format!("a class from 0 to {}", known - 1), class.to_string());
            return Err(Error::Argument { name: "class", expected, found });
        }
        let rows = self.last_activation().apply(&scores.detach())?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
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
        let gradient = gradients.get(&maps).ok_or_else(|| refuse("one on which the output depends"))?;
        let weights = gradient.mean_keepdim((2, 3))?;
        let heat = maps.as_tensor().detach().broadcast_mul(&weights)?.sum(1)?.relu()?;
        let (_, rows, columns) = heat.dims3()?;
        let mut values = Vec::with_capacity(count * height * width);
        for picture in heat.flatten_from(1)?.to_vec2::<f32>()? {
            let most = picture.iter().copied().fold(0.0, f32::max);
            let scaled: Vec<f32> = picture.iter().map(|value| value / most.max(f32::MIN_POSITIVE)).collect();
            values.extend(enlarge(&scaled, (rows, columns), (height, width)));
        }
        Ok(HeatMaps {
            maps: Tensor::from_vec(values, (count, height, width), x.device())?,
            classes,
            names: Vec::new(),
        })
    }
}

/// Bilinear, the corners of the pixels on those of the picture.
fn enlarge(values: &[f32], (rows, columns): (usize, usize), (height, width): (usize, usize)) -> Vec<f32> {
    let place = |at: usize, from: usize, to: usize| {
        let place = ((at as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        let low = place as usize;
        (low, (low + 1).min(from - 1), place - low as f32)
    };
    let mut large = Vec::with_capacity(height * width);
    for row in 0..height {
        let (top, bottom, down) = place(row, rows, height);
        for column in 0..width {
            let (left, right, along) = place(column, columns, width);
            let at = |row: usize, column: usize| values[row * columns + column];
            let upper = at(top, left) * (1.0 - along) + at(top, right) * along;
            let lower = at(bottom, left) * (1.0 - along) + at(bottom, right) * along;
            large.push(upper * (1.0 - down) + lower * down);
        }
    }
    large
}

impl HeatMaps {
    /// Sets the names of the classes, which then stand under the pictures.
    pub fn class_names(self, names: &[impl AsRef<str>]) -> HeatMaps {
        HeatMaps { names: names.iter().map(|name| name.as_ref().to_owned()).collect(), ..self }
    }

    /// The pictures, `[N, 3, height, width]` from 0 to 255, with the heat over them: dark where
    /// nothing is seen, yellow where most is.
    ///
    /// # Errors
    /// [`Error::Shape`] if these are other pictures.
    pub fn over(&self, pictures: &Tensor) -> Result<Pictures> {
        let (count, height, width) = self.maps.dims3()?;
        if pictures.dims() != [count, 3, height, width] {
            let expected = format!("[{count}, 3, {height}, {width}]");
            return Err(Error::shape("pictures under heat maps", expected, pictures.dims(), ""));
        }
        let heat = self.maps.flatten_all()?.to_vec1::<f32>()?;
        let pixels = height * width;
        let mut colours = vec![0f32; count * 3 * pixels];
        for (at, heat) in heat.iter().enumerate() {
            let (picture, pixel) = (at / pixels, at % pixels);
            for (channel, value) in colour(*heat).into_iter().enumerate() {
                colours[(picture * 3 + channel) * pixels + pixel] = value;
            }
        }
        let colours = Tensor::from_vec(colours, pictures.dims(), pictures.device())?;
        let mixed = ((pictures.to_dtype(DType::F32)? * 0.5)? + (colours * 0.5)?)?;
        let name =
            |class: &usize| self.names.get(*class).cloned().unwrap_or_else(|| format!("class {class}"));
        Pictures::new(&mixed, &self.classes.iter().map(name).collect::<Vec<_>>())
    }
}

/// From black by violet and orange to yellow: matplotlib's inferno at five places.
fn colour(heat: f32) -> [f32; 3] {
    const PLACES: [[f32; 3]; 5] = [
        [0.0, 0.0, 4.0],
        [87.0, 16.0, 110.0],
        [188.0, 55.0, 84.0],
        [249.0, 142.0, 9.0],
        [252.0, 255.0, 164.0],
    ];
    let place = heat.clamp(0.0, 1.0) * 4.0;
    let low = (place as usize).min(3);
    std::array::from_fn(|c| PLACES[low][c] + (PLACES[low + 1][c] - PLACES[low][c]) * (place - low as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn heat_is_where_the_class_is() -> Result<()> {
        // A network that tells bright from dark by a corner: its class is the brightness there.
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
        // Nothing speaks for the other class.
        let other = model.grad_cam(&x, GradCam::new().class(0))?;
        assert_eq!(other.maps.max_all()?.to_scalar::<f32>()?, 0.0);
        assert!(model.grad_cam(&x, GradCam::new().class(2)).unwrap_err().to_string().contains("0 to 1"));
        assert!(model.grad_cam(&x, GradCam::new().layer("dense")).is_err());
        Ok(())
    }
}
