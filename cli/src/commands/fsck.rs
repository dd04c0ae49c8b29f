//! `artel fsck STORE`: whether every object that the run names is there, whole and of its digest; and what nothing names.

use std::collections::BTreeMap;

use artel_common::checkpoint::CheckpointManifest;
use artel_common::exit::Exit;
use artel_common::journal::{Began, Journal, RunState};
use artel_common::making::{MakingState, Place, SourceList};
use artel_common::mining::Pool;
use artel_common::records::{DatasetManifest, ExportManifest, ModelManifest, ObjectRef, Report, TokensManifest};
use artel_common::store::{Listed, Store};
use artel_common::{clock, layout};
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::output;
use crate::text::{bytes, count, printable};

/// Check a run's store: every object that it names, and those that it does not
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's store: a URL or a folder
    #[arg(value_name = "STORE")]
    store: String,
    /// Delete the objects that nothing names, if all others are whole; fences whoever works on the run
    #[arg(long)]
    delete_unnamed: bool,
}

/// What was found.
#[derive(Default)]
struct Found {
    /// Every object that is named, by its key.
    named: BTreeMap<String, Option<ObjectRef>>,
    /// What is wrong, an object a line.
    wrong: Vec<String>,
}

/// Checks, prints, deletes.
pub fn run(args: Args) -> Result<(), Failure> {
    let Checked { found, unnamed, strange, deleted } = super::small_runtime()?.block_on(check(&args))?;
    let mut lines: Vec<String> = found.wrong.iter().map(|what| format!("damaged  {what}")).collect();
    lines.extend(unnamed.iter().map(|object| format!("unnamed  {} ({})", object.key, bytes(object.bytes))));
    if strange > 0 {
        lines.push(format!("{} more objects are not of a shape that Artel leaves behind, and are left alone", count(strange)));
    }
    let named = found.named.len() as u64;
    let (whole, left) = (named.saturating_sub(found.wrong.len() as u64), unnamed.len() as u64);
    lines.push(format!("{} objects are named, {} of them whole; {} unnamed", count(named), count(whole), count(left)));
    if deleted > 0 {
        lines.push(format!("{} unnamed objects were deleted", count(deleted)));
    }
    lines.iter().try_for_each(|line| output::data(&printable(line)))?;
    if found.wrong.is_empty() {
        return Ok(());
    }
    let kept = if args.delete_unnamed { "nothing was deleted: what a damaged manifest names seems unnamed; " } else { "" };
    let message = format!(
        "{} of the run's objects are damaged or missing; {kept}a checkpoint among them is passed over when the run goes on, the report is written anew, \
         an exported model comes anew from `artel export --checkpoint best`, anything else must be restored",
        found.wrong.len()
    );
    Err(Failure::new(Exit::Store, message))
}

/// What a check came to.
struct Checked {
    found: Found,
    /// Objects of Artel's shapes that nothing names.
    unnamed: Vec<Listed>,
    /// How many others there are.
    strange: u64,
    deleted: u64,
}

async fn check(args: &Args) -> Result<Checked, Failure> {
    let store = Store::open(&args.store)?;
    let mut run = super::status::journal(&store).await?;
    if args.delete_unnamed {
        // whoever works on the run is fenced first: what it writes from here on is named by nothing
        let began = Began { name: run.name.clone(), version: env!("CARGO_PKG_VERSION").into(), unix_s: clock::unix_seconds() };
        run = Journal::take_over(&store, &format!("fsck-{}", std::process::id()), began).await?.state().clone();
    }
    // listed first: what is written while this goes on is then no stranger
    let listed = store.list_prefix("").await?;
    let mut found = Found::default();
    let (keys, wrong) = Journal::check(&store).await?;
    found.wrong = wrong;
    for key in keys {
        found.named.insert(key, None);
    }
    name_all(&store, &run, &mut found).await?;
    let objects: Vec<ObjectRef> = found.named.values().flatten().cloned().collect();
    for object in &objects {
        if let Err(e) = store.get_verified(object).await {
            found.wrong.push(e.to_string());
        }
    }
    if let Some(report) = &run.done {
        found.named.insert(layout::REPORT.to_owned(), None);
        if !matches!(store.get_json::<Report>(layout::REPORT).await, Ok(Some(there)) if there == **report) {
            found.wrong.push(format!("{} in {} is not what the journal says", layout::REPORT, store.url()));
        }
    }
    let alone = [layout::STEPS, layout::PAIRS_CSV, layout::PAIRS_TAKEN_OUT];
    let people = |key: &str| alone.contains(&key) || key.starts_with("eval/") || key.starts_with(layout::ANSWERS);
    let unnamed = listed.into_iter().filter(|object| !found.named.contains_key(&object.key) && !people(&object.key));
    let (unnamed, strange): (Vec<Listed>, Vec<Listed>) = unnamed.partition(|object| layout::may_be_left_behind(&object.key));
    let mut deleted = 0;
    if args.delete_unnamed && found.wrong.is_empty() {
        for object in &unnamed {
            store.delete(&object.key).await?;
            deleted += 1;
        }
    }
    Ok(Checked { found, unnamed, strange: strange.len() as u64, deleted })
}

/// Every object that the journal names, itself or through a manifest.
async fn name_all(store: &Store, run: &RunState, found: &mut Found) -> Result<(), Failure> {
    if let Some(making) = &run.making {
        name_making(store, making, found).await;
    }
    if let Some(prepared) = &run.prepared {
        if let Some(dataset) = manifest::<DatasetManifest>(store, &prepared.dataset, found).await {
            let shards = dataset.train.shards.iter().chain(&dataset.test.shards);
            shards.for_each(|shard| found.name(&shard.object));
        }
        if let Some(model) = manifest::<ModelManifest>(store, &prepared.model, found).await {
            model.files.iter().for_each(|file| found.name(&file.object));
        }
        prepared.plans.iter().for_each(|plan| found.name(plan));
    }
    if let Some(tokens) = &run.tokens
        && let Some(tokens) = manifest::<TokensManifest>(store, tokens, found).await
    {
        tokens.shards.iter().for_each(|shard| found.name(&shard.object));
    }
    for checkpoint in &run.checkpoints {
        if let Some(manifest) = manifest::<CheckpointManifest>(store, &checkpoint.manifest, found).await {
            manifest.objects().for_each(|object| found.name(object));
        }
    }
    if let Some(exported) = &run.exported
        && let Some(export) = manifest::<ExportManifest>(store, &exported.manifest, found).await
    {
        export.files.iter().for_each(|file| found.name(&file.object));
    }
    Ok(())
}

/// What documents became on their way to pairs.
async fn name_making(store: &Store, making: &MakingState, found: &mut Found) {
    if let Some(list) = manifest::<SourceList>(store, &making.sources, found).await {
        for source in &list.sources {
            if let Place::Stored(object) = &source.place {
                found.name(object);
            }
        }
    }
    if let Some(model) = &making.model
        && let Some(model) = manifest::<ModelManifest>(store, model, found).await
    {
        model.files.iter().for_each(|file| found.name(&file.object));
    }
    let read = making.read.iter().flat_map(|read| [&read.reports, &read.elements, &read.chunks]);
    read.chain(making.asked.iter().map(|asked| &asked.pairs)).for_each(|object| found.name(object));
    if let Some(mining) = &making.mining {
        if let Some(pool) = manifest::<Pool>(store, &mining.record.pool, found).await {
            pool.questions.iter().chain(&pool.passages).for_each(|shard| found.name(&shard.object));
        }
        mining.objects().for_each(|object| found.name(object));
    }
}

/// A manifest, itself named; one that is damaged names nothing, and is told of when the objects are read.
async fn manifest<T: DeserializeOwned>(store: &Store, object: &ObjectRef, found: &mut Found) -> Option<T> {
    found.name(object);
    store.get_json_verified(object).await.ok()
}

impl Found {
    fn name(&mut self, object: &ObjectRef) {
        self.named.insert(object.key.clone(), Some(object.clone()));
    }
}
