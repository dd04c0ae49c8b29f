//! Linear layers: matrix products, and the sums of biases.

use std::ops::Range;

use candle_core::Tensor;

use super::{OnGpu, grad_of, rows::add_column_sums};
use crate::Result;
use crate::gpu::{Matrix, Place, Product, Repeats, Width};
use crate::ops::linear::LinearParams;
use crate::ops::{GradPart, Linear, LinearBackward};

fn matrix(address: u64, stride: usize) -> Matrix {
    Matrix { address, stride, transposed: false }
}

fn transposed(address: u64, stride: usize) -> Matrix {
    Matrix { address, stride, transposed: true }
}

/// Layers whose weights stand below one another in the copy: the first one's address, and the rows of all; or none.
fn stacked(layers: &[LinearParams], place: &Place<'_>) -> Result<Option<(u64, usize)>> {
    let first = place.weights.place(&layers[0].weight)?;
    let mut next = first;
    for layer in layers {
        if place.weights.place(&layer.weight)? != next {
            return Ok(None);
        }
        next += place.bytes(layer.weight.len());
    }
    Ok(Some((first, layers.iter().map(|layer| layer.bias.len()).sum())))
}

/// The layers as few products: each with its weight's address, and its columns of the output.
fn products(layers: &[LinearParams], place: &Place<'_>) -> Result<Vec<(u64, Range<usize>)>> {
    if let Some((address, rows)) = stacked(layers, place)? {
        return Ok(vec![(address, 0..rows)]);
    }
    let mut column = 0;
    let each = layers.iter().map(|layer| {
        column += layer.bias.len();
        Ok((place.weights.place(&layer.weight)?, column - layer.bias.len()..column))
    });
    each.collect()
}

/// Layers whose gradients are one product each, with how many of them that are: all at once where they are of one size and lie equally far apart.
fn alike(layers: &[LinearParams]) -> Vec<(&LinearParams, usize)> {
    let apart = |pair: &[LinearParams]| (pair[1].weight.start - pair[0].weight.start, pair[1].bias.len() == pair[0].bias.len());
    let mut distances = layers.windows(2).map(apart);
    match distances.next() {
        Some(first) if first.1 && distances.all(|next| next == first) => vec![(&layers[0], layers.len())],
        _ => layers.iter().map(|layer| (layer, 1)).collect(),
    }
}

impl OnGpu for Linear<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let ((n, width_in), (_, width)) = (self.input.dims2()?, self.output.dims2()?);
        let (input, output) = (place.values(self.input)?, place.values(self.output)?);
        for (weight, columns) in products(self.layers, place)? {
            let product = Product {
                sizes: (n, columns.len(), width_in),
                left: matrix(input, width_in),
                right: transposed(weight, width_in),
                out: (output + place.bytes(columns.start), width),
                operands: place.gpu.precision().operands(),
                result: place.gpu.precision().stored(),
                accumulate: false,
                repeats: Repeats::ONCE,
            };
            // SAFETY: the input has n rows, the weight a row for each column, and the output is another tensor.
            unsafe { place.gpu.backend().multiply(&product)? };
        }
        Ok(())
    }
}

impl LinearBackward<'_> {
    /// [`LinearBackward::input`] on a GPU.
    pub(crate) fn launch_input(&self, place: &Place<'_>, d_input: &Tensor, accumulate: bool) -> Result<()> {
        let ((n, width), (_, width_in)) = (self.d_output.dims2()?, d_input.dims2()?);
        let (d_output, to) = (place.values(self.d_output)?, place.values(d_input)?);
        for (index, (weight, columns)) in products(self.layers, place)?.into_iter().enumerate() {
            let product = Product {
                sizes: (n, width_in, columns.len()),
                left: matrix(d_output + place.bytes(columns.start), width),
                right: matrix(weight, width_in),
                out: (to, width_in),
                operands: place.gpu.precision().operands(),
                result: place.gpu.precision().stored(),
                accumulate: accumulate || index > 0,
                repeats: Repeats::ONCE,
            };
            // SAFETY: as in the forward, turned round.
            unsafe { place.gpu.backend().multiply(&product)? };
        }
        Ok(())
    }

    /// [`LinearBackward::params`] on a GPU.
    pub(crate) fn launch_params(&self, place: &Place<'_>, input: &Tensor, grad: GradPart<'_>, with_bias: bool) -> Result<()> {
        let ((n, width), (_, width_in)) = (self.d_output.dims2()?, input.dims2()?);
        let (d_output, x) = (place.values(self.d_output)?, place.values(input)?);
        let mut column = 0;
        for (layer, count) in alike(self.layers) {
            let (d, width_out) = (d_output + place.bytes(column), layer.bias.len());
            let apart = self.layers.get(1).map_or(0, |second| second.weight.start - self.layers[0].weight.start);
            let product = Product {
                sizes: (width_out, width_in, n),
                left: transposed(d, width),
                right: matrix(x, width_in),
                out: (grad_of(grad, &layer.weight)?, width_in),
                operands: place.gpu.precision().operands(),
                result: Width::Wide,
                accumulate: true,
                repeats: Repeats { count, left: width_out, right: 0, out: apart },
            };
            // SAFETY: both operands have n rows, and the gradient's range is as large as the weight.
            unsafe { place.gpu.backend().multiply(&product)? };
            column += count * width_out;
        }
        match with_bias {
            true => add_column_sums(place, d_output, (n, width), grad, self.layers.iter().map(|layer| &layer.bias)),
            false => Ok(()),
        }
    }
}
