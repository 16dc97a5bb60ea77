//! Layers for sequences of tokens `[tokens, features]`, as in vision transformers (Dosovitskiy et al. 2020).

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode, Param};
use crate::{Error, Result, random};

/// Limit of the uniform distribution of initial embeddings (√3 · 0.02: standard deviation 0.02).
const LIMIT: f32 = 0.034_641_016;

/// Puts a trainable token before the others, the class token, from which a vision transformer classifies.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ClassToken;

/// Adds a trainable vector to each token, so that the model knows its position.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PositionEmbedding;

/// Returns the first token: the class token after the last block of a vision transformer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FirstToken;

/// The mean of all tokens: `[N, tokens, C]` becomes `[N, C]`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GlobalAveragePooling1D;

/// Number of tokens and features of a layer's input.
fn sequence(context: &Context) -> Result<[usize; 2]> {
    match *context.inputs[0] {
        [tokens, features] if tokens > 0 && features > 0 => Ok([tokens, features]),
        _ => Err(Error::shape(context.name, "[tokens, features]", context.inputs[0], "")),
    }
}

impl Build for ClassToken {
    fn default_name(&self) -> &str {
        "class_token"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [tokens, features] = sequence(&context)?;
        let token = random::uniform(context.random, &[features], LIMIT, context.device)?;
        Ok(Arc::new(Class { token: Param::weight("class_token", &token)?, shape: [tokens + 1, features] }))
    }
}

struct Class {
    token: Param,
    shape: [usize; 2],
}

impl Layer for Class {
    fn kind(&self) -> &'static str {
        "ClassToken"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let token = self.token.value(mode).reshape((1, 1, self.shape[1]))?;
        let token = token.broadcast_as((inputs[0].dim(0)?, 1, self.shape[1]))?;
        Ok(Tensor::cat(&[&token, inputs[0]], 1)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        vec![self.token.clone()]
    }
}

impl Build for PositionEmbedding {
    fn default_name(&self) -> &str {
        "position_embedding"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let shape = sequence(&context)?;
        let embeddings = random::uniform(context.random, &shape, LIMIT, context.device)?;
        Ok(Arc::new(Position { embeddings: Param::weight("position_embedding", &embeddings)?, shape }))
    }
}

struct Position {
    embeddings: Param,
    shape: [usize; 2],
}

impl Layer for Position {
    fn kind(&self) -> &'static str {
        "PositionEmbedding"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        Ok(inputs[0].broadcast_add(&self.embeddings.value(mode))?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        vec![self.embeddings.clone()]
    }
}

impl Build for FirstToken {
    fn default_name(&self) -> &str {
        "first_token"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [_, features] = sequence(&context)?;
        Ok(Arc::new(First { shape: [features] }))
    }
}

struct First {
    shape: [usize; 1],
}

impl Layer for First {
    fn kind(&self) -> &'static str {
        "FirstToken"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

impl Build for GlobalAveragePooling1D {
    fn default_name(&self) -> &str {
        "global_average_pooling1d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [_, features] = sequence(&context)?;
        Ok(Arc::new(Mean { shape: [features] }))
    }
}

struct Mean {
    shape: [usize; 1],
}

impl Layer for Mean {
    fn kind(&self) -> &'static str {
        "GlobalAveragePooling1D"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].mean(1)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
