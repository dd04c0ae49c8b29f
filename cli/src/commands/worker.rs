//! `artel worker --coordinator URL`: one worker of a run.

use std::net::{IpAddr, Ipv4Addr};

use artel_common::exit::Exit;

use super::spec::at_least_one;
use crate::failure::Failure;
use crate::output;
use crate::signals::{LOSES_WORK, stop_switch};
use crate::supervise::node;
use artel_trainer::gpu;
use artel_worker::WorkerOptions;

/// Start a worker; it waits for its coordinator and ends when the run does
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The coordinator's address: http://HOST:PORT
    #[arg(long, value_name = "URL")]
    coordinator: String,
    /// Threads to compute with, shared out over the GPUs; the cores where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// Address at which the other workers reach this one
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// GPUs to compute on where the run is on GPUs, a worker each: numbers of those that CUDA_VISIBLE_DEVICES leaves, or all
    #[arg(long, value_name = "LIST", default_value = "0", value_parser = devices)]
    devices: Devices,
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

/// Which GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Devices {
    All,
    These(Vec<usize>),
}

fn devices(text: &str) -> Result<Devices, String> {
    if text == "all" {
        return Ok(Devices::All);
    }
    let each = text.split(',').map(|number| number.trim().parse::<usize>());
    let numbers: Vec<usize> = each.collect::<Result<_, _>>().map_err(|_| "neither all nor numbers as in 0,1,2".to_owned())?;
    let twice = numbers.iter().enumerate().find(|(at, number)| numbers[..*at].contains(number));
    twice.map_or(Ok(()), |(_, number)| Err(format!("GPU {number} is named twice")))?;
    Ok(Devices::These(numbers))
}

/// Works until the run ends.
pub fn run(args: Args) -> Result<(), Failure> {
    let gpus = match &args.devices {
        Devices::These(numbers) => numbers.clone(),
        Devices::All => (0..gpu::count()).collect(),
    };
    if !args.supervised && gpus != [0] {
        check_devices(&gpus, gpu::count())?;
    }
    match *gpus {
        [] => Err(Failure::new(Exit::Model, "--devices all: this machine shows no GPU to this build; see `artel doctor --gpu`")),
        [gpu] => work(args, gpu),
        _ => {
            let threads = args.threads.map(|threads| (threads / gpus.len()).max(1));
            let outcome = super::small_runtime()?.block_on(node::each_gpu(&gpus, |gpu| arguments(&args, gpu, threads)));
            outcome.map_err(Failure::or_run_again)
        }
    }
}

/// Refuses numbers of GPUs that there are not. Where there is none at all a run on the CPU may be meant, and only a word is said.
fn check_devices(devices: &[usize], gpus: usize) -> Result<(), Failure> {
    match devices.iter().find(|device| **device >= gpus) {
        Some(_) if gpus == 0 => {
            output::talk(
                "warning: this machine shows no GPU to this build: in a run on GPUs these workers will fail; see `artel doctor --gpu`",
            );
            Ok(())
        }
        Some(missing) => Err(Failure::usage(format!(
            "--devices: there is no GPU {missing}: this machine shows {gpus}, numbered from 0; see `nvidia-smi -L`, and CUDA_VISIBLE_DEVICES"
        ))),
        None => Ok(()),
    }
}

/// The command line of one of several workers.
fn arguments(args: &Args, gpu: usize, threads: Option<usize>) -> Vec<String> {
    let name = args.name.as_ref().map_or_else(|| format!("gpu-{gpu}"), |name| format!("{name}-gpu-{gpu}"));
    let mut words = vec!["worker".to_owned(), "--supervised".to_owned()];
    let (gpu, bind) = (gpu.to_string(), args.bind.to_string());
    for (key, value) in [("--coordinator", &args.coordinator), ("--devices", &gpu), ("--bind", &bind), ("--name", &name)] {
        words.extend([key.to_owned(), value.clone()]);
    }
    words.extend(threads.into_iter().flat_map(|threads| ["--threads".to_owned(), threads.to_string()]));
    words.extend(args.allow_insecure.then(|| "--allow-insecure".to_owned()));
    words
}

fn work(args: Args, gpu: usize) -> Result<(), Failure> {
    let supervised = args.supervised;
    let outcome = super::runtime()?.block_on(async {
        let stop = stop_switch(args.supervised, LOSES_WORK)?;
        let options = WorkerOptions {
            coordinator: args.coordinator,
            threads: args.threads,
            bind: args.bind,
            gpu,
            name: args.name,
            supervised: args.supervised,
            allow_insecure: args.allow_insecure,
        };
        Ok(artel_worker::run(options, stop).await?)
    });
    if supervised { outcome } else { outcome.map_err(Failure::or_run_again) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what names GPUs is understood, and what does not is refused with a reason. Method: lists, good and bad.
    #[test]
    fn lists_of_gpus() {
        assert_eq!(devices("all"), Ok(Devices::All));
        assert_eq!(devices("0, 2,5"), Ok(Devices::These(vec![0, 2, 5])));
        let refusal = |devices: &[usize]| check_devices(devices, 8).unwrap_err();
        assert_eq!(check_devices(&[0, 7], 8), Ok(()));
        assert_eq!(check_devices(&[0, 9], 0), Ok(()), "on the CPU each number is a worker");
        assert!(refusal(&[0, 9]).message.unwrap().contains("there is no GPU 9: this machine shows 8"));
        assert_eq!(refusal(&[8]).exit, Exit::Usage);
        for (text, expected) in [("", "neither"), ("0,", "neither"), ("gpu0", "neither"), ("1,0,1", "GPU 1 is named twice")] {
            assert!(devices(text).unwrap_err().contains(expected), "{text}");
        }
    }
}
