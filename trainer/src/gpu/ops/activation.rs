//! The activations: `kernels/activation.cu`.

use super::{OnGpu, Partials, column_loop, narrow};
use crate::Result;
use crate::gpu::Place;
use crate::gpu::address::element;
use crate::model::config::Activation;
use crate::ops::{Activate, ActivateBackward};

/// The kernels' number of an activation.
fn number(kind: Activation) -> u32 {
    match kind {
        Activation::Gelu => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    }
}

impl OnGpu for Activate<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (n, width) = self.output.dims2()?;
        let (launch, _) = column_loop(place.gpu, "activate", n, width)?;
        let launch = launch
            .with(narrow(self.output)?)
            .with(narrow(self.input.unwrap_or(self.output))?)
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
        let (launch, blocks) = column_loop(place.gpu, "activate_backward", n, width)?;
        let partials = Partials::new(place.gpu, 1, blocks, width)?;
        let launch = launch
            .with(narrow(self.input)?)
            .with(narrow(self.d)?)
            .with(partials.address)
            .with(element(self.params, self.bias.start)?)
            .with(number(self.kind))
            .count(n)
            .count(width);
        // SAFETY: both matrices have n rows of `width`, the partial sums `width` elements for each block.
        unsafe { place.gpu.backend().launch(&launch)? };
        partials.add(place.gpu, 0, self.grad, &self.bias)
    }
}
