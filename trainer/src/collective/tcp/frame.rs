//! Frames: operation, sequence number, length, body. Floats travel as little-endian f32.

use std::io::{self, Read, Write};

/// Bytes of a frame's head.
const HEAD: usize = 17;
/// The longest body.
pub(super) const MAX_BODY: u64 = 1 << 36;
/// Bytes read or written at a time.
const CHUNK: usize = 1 << 18;

/// What ranks do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Gather = 1,
    Reduce = 2,
    Spread = 3,
    Barrier = 4,
}

impl Op {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gather => "gather",
            Self::Reduce => "reduce",
            Self::Spread => "spread",
            Self::Barrier => "barrier",
        }
    }
}

/// What a rank sends to another.
pub(super) enum Body<'a> {
    Bytes(&'a [u8]),
    Floats(Vec<&'a [f32]>),
}

impl Body<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Floats(parts) => parts.iter().map(|part| part.len() as u64 * 4).sum(),
        }
    }

    /// Writes the whole frame.
    pub(super) fn write(&self, op: Op, sequence: u64, mut to: impl Write) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK + HEAD);
        chunk.push(op as u8);
        chunk.extend(sequence.to_le_bytes());
        chunk.extend(self.len().to_le_bytes());
        match self {
            Self::Bytes(bytes) => {
                let (first, rest) = bytes.split_at(bytes.len().min(CHUNK));
                chunk.extend_from_slice(first);
                to.write_all(&chunk)?;
                to.write_all(rest)
            }
            Self::Floats(parts) => {
                for values in parts.iter().flat_map(|part| part.chunks(CHUNK / 4)) {
                    chunk.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    to.write_all(&chunk)?;
                    chunk.clear();
                }
                to.write_all(&chunk)
            }
        }
    }
}

/// Reads a frame's head: operation, sequence number, length of the body.
pub(super) fn read_head(mut from: impl Read) -> io::Result<(u8, u64, u64)> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head)?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    Ok((head[0], number(1), number(9)))
}

/// Reads a body of bytes; memory grows with what arrives, not with what was announced.
pub(super) fn read_bytes(from: impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len.min(CHUNK as u64) as usize);
    from.take(len).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == len {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads floats into `values`.
pub(super) fn read_floats(mut from: impl Read, values: &mut [f32]) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK.min(values.len() * 4)];
    for values in values.chunks_mut(CHUNK / 4) {
        let bytes = &mut bytes[..values.len() * 4];
        from.read_exact(bytes)?;
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    Ok(())
}
