//! Linear layers over all tokens of a batch.

use std::ops::Range;

use candle_core::Tensor;

use super::GradPart;
use super::access::{by_dtype, read, write};
use crate::Result;
use crate::kernels::{Mat, MatMut, Real, gemm, rows};

/// One linear layer's places in the flat parameter vector.
#[derive(Debug, Clone)]
pub struct LinearParams {
    /// The weight, [out, in] row-major.
    pub weight: Range<usize>,
    /// The bias, out.
    pub bias: Range<usize>,
}

impl LinearParams {
    fn width_out(&self) -> usize {
        self.bias.len()
    }

    fn width_in(&self) -> usize {
        self.weight.len() / self.bias.len()
    }
}

/// output = input W^T, for several layers of one input side by side; the next operation adds the biases.
pub struct Linear<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// The layers; they share their input.
    pub layers: &'a [LinearParams],
    /// [N, in].
    pub input: &'a Tensor,
    /// [N, sum of out], overwritten.
    pub output: &'a Tensor,
}

impl Linear<'_> {
    /// Computes `output`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.output, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (params, input) = (read(self.params)?, read(self.input)?);
        let (params, input) = (params.slice::<T>()?, input.slice::<T>()?);
        let (num_tokens, width) = self.output.dims2()?;
        write::<T, _>(self.output, |output| {
            let mut column = 0;
            for layer in self.layers {
                let (width_in, width_out) = (layer.width_in(), layer.width_out());
                let x = Mat::new(input, num_tokens, width_in, width_in);
                let weight = Mat::new(&params[layer.weight.clone()], width_out, width_in, width_in);
                let out = MatMut::new(&mut output[column..], num_tokens, width_out, width);
                gemm(out, false, T::ONE, x, weight.t());
                column += width_out;
            }
            Ok(())
        })
    }
}

/// The backward of [`Linear`].
pub struct LinearBackward<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// The layers; they share their input.
    pub layers: &'a [LinearParams],
    /// [N, sum of out].
    pub d_output: &'a Tensor,
}

impl LinearBackward<'_> {
    /// d_input = d_output W, [N, in], or += where `accumulate`.
    pub fn input(&self, d_input: &Tensor, accumulate: bool) -> Result<()> {
        by_dtype!(d_input, T => self.input_cpu::<T>(d_input, accumulate))
    }

    /// Adds d_output^T input to the weights' gradients, and where `with_bias` the sums over tokens to the biases'.
    pub fn params(&self, input: &Tensor, grad: GradPart<'_>, with_bias: bool) -> Result<()> {
        by_dtype!(grad.tensor, T => self.params_cpu::<T>(input, grad, with_bias))
    }

    fn input_cpu<T: Real>(&self, d_input: &Tensor, accumulate: bool) -> Result<()> {
        let (params, d_output) = (read(self.params)?, read(self.d_output)?);
        let (params, d_output) = (params.slice::<T>()?, d_output.slice::<T>()?);
        let (num_tokens, width) = self.d_output.dims2()?;
        write::<T, _>(d_input, |d_input| {
            let mut column = 0;
            for layer in self.layers {
                let (width_in, width_out) = (layer.width_in(), layer.width_out());
                let d = Mat::new(&d_output[column..], num_tokens, width_out, width);
                let weight = Mat::new(&params[layer.weight.clone()], width_out, width_in, width_in);
                gemm(MatMut::new(d_input, num_tokens, width_in, width_in), accumulate || column > 0, T::ONE, d, weight);
                column += width_out;
            }
            Ok(())
        })
    }

    fn params_cpu<T: Real>(&self, input: &Tensor, grad: GradPart<'_>, with_bias: bool) -> Result<()> {
        let (input, d_output) = (read(input)?, read(self.d_output)?);
        let (input, d_output) = (input.slice::<T>()?, d_output.slice::<T>()?);
        let (num_tokens, width) = self.d_output.dims2()?;
        write::<T, _>(grad.tensor, |values| {
            let mut column = 0;
            for layer in self.layers {
                let (width_in, width_out) = (layer.width_in(), layer.width_out());
                let d = Mat::new(&d_output[column..], num_tokens, width_out, width);
                let x = Mat::new(input, num_tokens, width_in, width_in);
                let d_weight = MatMut::new(&mut values[grad.place(&layer.weight)], width_out, width_in, width_in);
                gemm(d_weight, !grad.fresh, T::ONE, d.t(), x);
                if with_bias {
                    let bias = &mut values[grad.place(&layer.bias)];
                    if grad.fresh {
                        bias.fill(T::ZERO);
                    }
                    rows::add_column_sums(bias, &d_output[column..], width);
                }
                column += width_out;
            }
            Ok(())
        })
    }
}
