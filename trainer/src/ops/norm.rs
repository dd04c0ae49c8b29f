//! LayerNorm alone, and with the residual sum before it.

use std::ops::Range;

use candle_core::Tensor;

use super::access::{by_dtype, read, write};
use super::{GradPart, masked_rows};
use crate::Result;
use crate::dropout::SiteDropout;
use crate::kernels::Real;
use crate::kernels::layer_norm::{self, Norm, NormSums};
use crate::packed::PackedBatch;

/// One LayerNorm's places in the flat parameter vector, and its epsilon.
#[derive(Debug, Clone)]
pub struct NormParams {
    /// The weight, h.
    pub gamma: Range<usize>,
    /// The bias, h.
    pub beta: Range<usize>,
    /// Added to the variance.
    pub eps: f64,
}

impl NormParams {
    /// The parameters themselves.
    pub(crate) fn of<'a, T: Real>(&self, params: &'a [T]) -> Norm<'a, T> {
        Norm { gamma: &params[self.gamma.clone()], beta: &params[self.beta.clone()], eps: T::of(self.eps) }
    }

    /// Zeroed sums over tokens, for [`Self::add`].
    pub(crate) fn sums<T: Real>(&self) -> Vec<T> {
        vec![T::ZERO; 2 * self.gamma.len()]
    }

    /// The two halves of [`Self::sums`].
    pub(crate) fn split<'a, T: Real>(&self, sums: &'a mut [T]) -> NormSums<'a, T> {
        let (gamma, beta) = sums.split_at_mut(self.gamma.len());
        NormSums { gamma, beta }
    }

    /// Adds the sums to the gradients, the values of `part`.
    pub(crate) fn add<T: Real>(&self, grad: &mut [T], part: GradPart<'_>, sums: &[T]) {
        let (gamma, beta) = sums.split_at(self.gamma.len());
        part.add(grad, &self.gamma, gamma);
        part.add(grad, &self.beta, beta);
    }
}

/// output = LayerNorm(input).
pub struct Normalize<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// Which of them.
    pub norm: &'a NormParams,
    /// [N, h].
    pub input: &'a Tensor,
    /// [N, h], overwritten.
    pub output: &'a Tensor,
}

impl Normalize<'_> {
    /// Computes `output`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.output, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (params, input) = (read(self.params)?, read(self.input)?);
        let (params, input) = (params.slice::<T>()?, input.slice::<T>()?);
        write::<T, _>(self.output, |output| {
            layer_norm::normalize(output, input, self.norm.of(params));
            Ok(())
        })
    }
}

/// sums = residual + dropout(sums + bias), output = LayerNorm(sums).
pub struct ResidualNormalize<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// The LayerNorm.
    pub norm: &'a NormParams,
    /// Where the bias lies.
    pub bias: Range<usize>,
    /// The sequences, for their masks.
    pub batch: &'a PackedBatch,
    /// The site's dropout.
    pub dropout: Option<SiteDropout>,
    /// [N, h].
    pub residual: &'a Tensor,
    /// [N, h]: holds the projection without its bias, receives the sum.
    pub sums: &'a Tensor,
    /// [N, h], overwritten.
    pub output: &'a Tensor,
}

impl ResidualNormalize<'_> {
    /// Edits `sums` and computes `output`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.output, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (params, residual) = (read(self.params)?, read(self.residual)?);
        let (params, residual) = (params.slice::<T>()?, residual.slice::<T>()?);
        let (norm, bias, h) = (self.norm.of(params), &params[self.bias.clone()], self.bias.len());
        write::<T, _>(self.sums, |sums| {
            write::<T, _>(self.output, |output| {
                for (tokens, mut mask) in masked_rows(self.batch, self.dropout, h) {
                    let part = tokens.start * h..tokens.end * h;
                    let edited = (&mut sums[part.clone()], &mut output[part.clone()]);
                    layer_norm::residual_normalize(edited, &residual[part], bias, norm, mask.as_mut());
                }
                Ok(())
            })
        })
    }
}

/// The backward of [`ResidualNormalize`].
pub struct ResidualNormalizeBackward<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// The LayerNorm.
    pub norm: &'a NormParams,
    /// Where the bias lies.
    pub bias: Range<usize>,
    /// The sequences, for their masks.
    pub batch: &'a PackedBatch,
    /// The site's dropout.
    pub dropout: Option<SiteDropout>,
    /// [N, h]: the sum that was normalised.
    pub sums: &'a Tensor,
    /// [N, h]: holds the output's gradient, receives the residual's.
    pub d: &'a Tensor,
    /// [N, h]: receives the projection's gradient.
    pub d_projected: &'a Tensor,
    /// The flat gradients: those of LayerNorm and bias are added.
    pub grad: GradPart<'a>,
}

impl ResidualNormalizeBackward<'_> {
    /// Edits `d` and `grad`, and computes `d_projected`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.d, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (params, sums) = (read(self.params)?, read(self.sums)?);
        let (params, sums) = (params.slice::<T>()?, sums.slice::<T>()?);
        let (norm, h) = (self.norm.of(params), self.bias.len());
        let (mut norm_sums, mut bias_sums) = (self.norm.sums::<T>(), vec![T::ZERO; h]);
        write::<T, _>(self.d, |d| {
            write::<T, _>(self.d_projected, |projected| {
                for (tokens, mut mask) in masked_rows(self.batch, self.dropout, h) {
                    let part = tokens.start * h..tokens.end * h;
                    let edited = (&mut d[part.clone()], &mut projected[part.clone()]);
                    let mut split = self.norm.split(&mut norm_sums);
                    layer_norm::residual_backward(edited, &sums[part], norm, &mut split, &mut bias_sums, mask.as_mut());
                }
                Ok(())
            })
        })?;
        write::<T, _>(self.grad.tensor, |grad| {
            self.norm.add(grad, self.grad, &norm_sums);
            self.grad.add(grad, &self.bias, &bias_sums);
            Ok(())
        })
    }
}
