//! Batches from samples that are on the GPU.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, Indices as I, Int};
use crate::raw::{Array, Gpu};
use crate::{Error, Result};

impl Gpu {
    /// Copies rows of `columns` values: row `i` of `y` is row `rows[i]` of `x`.
    ///
    /// # Errors
    /// [`Error::Argument`] if `x` has no such row; [`Error::Length`] if `y` is too short; [`Error::Cuda`].
    pub fn gather_rows(&self, x: &Array, rows: &[u32], columns: usize, y: &Array) -> Result<()> {
        const NAME: &str = "gather_rows";
        let available = x.len() / columns.max(1);
        if let Some(row) = rows.iter().find(|row| **row as usize >= available) {
            return Err(Error::argument(NAME, format!("rows below {available}"), row));
        }
        let count = rows.len() * columns;
        let rows = rows.iter().map(|row| int(NAME, *row as usize)).collect::<Result<Vec<i32>>>()?;
        let indices = self.upload_indices(&rows)?;
        let arguments = [
            A(x, available * columns),
            I(&indices, rows.len()),
            A(y, count),
            Int(int(NAME, count)?),
            Int(int(NAME, columns)?),
        ];
        self.launch_each(NAME, count, &arguments)
    }
}
