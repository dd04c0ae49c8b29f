//! What goes wrong, and when: decided per request, changeable while the server runs.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::pace::Pace;

/// One way for a request to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this status, and nothing done.
    Status(u16),
    /// Read to its end, dropped undone, and the connection reset with no answer: a put lost together with its answer.
    ResetBeforeAnswer,
    /// Done in full, then the connection is reset with no answer.
    LoseAnswer,
    /// The answer's body breaks off half way and the connection is reset. Hits only GET and LIST; others go on normally.
    ResetInBody,
    /// Waits this long, then goes on normally.
    Stall(Duration),
}

impl Fault {
    fn fits(&self, method: &str) -> bool {
        *self != Self::ResetInBody || matches!(method, "GET" | "LIST")
    }
}

/// Which requests a fault hits. The first rule that hits decides.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method, as in [`Seen`](super::Seen): GET, HEAD, PUT, POST, DELETE or LIST; none stands for all.
    pub method: Option<&'static str>,
    /// What the key has within it (a listing's key is its prefix); empty for all.
    pub key_contains: String,
    /// How many matching requests are let through first.
    pub skip: usize,
    /// How many are then hit; `usize::MAX` for all.
    pub times: usize,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// The next request with this method and such a key, once.
    pub fn once(method: &'static str, key_contains: &str, fault: Fault) -> Self {
        Self { method: Some(method), key_contains: key_contains.to_owned(), skip: 0, times: 1, fault }
    }

    /// Every request with this method and such a key.
    pub fn always(method: &'static str, key_contains: &str, fault: Fault) -> Self {
        Self { times: usize::MAX, ..Self::once(method, key_contains, fault) }
    }

    fn matches(&self, method: &str, key: &str) -> bool {
        self.method.is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && key.contains(&self.key_contains)
            && self.fault.fits(method)
    }

    /// Counts a matching request, and says whether it is hit.
    fn count(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let hit = self.times > 0;
        if hit && self.times != usize::MAX {
            self.times -= 1;
        }
        hit
    }
}

/// The faults of a server: rules first, then chance.
pub struct Faults {
    state: Mutex<State>,
    down: watch::Sender<bool>,
    pub(super) pace: Pace,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    chance: Option<Chance>,
    hits: usize,
}

struct Chance {
    seed: u64,
    per_mille: u32,
    kinds: Vec<Fault>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), down: watch::Sender::new(false), pace: Pace::new() }
    }

    /// Adds a rule behind those that are there.
    pub fn add(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Hits each request that no rule hits with this probability, by one of these kinds. The same seed draws the same
    /// sequence; which request meets which draw is a matter of their order.
    pub fn random(&self, seed: u64, per_mille: u32, kinds: &[Fault]) {
        assert!(!kinds.is_empty() || per_mille == 0, "chance needs a kind of fault");
        self.state().chance = Some(Chance { seed, per_mille, kinds: kinds.to_vec() });
    }

    /// Forgets rules and chance. Whether the server is down, its bandwidth and [`hits`](Self::hits) stay as they are.
    pub fn clear(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.chance = None;
    }

    /// While true the store has vanished: connections are accepted and reset at once, open ones are cut.
    pub fn down(&self, down: bool) {
        self.down.send_replace(down);
    }

    /// How many bytes per second all bodies share, of requests and answers; none for as many as there are.
    pub fn bandwidth(&self, bytes_per_second: Option<u64>) {
        self.pace.set(bytes_per_second);
    }

    /// How many requests were hit so far, by rules or by chance.
    pub fn hits(&self) -> usize {
        self.state().hits
    }

    /// Tells when the store goes down.
    pub(super) fn watch_down(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    /// What happens to this request.
    pub(super) fn decide(&self, method: &str, key: &str) -> Option<Fault> {
        let mut state = self.state();
        let ruled =
            state.rules.iter_mut().find_map(|rule| (rule.matches(method, key) && rule.count()).then(|| rule.fault.clone()));
        let fault = ruled.or_else(|| state.chance.as_mut()?.draw()).filter(|fault| fault.fits(method));
        state.hits += usize::from(fault.is_some());
        fault
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the faults")
    }
}

impl Chance {
    fn draw(&mut self) -> Option<Fault> {
        // always two draws, so that a request's fate does not depend on the kind that an earlier one met
        let (chance, kind) = (self.next(), self.next());
        let index = kind.checked_rem(self.kinds.len() as u64)? as usize;
        (chance % 1000 < u64::from(self.per_mille)).then(|| self.kinds[index].clone())
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
