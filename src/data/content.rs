//! The content of samples, for keys of cached features.

use candle_core::DType;

use super::Samples;
use super::inputs::Inputs;
use crate::files::little_endian;
use crate::{Error, Result};

/// Number of rows that are read at once.
const ROWS: usize = 256;

impl Samples {
    /// Calls a function with each part of the inputs' content: its name and its bytes. Targets and weights are
    /// not included.
    pub(crate) fn visit_content(&self, visit: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
        match &self.x {
            Inputs::Images(paths, decoding) => {
                visit("decoding", format!("{decoding:?}").as_bytes())?;
                for path in paths.iter() {
                    visit("image", &std::fs::read(path).map_err(Error::io(path))?)?;
                }
            }
            Inputs::Memory(_) | Inputs::File(..) => {
                for start in (0..self.count()).step_by(ROWS) {
                    let rows: Vec<u32> =
                        (start..self.count().min(start + ROWS)).map(|at| at as u32).collect();
                    let x = self.take(&rows)?.x;
                    visit("shape", format!("{:?}", x.dims()).as_bytes())?;
                    let values = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                    visit("rows", &little_endian(&values))?;
                }
            }
        }
        Ok(())
    }
}
