//! The activations: `kernels/activation.cu`.

use super::{OnGpu, Partials, column_loop};
use crate::gpu::Place;
use crate::gpu::address::element;
use crate::gpu::launch::Launch;
use crate::model::config::Activation;
use crate::ops::{Activate, ActivateBackward};
use crate::{Error, Result};

/// The kernels' number of an activation.
fn number(kind: Activation) -> u32 {
    match kind {
        Activation::Gelu => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    }
}

/// The kernel for rows of this width: of sixteen bytes and their multiples, or not.
fn activation_loop(place: &Place<'_>, kernel: &str, n: usize, width: usize) -> Result<(Launch, usize)> {
    if !width.is_multiple_of(2) {
        return Err(Error::input(format!("a width of {width} does not run on a GPU: it must be even")));
    }
    let columns = if width.is_multiple_of(8) { 8 } else { 2 };
    Ok(column_loop(place.gpu, format!("{kernel}_{columns}"), columns, (n, width)))
}

impl OnGpu for Activate<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (n, width) = self.output.dims2()?;
        let (launch, _) = activation_loop(place, "activate", n, width)?;
        let launch = launch
            .with(place.values(self.output)?)
            .with(place.values(self.input.unwrap_or(self.output))?)
            .with(element(self.params, self.bias.start)?)
            .with(number(self.kind))
            .count(n)
            .count(width);
        // SAFETY: both matrices have n rows of `width`; each element is read by the thread that writes it.
        unsafe { place.gpu.backend().launch(&launch) }
    }
}

impl OnGpu for ActivateBackward<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (n, width) = self.d.dims2()?;
        let (launch, blocks) = activation_loop(place, "activate_backward", n, width)?;
        let partials = Partials::new(place.gpu, 1, blocks, width)?;
        let launch = launch
            .with(place.values(self.input)?)
            .with(place.values(self.d)?)
            .with(partials.address)
            .with(element(self.params, self.bias.start)?)
            .with(number(self.kind))
            .count(n)
            .count(width);
        // SAFETY: both matrices have n rows of `width`, the partial sums `width` elements for each block.
        unsafe { place.gpu.backend().launch(&launch)? };
        partials.add(place.gpu, self.grad, &[&self.bias])
    }
}
