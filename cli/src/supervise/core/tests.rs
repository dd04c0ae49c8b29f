use super::*;

const NOW: Duration = Duration::from_secs(100);

fn after(seconds: u64) -> Duration {
    NOW + Duration::from_secs(seconds)
}

/// A supervision of two workers that listens and has started them.
fn running() -> Supervision {
    let mut supervision = Supervision::new(2, NOW);
    let url = "http://127.0.0.1:1".to_owned();
    assert_eq!(supervision.on(Seen::Event(Event::Listening { url: url.clone() }), NOW), [Order::StartWorkers(url)]);
    supervision
}

fn exited(who: Who, ended: Ended) -> Seen {
    let pid = match who {
        Who::Coordinator => 10,
        Who::Worker(index) => 20 + index as u32,
    };
    Seen::Exited { who, pid, ended }
}

fn failed(message: &str, exit: Exit) -> Seen {
    Seen::Event(Event::Failed { message: message.to_owned(), exit_code: exit.code() })
}

fn end(orders: Vec<Order>) -> Result<(), Failure> {
    match orders.last() {
        Some(Order::End(outcome)) => outcome.clone(),
        other => panic!("the run should have ended, but the last order is {other:?}"),
    }
}

/// Goal: a run that goes well ends with 0. Method: workers go one before and one after the coordinator, no order is given.
#[test]
fn all_end_well() {
    let mut supervision = running();
    assert_eq!(supervision.on(exited(Who::Worker(1), Ended::Code(0)), after(50)), []);
    assert_eq!(supervision.on(Seen::Tick, after(60)), [], "the coordinator may take its time over the report");
    // a worker that never found its coordinator would look for long
    assert_eq!(supervision.on(exited(Who::Coordinator, Ended::Code(0)), after(61)), [Order::Terminate]);
    assert_eq!(end(supervision.on(exited(Who::Worker(0), Ended::Code(0)), after(62))), Ok(()));
}

/// Goal: a worker that a signal killed ends the world at once, and is named. Method: kill one.
#[test]
fn a_worker_is_killed() {
    let mut supervision = running();
    assert_eq!(supervision.on(exited(Who::Worker(1), Ended::Signal(9)), after(1)), [Order::Kill]);
    assert_eq!(supervision.on(exited(Who::Worker(0), Ended::Signal(9)), after(1)), []);
    let failure = end(supervision.on(exited(Who::Coordinator, Ended::Signal(9)), after(1))).expect_err("lost");
    assert_eq!(failure.exit, Exit::WorkerLost);
    assert!(failure.message.expect("a message").starts_with("worker 1 (pid 21) was killed by signal 9: "));
}

/// Goal: a failed worker is told of once, by the coordinator, with what was seen of it. Method: one ends with an exit code, let the
/// coordinator report and end.
#[test]
fn a_worker_fails() {
    let mut supervision = running();
    assert_eq!(supervision.on(exited(Who::Worker(1), Ended::Code(101)), after(1)), []);
    assert_eq!(supervision.on(failed("rank 1 is gone", Exit::WorkerLost), after(2)), []);
    assert_eq!(supervision.on(exited(Who::Coordinator, Ended::Code(7)), after(2)), [Order::Terminate]);
    let outcome = end(supervision.on(exited(Who::Worker(0), Ended::Code(7)), after(3)));
    let expected = Failure::new(Exit::WorkerLost, "rank 1 is gone (worker 1, pid 21, ended with exit code 101)");
    assert_eq!(outcome, Err(expected));
}

/// Goal: nobody outlives a death by more than 10 s, even a coordinator that hangs. Method: a worker dies, nobody else moves.
#[test]
fn stragglers_are_killed() {
    let mut supervision = running();
    supervision.on(Seen::LastWords(Who::Worker(0), "out of memory".to_owned()), after(1));
    supervision.on(exited(Who::Worker(0), Ended::Code(101)), after(1));
    assert_eq!(supervision.on(Seen::Tick, after(5)), []);
    assert_eq!(supervision.on(Seen::Tick, after(6)), [Order::Terminate]);
    assert_eq!(supervision.on(Seen::Tick, after(7)), []);
    assert_eq!(supervision.on(Seen::Tick, after(8)), [Order::Kill]);
    assert_eq!(supervision.on(exited(Who::Worker(1), Ended::Signal(9)), after(8)), []);
    let failure = end(supervision.on(exited(Who::Coordinator, Ended::Signal(9)), after(8))).expect_err("the run failed");
    assert_eq!(failure.exit, Exit::WorkerLost);
    let message = failure.message.expect("a message");
    assert!(message.contains("worker 0 (pid 20) ended with exit code 101") && message.contains("out of memory"), "{message}");
}

/// Goal: a dead coordinator ends the run with its own exit code. Method: kill it; workers are told at once, killed 2 s later.
#[test]
fn the_coordinator_is_killed() {
    let mut supervision = running();
    assert_eq!(supervision.on(exited(Who::Coordinator, Ended::Signal(9)), after(1)), [Order::Terminate]);
    assert_eq!(supervision.on(exited(Who::Worker(0), Ended::Code(8)), after(2)), []);
    assert_eq!(supervision.on(Seen::Tick, after(3)), [Order::Kill]);
    let failure = end(supervision.on(exited(Who::Worker(1), Ended::Signal(9)), after(3))).expect_err("the run failed");
    assert_eq!(failure.exit, Exit::CoordinatorLost);
    let message = failure.message.expect("a message");
    assert!(message.contains("the coordinator died") && message.contains("signal 9"), "{message}");
}

/// Goal: a worker that ends because its coordinator died is not taken for the cause. Method: its end is seen first.
#[test]
fn the_coordinator_is_killed_and_a_worker_is_seen_first() {
    let mut supervision = running();
    assert_eq!(supervision.on(exited(Who::Worker(0), Ended::Code(8)), after(1)), []);
    assert_eq!(supervision.on(exited(Who::Coordinator, Ended::Signal(9)), after(1)), [Order::Terminate]);
    let failure = end(supervision.on(exited(Who::Worker(1), Ended::Code(8)), after(1))).expect_err("the run failed");
    assert_eq!(failure.exit, Exit::CoordinatorLost);
    assert!(failure.message.expect("a message").contains("coordinator died"));
}

/// Goal: what the coordinator says is the message, and its code the exit code. Method: it refuses the spec before listening.
#[test]
fn the_coordinator_refuses() {
    let mut supervision = Supervision::new(2, NOW);
    supervision.on(failed("no such file", Exit::Data), after(1));
    let outcome = end(supervision.on(exited(Who::Coordinator, Ended::Code(3)), after(1)));
    assert_eq!(outcome, Err(Failure::new(Exit::Data, "no such file")));
}

/// Goal: a run that is told to leave ends by what its coordinator says. Method: it saves, says so, and ends with 75.
#[test]
fn told_to_leave() {
    let mut supervision = running();
    assert_eq!(supervision.on(Seen::Asked(Asked::Terminate), after(1)), [Order::Leave]);
    supervision.on(failed("told to leave: the state after step 8 is saved", Exit::Preempted), after(9));
    assert_eq!(supervision.on(exited(Who::Worker(0), Ended::Code(75)), after(9)), []);
    assert_eq!(supervision.on(exited(Who::Coordinator, Ended::Code(75)), after(9)), []);
    let failure = end(supervision.on(exited(Who::Worker(1), Ended::Code(75)), after(9))).expect_err("left");
    assert_eq!(failure, Failure::new(Exit::Preempted, "told to leave: the state after step 8 is saved"));
}

/// Goal: leaving ends within 19 s, a second Ctrl-C at once with exit code 130. Method: nobody obeys.
#[test]
fn ctrl_c() {
    for impatient in [false, true] {
        let mut supervision = running();
        assert_eq!(supervision.on(Seen::Asked(Asked::Interrupt), after(1)), [Order::Leave]);
        let (seen, when) = if impatient { (Seen::Asked(Asked::Interrupt), 2) } else { (Seen::Tick, 20) };
        assert_eq!(supervision.on(seen, after(when)), [Order::Kill]);
        for who in [Who::Worker(0), Who::Worker(1)] {
            assert_eq!(supervision.on(exited(who, Ended::Signal(9)), after(when)), []);
        }
        let failure = end(supervision.on(exited(Who::Coordinator, Ended::Signal(9)), after(when))).expect_err("stopped");
        assert_eq!(failure.exit, if impatient { Exit::Interrupted } else { Exit::Preempted });
    }
}

/// Goal: a coordinator that never listens is not waited for without end. Method: let the time pass.
#[test]
fn nobody_listens() {
    let mut supervision = Supervision::new(2, NOW);
    assert_eq!(supervision.on(Seen::Tick, after(899)), []);
    assert_eq!(supervision.on(Seen::Tick, after(900)), [Order::Terminate]);
    let failure = end(supervision.on(exited(Who::Coordinator, Ended::Code(75)), after(901))).expect_err("the run failed");
    assert_eq!(failure.exit, Exit::CoordinatorLost);
}
