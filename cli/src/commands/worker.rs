//! `artel worker --coordinator URL`: one worker of a run.

use std::net::{IpAddr, Ipv4Addr};

use super::spec::at_least_one;
use crate::failure::Failure;
use crate::signals::{LOSES_STEPS, stop_switch};
use artel_worker::WorkerOptions;

/// Start a worker; it waits for its coordinator and ends when the run does
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The coordinator's address: http://HOST:PORT
    #[arg(long, value_name = "URL")]
    coordinator: String,
    /// Threads to compute with; all cores where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// Address at which the other workers reach this one
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// GPU to compute on where the run is on GPUs, from 0, of those that CUDA_VISIBLE_DEVICES leaves
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: usize,
    /// Name in messages
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Bind and reach other addresses than loopback without TLS: on a private network only
    #[arg(long)]
    allow_insecure: bool,
    /// Started by `artel run`: leave Ctrl-C to it
    #[arg(long, hide = true)]
    supervised: bool,
}

/// Works until the run ends.
pub fn run(args: Args) -> Result<(), Failure> {
    let supervised = args.supervised;
    let outcome = super::runtime()?.block_on(async {
        let stop = stop_switch(args.supervised, LOSES_STEPS)?;
        let options = WorkerOptions {
            coordinator: args.coordinator,
            threads: args.threads,
            bind: args.bind,
            gpu: args.gpu,
            name: args.name,
            supervised: args.supervised,
            allow_insecure: args.allow_insecure,
        };
        Ok(artel_worker::run(options, stop).await?)
    });
    if supervised { outcome } else { outcome.map_err(Failure::or_run_again) }
}
