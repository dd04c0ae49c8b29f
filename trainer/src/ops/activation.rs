//! The feed-forward activation with the bias before it.

use std::ops::Range;

use candle_core::Tensor;

use super::GradPart;
use super::access::{by_dtype, read, write};
use crate::Result;
use crate::kernels::{Real, activation};
use crate::model::config::Activation;

/// output = activation(input + bias).
pub struct Activate<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// Where the bias lies.
    pub bias: Range<usize>,
    /// Which activation.
    pub kind: Activation,
    /// [N, ffn], without the bias; none if `output` holds it.
    pub input: Option<&'a Tensor>,
    /// [N, ffn], overwritten.
    pub output: &'a Tensor,
}

impl Activate<'_> {
    /// Computes `output`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.output, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (params, input) = (read(self.params)?, self.input.map(read).transpose()?);
        let bias = &params.slice::<T>()?[self.bias.clone()];
        let input = input.as_ref().map(|input| input.slice::<T>()).transpose()?;
        write::<T, _>(self.output, |output| {
            match input {
                Some(input) => activation::activate(output, input, bias, self.kind),
                None => activation::activate_in_place(output, bias, self.kind),
            }
            Ok(())
        })
    }
}

/// The backward of [`Activate`]; it gives the activation's value once more.
pub struct ActivateBackward<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// Where the bias lies.
    pub bias: Range<usize>,
    /// Which activation.
    pub kind: Activation,
    /// [N, ffn]: holds the input without the bias, receives the output.
    pub input: &'a Tensor,
    /// [N, ffn]: holds the output's gradient, receives the input's.
    pub d: &'a Tensor,
    /// The flat gradients: the bias's is added.
    pub grad: GradPart<'a>,
}

impl ActivateBackward<'_> {
    /// Edits `input`, `d` and `grad`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.d, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let params = read(self.params)?;
        let bias = &params.slice::<T>()?[self.bias.clone()];
        write::<T, _>(self.input, |input| {
            write::<T, _>(self.d, |d| {
                write::<T, _>(self.grad.tensor, |grad| {
                    let mut sums = vec![T::ZERO; bias.len()];
                    activation::activate_backward(input, d, bias, &mut sums, self.kind);
                    self.grad.add(grad, &self.bias, &sums);
                    Ok(())
                })
            })
        })
    }
}
