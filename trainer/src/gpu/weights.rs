//! The copy of the weights that matrix products read, in the type that the GPU computes with.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::address::{address, element};
use super::{Gpu, Launch};
use crate::model::layout::ParamLayout;
use crate::{Error, Result};

/// Threads of a block that goes over elements.
const THREADS: u32 = 256;
/// Blocks that share a range.
const BLOCKS: usize = 32;

/// The linear layers' weights behind one another, without what lies between them in the flat vector: so queries, keys and values
/// are one matrix.
#[derive(Debug)]
pub struct Weights {
    values: Tensor,
    /// By place in the flat vector: the range there, and where it begins here.
    places: Vec<(Range<usize>, usize)>,
    /// The same on the device, [ranges, 3]: where a range begins in the flat vector, its length, where it begins here.
    table: Tensor,
}

impl Weights {
    /// Room for a model's.
    ///
    /// # Errors
    /// The model's widths are odd, or the device gives no memory.
    pub fn new(gpu: &Gpu, layout: &ParamLayout) -> Result<Self> {
        let matrices = layout.entries.iter().filter(|entry| entry.name.starts_with("encoder.") && entry.shape.len() == 2);
        let (mut total, mut places, mut table) = (0, Vec::new(), Vec::new());
        for entry in matrices {
            if !entry.offset.is_multiple_of(2) || !entry.len.is_multiple_of(2) {
                return Err(Error::input(format!(
                    "parameter {} does not run on a GPU: the model's widths must be even",
                    entry.name
                )));
            }
            let numbers = [entry.offset, entry.len, total].map(u32::try_from);
            let [from, len, to] =
                numbers.map(|number| number.map_err(|_| Error::input("the model has more than 2^32 parameters")));
            table.extend([from?, len?, to?]);
            places.push((entry.range(), total));
            total += entry.len;
        }
        let values = Tensor::zeros(total.max(1), gpu.precision().dtype(), gpu.device())?;
        Ok(Self { values, places, table: Tensor::new(table, gpu.device())? })
    }

    /// Takes the weights from the flat parameters, f32.
    ///
    /// # Errors
    /// The device refused it.
    pub fn update(&self, gpu: &Gpu, params: &Tensor) -> Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let launch = Launch::new("copy_weights", [BLOCKS, self.places.len(), 1], THREADS)
            .with(self.address()?)
            .with(element(params, 0)?)
            .with(address(&self.table, DType::U32)?);
        // SAFETY: the ranges lie in the parameters, their places in the copy.
        unsafe { gpu.backend().launch(&launch) }
    }

    /// Where the copy begins.
    pub(super) fn address(&self) -> Result<u64> {
        address(&self.values, self.values.dtype())
    }

    /// Where in the copy a range of the flat vector begins that is one weight.
    pub(super) fn first_of(&self, range: &Range<usize>) -> Option<usize> {
        let found = self.places.binary_search_by_key(&range.start, |(own, _)| own.start).ok()?;
        let (own, first) = &self.places[found];
        (own == range).then_some(*first)
    }

    /// The address of the copy of a range of the flat vector that is one weight.
    pub(super) fn place(&self, range: &Range<usize>) -> Result<u64> {
        let first = self.first_of(range);
        let first =
            first.ok_or_else(|| Error::Internal(format!("elements {range:?} of the parameters are no weight of a layer")))?;
        Ok(self.address()? + (self.values.dtype().size_in_bytes() * first) as u64)
    }
}
