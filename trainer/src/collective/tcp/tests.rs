//! Worlds of threads over loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::*;
use crate::collective::Solo;
use crate::pool::FloatPool;
use crate::tree::Forest;

const TOKEN: [u8; 32] = [7; 32];
const PATIENCE: Duration = Duration::from_secs(30);

/// Forms a world and runs `work` on each rank; results in order of ranks.
fn world<T: Send>(size: usize, io_timeout: Duration, work: impl Fn(TcpCollective) -> T + Sync) -> Vec<T> {
    let listeners: Vec<_> = (0..size).map(|_| TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
    let members: Vec<SocketAddr> = listeners.iter().map(TcpListenerHandle::address).collect();
    std::thread::scope(|scope| {
        let (work, members) = (&work, &members);
        let start = |(rank, listener): (usize, TcpListenerHandle)| {
            scope.spawn(move || work(listener.connect(TOKEN, 1, rank, members, PATIENCE, io_timeout).unwrap()))
        };
        let threads: Vec<_> = listeners.into_iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn leaf(leaf: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((leaf * 31 + i * 17) % 101) as f32 * 0.013 - 0.5 * leaf as f32).collect()
}

fn nodes(num_leaves: usize, rank: usize, world_size: usize, len: usize) -> Vec<(NodeId, Vec<f32>)> {
    let pool = FloatPool::new();
    let forest = Forest::new(num_leaves, &pool);
    rank_leaves(num_leaves, rank, world_size).for_each(|index| forest.add(index, leaf(index, len)));
    forest.take_nodes()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Goal: SAME-3, any world gives the bits of one rank alone. Method: 1, 2, 3, 4 and 8 ranks against `Solo`, with lengths
/// that do not divide and one that is shorter than the world.
#[test]
fn every_world_gives_the_bits_of_one_rank() {
    for (num_leaves, len) in [(64, 1003), (13, 70_001), (8, 5)] {
        let expected = Solo::new().tree_all_reduce(num_leaves, nodes(num_leaves, 0, 1, len)).unwrap();
        for size in [1, 2, 3, 4, 8] {
            let all = world(size, PATIENCE, |ranks| {
                assert_eq!((ranks.world_size(), ranks.check().is_ok()), (size, true));
                let gathered = ranks.all_gather(&vec![ranks.rank() as u8; ranks.rank() * 1000]).unwrap();
                let lens: Vec<usize> = gathered.iter().map(Vec::len).collect();
                assert_eq!(lens, (0..size).map(|rank| rank * 1000).collect::<Vec<_>>());
                ranks.barrier().unwrap();
                ranks.tree_all_reduce(num_leaves, nodes(num_leaves, ranks.rank(), size, len)).unwrap()
            });
            assert!(all.iter().all(|values| bits(values) == bits(&expected)), "{size} ranks, {num_leaves} leaves");
        }
    }
}

/// Goal: two ranks that both send much do not wait for one another. Method: 100 MB each way, gathered and summed.
#[test]
fn much_data_does_not_block() {
    let len = 25_000_000;
    world(2, PATIENCE, |ranks| {
        let gathered = ranks.all_gather(&vec![ranks.rank() as u8 + 1; 4 * len]).unwrap();
        assert!(gathered.iter().enumerate().all(|(rank, bytes)| bytes.len() == 4 * len && bytes[4 * len - 1] == rank as u8 + 1));
        let nodes = vec![(NodeId { level: 0, index: ranks.rank() as u32 }, vec![1.5; len])];
        let sum = ranks.tree_all_reduce(2, nodes).unwrap();
        assert!(sum.len() == len && sum.iter().all(|&value| value == 3.0));
    });
}

/// Goal: a rank's death is an error on all others at once, and stays one. Method: one of three leaves before an operation.
#[test]
fn a_dead_rank_is_an_error() {
    let started = Instant::now();
    let errors = world(3, Duration::from_secs(600), |ranks| {
        ranks.barrier().unwrap();
        if ranks.rank() == 1 {
            return None;
        }
        let error = ranks.all_gather(&[1]).unwrap_err();
        assert!(matches!(error, Error::Collective(_)) && ranks.barrier().is_err());
        Some(error.to_string())
    });
    assert!(
        errors.iter().flatten().all(|error| error.contains("is gone"))
            && errors.iter().flatten().any(|error| error.contains("rank 1")),
        "{errors:?}"
    );
    assert!(started.elapsed() < PATIENCE);
}

/// Goal: silence is an error after the time set. Method: one rank takes no part until the other has failed.
#[test]
fn a_silent_rank_is_an_error() {
    let (say, heard) = std::sync::mpsc::channel::<()>();
    let (say, heard) = (Mutex::new(say), Mutex::new(heard));
    let errors = world(2, Duration::from_millis(80), |ranks| match ranks.rank() {
        0 => {
            let error = ranks.barrier().unwrap_err().to_string();
            say.lock().unwrap().send(()).unwrap();
            error
        }
        _ => {
            heard.lock().unwrap().recv().unwrap();
            // what was sent before the end may still arrive: one operation may pass, no second one
            ranks.barrier().and_then(|()| ranks.barrier()).unwrap_err().to_string()
        }
    });
    assert!(errors[0].contains("rank 1 was silent"), "{errors:?}");
}

/// Goal: another thread can free a blocked one. Method: abort while a barrier waits for a rank that never comes.
#[test]
fn abort_frees_a_blocked_rank() {
    let (say, heard) = std::sync::mpsc::channel::<()>();
    let (say, heard) = (Mutex::new(say), Mutex::new(heard));
    world(2, Duration::from_secs(600), |ranks| match ranks.rank() {
        0 => {
            let error = std::thread::scope(|scope| {
                let blocked = scope.spawn(|| ranks.barrier());
                ranks.abort();
                blocked.join().unwrap().unwrap_err().to_string()
            });
            assert!(error.contains("aborted"), "{error}");
            say.lock().unwrap().send(()).unwrap();
        }
        _ => {
            heard.lock().unwrap().recv().unwrap();
            assert!(ranks.barrier().and_then(|()| ranks.barrier()).is_err());
        }
    });
}

/// Goal: ranks that do different things get an error, not a hang. Method: one gathers, one waits at a barrier; and sums of
/// different lengths.
#[test]
fn ranks_out_of_step_are_told() {
    let errors = world(2, PATIENCE, |ranks| match ranks.rank() {
        0 => ranks.barrier().unwrap_err().to_string(),
        _ => ranks.all_gather(&[1, 2]).unwrap_err().to_string(),
    });
    assert!(errors.iter().any(|error| error.contains("out of step")), "{errors:?}");
    let errors = world(2, PATIENCE, |ranks| {
        let len = 10 + 8 * ranks.rank();
        ranks.tree_all_reduce(4, nodes(4, ranks.rank(), 2, len)).unwrap_err().to_string()
    });
    assert!(errors.iter().any(|error| error.contains("out of step")), "{errors:?}");
    assert!(world(1, PATIENCE, |ranks| ranks.tree_all_reduce(4, nodes(4, 0, 2, 3)).is_err())[0]);
}

/// Goal: strangers are turned away and do not disturb. Method: a wrong token, a wrong generation and a talker of nonsense dial
/// rank 0 before the true rank 1 does.
#[test]
fn strangers_are_turned_away() {
    use std::io::Write;
    let (first, second) =
        (TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap(), TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap());
    let members = [first.address(), second.address()];
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| first.connect(TOKEN, 5, 0, &members, PATIENCE, PATIENCE).unwrap().barrier());
        let mut talker = TcpStream::connect(members[0]).unwrap();
        talker.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html, application/xhtml+xml\r\n\r\n").unwrap();
        for (token, generation) in [([8; 32], 5), (TOKEN, 4)] {
            let error = second.connect(token, generation, 1, &members, PATIENCE, PATIENCE).unwrap_err().to_string();
            assert!(error.contains("turned rank 1 away"), "{error}");
        }
        second.connect(TOKEN, 5, 1, &members, PATIENCE, PATIENCE).unwrap().barrier().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

/// Goal: a rank that never comes is named when the deadline passes. Method: wait for one, either way round.
#[test]
fn absent_ranks_are_named() {
    let here = TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
    let gone = TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap().address();
    let wait = Duration::from_millis(60);
    let error = here.connect(TOKEN, 0, 0, &[here.address(), gone], wait, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("rank 1"), "{error}");
    let error = here.connect(TOKEN, 0, 1, &[gone, here.address()], wait, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("cannot reach rank 0"), "{error}");
    assert!(here.connect(TOKEN, 0, 2, &[gone, gone], wait, PATIENCE).is_err());
}
