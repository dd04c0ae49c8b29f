//! `artel run`'s processes: one coordinator, N workers, none of which outlives this one.

mod child;
mod core;
pub mod node;
mod restarts;

use std::time::Duration;

use artel_common::clock;
use artel_common::event::Event;
use rustix::process::Signal;
use tokio::sync::mpsc;

use self::core::{Ended, Order, Seen, Supervision, Who};
use self::restarts::Restarts;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::view::View;

/// Reports on their way to the supervisor; a child that says more waits.
const REPORTS_BOUND: usize = 256;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What a child's task tells the supervisor.
struct Report {
    /// A line of the coordinator's stdout, as it stands.
    line: Option<String>,
    /// What it means.
    seen: Option<Seen>,
}

/// What `artel run` starts.
pub struct Crew {
    /// Arguments of the coordinator.
    pub coordinator: Vec<String>,
    /// Arguments of each worker, but for the coordinator's URL.
    pub workers: Vec<Vec<String>>,
}

/// Runs them to the end and shows what the coordinator says. Where a process is lost all are started again, from the last checkpoint.
///
/// # Errors
/// What went wrong, said once, with its exit code.
pub async fn supervise(crew: Crew, view: &mut View) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let mut restarts = Restarts::default();
    loop {
        let failure = match once(&crew, view, &mut signals, &mut restarts).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let Some(pause) = restarts.after(&failure) else { return Err(failure) };
        let message = failure.message.unwrap_or_default();
        view.own_event(&Event::Restarting { restart: restarts.made, message })?;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            asked = signals.next() => {
                return Err(Failure::new(asked.exit_at_once(), "told to leave before the run was started again"));
            }
        }
    }
}

/// One coordinator and its workers, from their start to their end.
async fn once(crew: &Crew, view: &mut View, signals: &mut Signals, restarts: &mut Restarts) -> Result<(), Failure> {
    let (reports, mut inbox) = mpsc::channel(REPORTS_BOUND);
    let mut supervision = Supervision::new(crew.workers.len(), clock::now());
    let mut children = vec![child::start(Who::Coordinator, &crew.coordinator, &reports)?];
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let seen = tokio::select! {
            report = inbox.recv() => take(report.expect("this function holds a sender"), view, restarts)?,
            asked = signals.next() => Some(Seen::Asked(asked)),
            _ = ticks.tick() => {
                view.tick();
                Some(Seen::Tick)
            }
        };
        let Some(seen) = seen else { continue };
        for order in supervision.on(seen, clock::now()) {
            match order {
                Order::StartWorkers(url) => start_workers(crew, &url, &mut children, &reports),
                Order::Leave => children.iter().take(1).for_each(|coordinator| coordinator.signal(Signal::TERM)),
                Order::Terminate => children.iter().for_each(|child| child.signal(Signal::TERM)),
                Order::Kill => children.iter().for_each(|child| child.signal(Signal::KILL)),
                Order::End(outcome) => return outcome,
            }
        }
    }
}

/// Shows what a report says and hands on what it means. Why a run failed is for its end to say, which may not have come.
fn take(report: Report, view: &mut View, restarts: &mut Restarts) -> Result<Option<Seen>, Failure> {
    match (&report.line, &report.seen) {
        (_, Some(Seen::Event(Event::Failed { .. }))) => {}
        (Some(line), Some(Seen::Event(event))) => {
            restarts.note(event);
            view.event(event, line)?;
        }
        (Some(line), _) => crate::output::talk(&format!("coordinator: {line}")),
        (None, _) => {}
    }
    Ok(report.seen)
}

/// Starts every worker; one that cannot be started counts as one that failed.
fn start_workers(crew: &Crew, url: &str, children: &mut Vec<child::Handle>, reports: &mpsc::Sender<Report>) {
    for (index, arguments) in crew.workers.iter().enumerate() {
        let mut arguments = arguments.clone();
        arguments.extend(["--coordinator".to_owned(), url.to_owned()]);
        let who = Who::Worker(index);
        match child::start(who, &arguments, reports) {
            Ok(handle) => children.push(handle),
            Err(failure) => {
                let message = failure.message.unwrap_or_default();
                let failed = Seen::Event(Event::Failed { message, exit_code: failure.exit.code() });
                let never = Seen::Exited { who, pid: 0, ended: Ended::Code(failure.exit.code()) };
                for seen in [failed, never] {
                    let reports = reports.clone();
                    tokio::spawn(async move { reports.send(Report { line: None, seen: Some(seen) }).await });
                }
            }
        }
    }
}
