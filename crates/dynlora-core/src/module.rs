//! One adapted linear layer.
//!
//! Orientation is PEFT's: `y = W x + scale * B (A x)` with `W (d_out, d_in)`, `A (rank, d_in)`, `B (d_out, rank)`, all
//! row-major.

use crate::Error;

/// A linear layer that may be adapted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleShape {
    /// The module's path in the Hugging Face model, for example `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Columns of its weight.
    pub d_in: usize,
    /// Rows of its weight.
    pub d_out: usize,
}

/// The two factors of one linear layer's update.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraModule {
    /// The module's path in the Hugging Face model.
    pub name: String,
    /// Columns of the weight.
    pub d_in: usize,
    /// Rows of the weight.
    pub d_out: usize,
    /// Rows of `a` and columns of `b`.
    pub rank: usize,
    /// Factor on `B A`.
    pub scale: f32,
    /// `A`, `(rank, d_in)`, row-major.
    pub a: Vec<f32>,
    /// `B`, `(d_out, rank)`, row-major.
    pub b: Vec<f32>,
}

impl LoraModule {
    /// Numbers in `a` and `b`.
    pub fn num_parameters(&self) -> usize {
        self.a.len() + self.b.len()
    }

    /// The update `scale * B A`, `(d_out, d_in)`, row-major: summed in f64 and rounded once.
    ///
    /// # Panics
    /// If `a` or `b` does not have the length that `rank`, `d_in` and `d_out` ask for.
    pub fn delta(&self) -> Vec<f32> {
        let mut delta = Vec::with_capacity(self.d_out * self.d_in);
        self.for_each_row(|_, row| delta.extend(row.iter().map(|value| *value as f32)));
        delta
    }

    /// Adds the update to `weight`, `(d_out, d_in)`, row-major. Each entry is rounded once.
    ///
    /// # Errors
    /// [`Error::Module`] if `weight` has another length.
    ///
    /// # Panics
    /// As [`delta`](Self::delta).
    pub fn merge_into(&self, weight: &mut [f32]) -> Result<(), Error> {
        if weight.len() != self.d_out * self.d_in {
            return Err(Error::module(&self.name, "weights to merge into", self.d_out * self.d_in, weight.len()));
        }
        self.for_each_row(|row_idx, row| {
            let weights = &mut weight[row_idx * self.d_in..][..self.d_in];
            for (weight, value) in weights.iter_mut().zip(row) {
                // Leaves the weight's bits alone where there is no update: -0.0 + 0.0 would be 0.0.
                if *value != 0.0 {
                    *weight = (f64::from(*weight) + value) as f32;
                }
            }
        });
        Ok(())
    }

    fn for_each_row(&self, mut visit: impl FnMut(usize, &[f64])) {
        assert_eq!(
            self.a.len(),
            self.rank * self.d_in,
            "A of module {} has another length than rank * d_in",
            self.name
        );
        assert_eq!(
            self.b.len(),
            self.d_out * self.rank,
            "B of module {} has another length than d_out * rank",
            self.name
        );
        let mut row = vec![0.0_f64; self.d_in];
        for (row_idx, b_row) in self.b.chunks_exact(self.rank.max(1)).enumerate() {
            row.fill(0.0);
            for (b, a_row) in b_row.iter().zip(self.a.chunks_exact(self.d_in.max(1))) {
                let b = f64::from(*b);
                for (sum, a) in row.iter_mut().zip(a_row) {
                    *sum += b * f64::from(*a);
                }
            }
            for sum in &mut row {
                *sum *= f64::from(self.scale);
            }
            visit(row_idx, &row);
        }
    }
}
