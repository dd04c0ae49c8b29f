//! A world over TCP: every rank is connected to every other.
//!
//! An operation sends to and receives from all others at once, a thread each way, so that no two ranks can wait for one
//! another. The first fault ends the world: all sockets are shut, which frees every thread and tells the others.

mod connect;
mod frame;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

pub use connect::TcpListenerHandle;

use self::frame::{Body, MAX_BODY, Op, read_bytes, read_floats, read_head};
use super::Collective;
use crate::error::{Error, Result};
use crate::pool::FloatPool;
use crate::tree::{NodeId, combine_nodes, maximal_nodes, rank_leaves};

/// One rank of a world over TCP.
#[derive(Debug)]
pub struct TcpCollective {
    rank: usize,
    /// By rank; none for this one.
    streams: Vec<Option<TcpStream>>,
    io_timeout: Duration,
    /// The number of the next operation; held while one runs.
    sequence: Mutex<u64>,
    /// Why the world ended.
    fault: Mutex<Option<String>>,
    /// Memory for what comes in.
    pool: FloatPool,
}

/// Why an exchange with one rank failed.
enum Fault {
    Io(io::Error),
    OutOfStep(String),
}

/// Nodes of the summation tree with their values.
type Nodes = Vec<(NodeId, Vec<f32>)>;

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl TcpCollective {
    /// Opens a port on this address, for the other ranks.
    ///
    /// # Errors
    /// The address is not this machine's.
    pub fn listen(ip: IpAddr) -> Result<TcpListenerHandle> {
        TcpListenerHandle::bind(ip)
    }

    fn new(rank: usize, streams: Vec<Option<TcpStream>>, io_timeout: Duration) -> Result<Self> {
        let io_timeout = io_timeout.max(Duration::from_millis(1));
        for stream in streams.iter().flatten() {
            let prepare = || {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(io_timeout))?;
                stream.set_write_timeout(Some(io_timeout))
            };
            prepare().map_err(|error: io::Error| {
                Error::Collective(format!("cannot prepare the connection of rank {rank}: {error}"))
            })?;
        }
        Ok(Self { rank, streams, io_timeout, sequence: Mutex::new(0), fault: Mutex::new(None), pool: FloatPool::new() })
    }

    fn peers(&self) -> impl Iterator<Item = (usize, &TcpStream)> {
        self.streams.iter().enumerate().filter_map(|(peer, stream)| Some((peer, stream.as_ref()?)))
    }

    /// Ends the world for this reason, unless it has ended.
    fn end(&self, reason: String) {
        self.fault.lock().expect("no thread panics with it").get_or_insert(reason);
        for (_, stream) in self.peers() {
            // it may be shut already
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn no_fault(&self) -> Result<()> {
        match &*self.fault.lock().expect("no thread panics with it") {
            Some(reason) => Err(Error::Collective(reason.clone())),
            None => Ok(()),
        }
    }

    /// Sends `body(peer)` to every peer while `receive(peer, stream, length)` takes in what each sends.
    fn exchange<'a>(
        &self,
        op: Op,
        body: impl Fn(usize) -> Body<'a> + Sync,
        receive: impl Fn(usize, &TcpStream, u64) -> Result<(), Fault> + Sync,
    ) -> Result<()> {
        let mut next = self.sequence.lock().expect("no thread panics with it");
        self.no_fault()?;
        let sequence = *next;
        *next += 1;
        let guard = |peer: usize, result: Result<(), Fault>| {
            if let Err(fault) = result {
                self.end(self.explain(peer, op, sequence, fault));
            }
        };
        std::thread::scope(|scope| {
            for (peer, stream) in self.peers() {
                let (body, receive, guard) = (&body, &receive, &guard);
                scope.spawn(move || guard(peer, body(peer).write(op, sequence, stream).map_err(Fault::from)));
                scope.spawn(move || guard(peer, take_in(peer, stream, op, sequence, receive)));
            }
        });
        self.no_fault()
    }

    fn explain(&self, peer: usize, op: Op, sequence: u64, fault: Fault) -> String {
        let during = format!("during {} {sequence} on rank {}", op.name(), self.rank);
        match fault {
            Fault::OutOfStep(what) => format!("rank {peer} is out of step: {what}, {during}"),
            Fault::Io(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    format!("rank {peer} was silent for {:?} {during}", self.io_timeout)
                }
                ErrorKind::UnexpectedEof => format!("rank {peer} is gone: it closed its connection {during}"),
                _ => format!("rank {peer} is gone: {error}, {during}"),
            },
        }
    }

    /// The slice of a vector of `len` values that a rank sums.
    fn range(&self, len: usize, rank: usize) -> Range<usize> {
        rank_leaves(len, rank, self.streams.len())
    }

    /// Sums this rank's range over all ranks' nodes.
    fn reduce(&self, num_leaves: usize, nodes: &[(NodeId, Vec<f32>)], len: usize) -> Result<Vec<f32>> {
        let own = self.range(len, self.rank);
        let received: Vec<Mutex<Nodes>> = self.streams.iter().map(|_| Mutex::default()).collect();
        let body = |peer: usize| Body::Floats(nodes.iter().map(|node| &node.1[self.range(len, peer)]).collect());
        self.exchange(Op::Reduce, body, |peer, stream, got| {
            let ids = maximal_nodes(num_leaves, rank_leaves(num_leaves, peer, self.streams.len()));
            expect_len(got, ids.len() * own.len() * 4)?;
            let mut parts = Vec::with_capacity(ids.len());
            for id in ids {
                let mut values = self.pool.take(own.len());
                read_floats(stream, &mut values)?;
                parts.push((id, values));
            }
            *received[peer].lock().expect("no thread panics with it") = parts;
            Ok(())
        })?;
        let copy = |values: &[f32]| {
            let mut copy = self.pool.take(own.len());
            copy.copy_from_slice(&values[own.clone()]);
            copy
        };
        let mut all: Vec<(NodeId, Vec<f32>)> = nodes.iter().map(|(id, values)| (*id, copy(values))).collect();
        all.extend(received.into_iter().flat_map(|parts| parts.into_inner().expect("no thread panics with it")));
        Ok(combine_nodes(num_leaves, all, &self.pool))
    }

    /// Hands every rank's range to all.
    fn spread(&self, mine: &[f32], all: &mut [f32]) -> Result<()> {
        let len = all.len();
        let mut slots = Vec::with_capacity(self.streams.len());
        let mut rest = all;
        for rank in 0..self.streams.len() {
            let (slot, after) = rest.split_at_mut(self.range(len, rank).len());
            slots.push(Mutex::new(slot));
            rest = after;
        }
        slots[self.rank].lock().expect("no thread panics with it").copy_from_slice(mine);
        self.exchange(
            Op::Spread,
            |_| Body::Floats(vec![mine]),
            |peer, stream, got| {
                let mut slot = slots[peer].lock().expect("no thread panics with it");
                expect_len(got, slot.len() * 4)?;
                Ok(read_floats(stream, &mut slot)?)
            },
        )
    }
}

fn take_in(
    peer: usize,
    stream: &TcpStream,
    op: Op,
    sequence: u64,
    receive: &impl Fn(usize, &TcpStream, u64) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (got_op, got_sequence, len) = read_head(stream)?;
    if (got_op, got_sequence) != (op as u8, sequence) {
        return Err(Fault::OutOfStep(format!(
            "it sent operation {got_op} number {got_sequence}, expected operation {} number {sequence}",
            op as u8
        )));
    }
    if len > MAX_BODY {
        return Err(Fault::OutOfStep(format!("it announced {len} bytes, more than {MAX_BODY}")));
    }
    receive(peer, stream, len)
}

/// Whether the other end has not closed this connection, as far as is known here.
fn still_open(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let found = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match found {
        Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "it closed its connection")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

fn expect_len(got: u64, expected: usize) -> Result<(), Fault> {
    match got == expected as u64 {
        true => Ok(()),
        false => Err(Fault::OutOfStep(format!("it sent {got} bytes, expected {expected}"))),
    }
}

impl Collective for TcpCollective {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.streams.len()
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let gathered: Vec<Mutex<Vec<u8>>> = self.streams.iter().map(|_| Mutex::default()).collect();
        self.exchange(
            Op::Gather,
            |_| Body::Bytes(mine),
            |peer, stream, len| {
                *gathered[peer].lock().expect("no thread panics with it") = read_bytes(stream, len)?;
                Ok(())
            },
        )?;
        let mut gathered: Vec<Vec<u8>> =
            gathered.into_iter().map(|bytes| bytes.into_inner().expect("no thread panics with it")).collect();
        gathered[self.rank] = mine.to_vec();
        Ok(gathered)
    }

    fn tree_all_reduce(&self, num_leaves: usize, mut nodes: Vec<(NodeId, Vec<f32>)>) -> Result<Vec<f32>> {
        self.no_fault()?;
        let own = maximal_nodes(num_leaves, rank_leaves(num_leaves, self.rank, self.streams.len()));
        let len = nodes.first().map_or(0, |node| node.1.len());
        if own.is_empty() || !nodes.iter().map(|node| node.0).eq(own) || nodes.iter().any(|node| node.1.len() != len) {
            let reason = format!("rank {} does not hold the sums of its share of {num_leaves} leaves", self.rank);
            self.end(reason.clone());
            return Err(Error::Collective(reason));
        }
        let mine = self.reduce(num_leaves, &nodes, len)?;
        nodes.truncate(1);
        let mut all = nodes.pop().map(|node| node.1).unwrap_or_default();
        self.spread(&mine, &mut all)?;
        self.pool.give(mine);
        Ok(all)
    }

    fn barrier(&self) -> Result<()> {
        self.exchange(Op::Barrier, |_| Body::Bytes(&[]), |_, _, len| expect_len(len, 0))
    }

    fn check(&self) -> Result<()> {
        // between operations nobody reads
        let _none_runs = self.sequence.lock().expect("no thread panics with it");
        for (peer, stream) in self.peers() {
            if let Err(error) = still_open(stream) {
                self.end(format!("rank {peer} is gone: {error}, seen from rank {}", self.rank));
            }
        }
        self.no_fault()
    }

    fn abort(&self) {
        self.end("the exchange between ranks was aborted".to_owned());
    }
}

#[cfg(test)]
mod tests;
