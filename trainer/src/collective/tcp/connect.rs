//! How ranks find one another: each listens, a rank dials the ranks below it and is dialled by those above.
//!
//! A connection opens with token, generation and the two ranks; who does not know them is turned away, and does not
//! disturb the others.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::TcpCollective;
use crate::error::{Error, Result};

/// The first bytes of a connection: the protocol and its version.
const MAGIC: [u8; 8] = *b"artel-c1";
/// Bytes of a greeting: magic, token, generation, the dialling rank, the dialled rank.
const GREETING: usize = 8 + 32 + 8 + 4 + 4;
const WELCOME: u8 = 1;
const REFUSED: u8 = 2;
/// Pause between looks for a caller, and between dials.
const PAUSE: Duration = Duration::from_millis(3);
/// Callers that are greeted at a time; others wait.
const MAX_CALLERS: usize = 64;

/// A rank's open port, before its world is formed.
#[derive(Debug)]
pub struct TcpListenerHandle {
    listener: TcpListener,
    address: SocketAddr,
}

/// What a member of a world knows.
struct Member<'a> {
    token: [u8; 32],
    generation: u64,
    rank: usize,
    members: &'a [SocketAddr],
    end: Instant,
}

impl TcpListenerHandle {
    pub(super) fn bind(ip: IpAddr) -> Result<Self> {
        let open = || {
            let listener = TcpListener::bind((ip, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        open().map_err(|error: io::Error| {
            Error::Collective(format!(
                "cannot listen on {ip} for the other ranks: {error}; give the worker an address of this machine"
            ))
        })
    }

    /// Where the other ranks reach this one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Joins the world of `members` (addresses in order of ranks) as `rank`. Waits for the others until `deadline` from now;
    /// afterwards a rank that says nothing for `io_timeout` in the midst of an operation counts as lost.
    ///
    /// # Errors
    /// A rank was not there in time, or knows another token or generation.
    pub fn connect(
        &self,
        token: [u8; 32],
        generation: u64,
        rank: usize,
        members: &[SocketAddr],
        deadline: Duration,
        io_timeout: Duration,
    ) -> Result<TcpCollective> {
        if rank >= members.len() {
            return Err(Error::Collective(format!("rank {rank} is not in a world of {}", members.len())));
        }
        let member = Member { token, generation, rank, members, end: Instant::now() + deadline };
        let over = AtomicBool::new(false);
        let (accepted, dialled) = std::thread::scope(|scope| {
            let accepting = scope.spawn(|| self.accept_all(&member, &over));
            let dialled: Result<Vec<TcpStream>> = (0..rank).map(|peer| member.dial(peer)).collect();
            if dialled.is_err() {
                over.store(true, Ordering::SeqCst);
            }
            (accepting.join().expect("accepting does not panic"), dialled)
        });
        // a failed dial stops the accepting: it comes first
        let mut streams: Vec<Option<TcpStream>> = dialled?.into_iter().map(Some).collect();
        streams.push(None);
        streams.extend(accepted?.into_iter().map(Some));
        TcpCollective::new(rank, streams, io_timeout)
    }

    /// The streams of the ranks above, in order.
    fn accept_all(&self, member: &Member<'_>, over: &AtomicBool) -> Result<Vec<TcpStream>> {
        let first = member.rank + 1;
        let mut streams: Vec<Option<TcpStream>> = member.members[first..].iter().map(|_| None).collect();
        let callers = AtomicUsize::new(0);
        let (greeted, arrivals): (Sender<(usize, TcpStream)>, Receiver<_>) = channel();
        std::thread::scope(|scope| {
            while streams.iter().any(Option::is_none) && !over.load(Ordering::SeqCst) && Instant::now() < member.end {
                if callers.load(Ordering::SeqCst) < MAX_CALLERS
                    && let Ok((stream, _)) = self.listener.accept()
                {
                    callers.fetch_add(1, Ordering::SeqCst);
                    let (greeted, callers) = (greeted.clone(), &callers);
                    scope.spawn(move || {
                        if let Ok(caller) = member.greet(&stream) {
                            // the receiver lives as long as this scope
                            let _ = greeted.send((caller, stream));
                        }
                        callers.fetch_sub(1, Ordering::SeqCst);
                    });
                    continue;
                }
                if let Ok((caller, mut stream)) = arrivals.recv_timeout(PAUSE) {
                    let free = streams[caller - first].is_none();
                    if stream.write_all(&[if free { WELCOME } else { REFUSED }]).is_ok() && free {
                        streams[caller - first] = Some(stream);
                    }
                }
            }
        });
        let missing: Vec<String> =
            streams.iter().enumerate().filter(|(_, s)| s.is_none()).map(|(i, _)| (first + i).to_string()).collect();
        match missing.is_empty() {
            true => Ok(streams.into_iter().flatten().collect()),
            false => {
                Err(Error::Collective(format!("rank {} waited in vain for rank {} to connect", member.rank, missing.join(", "))))
            }
        }
    }
}

impl Member<'_> {
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    fn greeting(&self, from: usize, to: usize) -> [u8; GREETING] {
        let mut greeting = [0; GREETING];
        greeting[..8].copy_from_slice(&MAGIC);
        greeting[8..40].copy_from_slice(&self.token);
        greeting[40..48].copy_from_slice(&self.generation.to_le_bytes());
        greeting[48..52].copy_from_slice(&(from as u32).to_le_bytes());
        greeting[52..].copy_from_slice(&(to as u32).to_le_bytes());
        greeting
    }

    /// Reads a caller's greeting: its rank, or an error after turning it away.
    fn greet(&self, mut stream: &TcpStream) -> io::Result<usize> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(self.left()))?;
        stream.set_write_timeout(Some(self.left()))?;
        let mut greeting = [0; GREETING];
        stream.read_exact(&mut greeting)?;
        let caller = u32::from_le_bytes(std::array::from_fn(|i| greeting[48 + i])) as usize;
        let known = caller > self.rank && caller < self.members.len();
        // every byte is looked at, so that the time taken tells nothing about the token
        let differ =
            greeting.iter().zip(self.greeting(caller, self.rank)).fold(0, |differ, (got, expected)| differ | (got ^ expected));
        if known && differ == 0 {
            return Ok(caller);
        }
        tracing::warn!(rank = self.rank, peer = ?stream.peer_addr().ok(), "turned away a connection that is not of this world");
        stream.write_all(&[REFUSED])?;
        Err(ErrorKind::PermissionDenied.into())
    }

    /// Dials a rank until it answers.
    fn dial(&self, peer: usize) -> Result<TcpStream> {
        loop {
            let failure = match self.try_dial(peer) {
                Ok((stream, WELCOME)) => return Ok(stream),
                Ok(_) => {
                    return Err(Error::Collective(format!(
                        "rank {peer} at {} turned rank {} away: it is of another world or generation {}",
                        self.members[peer], self.rank, self.generation
                    )));
                }
                Err(failure) => failure,
            };
            if Instant::now() + PAUSE >= self.end {
                return Err(Error::Collective(format!(
                    "rank {} cannot reach rank {peer} at {}: {failure}",
                    self.rank, self.members[peer]
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn try_dial(&self, peer: usize) -> io::Result<(TcpStream, u8)> {
        let mut stream = TcpStream::connect_timeout(&self.members[peer], self.left())?;
        stream.set_read_timeout(Some(self.left()))?;
        stream.set_write_timeout(Some(self.left()))?;
        stream.write_all(&self.greeting(self.rank, peer))?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok((stream, answer[0]))
    }
}
