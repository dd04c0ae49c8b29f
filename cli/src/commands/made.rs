//! `artel documents`, `artel chunks`, `artel pairs`: what a run made of its documents, to be looked at before it is trained on.

use std::collections::BTreeMap;

use artel_common::exit::Exit;
use artel_common::layout;
use artel_common::making::{ChunkRow, DocumentReport, Ledger, MakingState, PairRow, TakenOut, decode_chunks, decode_pairs};
use artel_common::store::Store;
use artel_coordinator::dataset::HAS_SECRET;
use serde_json::json;

use crate::failure::Failure;
use crate::output;
use crate::text::{count, printable};

/// Show the documents of a run: pages, elements, chunks, and why some could not be read
#[derive(Debug, clap::Args)]
pub struct DocumentsArgs {
    /// The run's store: a URL or a folder
    #[arg(value_name = "STORE")]
    store: String,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Show chunks of a run's documents, evenly taken from all of them
#[derive(Debug, clap::Args)]
pub struct ChunksArgs {
    /// The run's store: a URL or a folder
    #[arg(value_name = "STORE")]
    store: String,
    /// How many; 0 is all
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: usize,
    /// Of one document alone, by its name
    #[arg(long, value_name = "NAME")]
    document: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Show questions and answers that a run made, evenly taken from all of them, and the chunks that came to none
#[derive(Debug, clap::Args)]
pub struct PairsArgs {
    /// The run's store: a URL or a folder
    #[arg(value_name = "STORE")]
    store: String,
    /// How many; 0 is all
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: usize,
    /// Of one document alone, by its name
    #[arg(long, value_name = "NAME")]
    document: Option<String>,
    /// Only chunks that came to no pair, with the reason
    #[arg(long, conflicts_with = "taken_out")]
    failed: bool,
    /// Only pairs that the cleaning took out, with the rule
    #[arg(long)]
    taken_out: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How much of the asking is done, where it is not all: what the journal has not does not exist yet.
fn still_to_ask(making: &MakingState, ledger: &Ledger) -> Option<String> {
    let chunks: u64 = making.read.iter().map(|read| read.num_chunks).sum();
    let read: u64 = making.read.iter().map(|read| read.count).sum();
    (read < making.documents || ledger.chunks < chunks).then(|| {
        format!(
            "{} of {} documents are read and {} of {} chunks asked about, in whole pieces; answers beyond them lie in the store and count when their \
             piece is whole",
            count(read),
            count(making.documents),
            count(ledger.chunks),
            count(chunks)
        )
    })
}

async fn making(url: &str) -> Result<(Store, MakingState), Failure> {
    let store = Store::open(url)?;
    let state = super::status::journal(&store).await?;
    let making = state.making.ok_or_else(|| {
        let url = store.url();
        let what = match state.prepared {
            Some(_) => format!("the run in {url} was not made from documents: its spec has no [documents]"),
            None => format!("the run in {url} has listed no documents yet; `artel status {url}` tells how far it is"),
        };
        Failure::new(Exit::Data, what)
    })?;
    Ok((store, making))
}

/// Runs `artel documents`.
///
/// # Errors
/// The store holds no run of documents, or cannot be read.
pub fn documents(args: DocumentsArgs) -> Result<(), Failure> {
    let (reports, total) = super::small_runtime()?.block_on(async {
        let (store, making) = making(&args.store).await?;
        let mut reports: Vec<DocumentReport> = Vec::new();
        let mut read: Vec<_> = making.read.iter().collect();
        read.sort_by_key(|piece| piece.first);
        for piece in read {
            reports.extend(store.get_json_verified::<Vec<DocumentReport>>(&piece.reports).await?);
        }
        Ok::<_, Failure>((reports, making.documents))
    })?;
    if args.json {
        return reports.iter().try_for_each(|report| output::data(&json!(report).to_string()));
    }
    for report in &reports {
        output::data(&printable(&document_line(report)))?;
    }
    let failed = reports.iter().filter(|report| report.status == "failed").count();
    let sum = |of: fn(&DocumentReport) -> u64| count(reports.iter().map(of).sum());
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    reports.iter().flat_map(|report| &report.elements).for_each(|(kind, n)| *kinds.entry(kind).or_default() += n);
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{kind} {}", count(*n))).collect();
    output::data(&format!(
        "\n{} of {} documents read, {failed} of them failed; {} pages, {} chunks\n{}",
        count(reports.len() as u64),
        count(total),
        sum(|report| report.pages.into()),
        sum(|report| report.chunks),
        kinds.join(", ")
    ))
}

fn document_line(report: &DocumentReport) -> String {
    // a name may have a line feed in it, and a document is one line
    let source = report.source.replace('\n', "\\n");
    if report.status == "failed" {
        return format!("failed  {source}: {} ({})", report.reason, report.message.replace('\n', "\\n"));
    }
    let pages = if report.pages == 0 { String::new() } else { format!("{} pages, ", count(report.pages.into())) };
    let elements: u64 = report.elements.values().sum();
    let warnings = report.warnings.first().map_or(String::new(), |warning| format!("; {warning}"));
    format!(
        "done    {source}: {pages}{} elements, {} chunks, by {}{warnings}",
        count(elements),
        count(report.chunks),
        report.reader
    )
}

/// Every so-manieth of `total`, `limit` in all.
fn spread(total: usize, limit: usize) -> impl Fn(usize) -> bool {
    let wanted = if limit == 0 { total } else { limit.min(total) };
    move |index| wanted > 0 && (index * wanted) / total.max(1) != ((index + 1) * wanted) / total.max(1)
}

/// Runs `artel chunks`.
///
/// # Errors
/// As [`documents`]; or no chunk is of that document.
pub fn chunks(args: ChunksArgs) -> Result<(), Failure> {
    let rows = super::small_runtime()?.block_on(async {
        let (store, making) = making(&args.store).await?;
        let mut rows: Vec<ChunkRow> = Vec::new();
        let mut read: Vec<_> = making.read.iter().collect();
        read.sort_by_key(|piece| piece.first);
        for piece in read {
            rows.extend(decode_chunks(store.get_verified(&piece.chunks).await?)?);
        }
        Ok::<_, Failure>(rows)
    })?;
    let rows = of_document(rows, &args.store, args.document.as_deref(), |row| &row.document)?;
    let shown = spread(rows.len(), args.limit);
    for (_, row) in rows.iter().enumerate().filter(|(index, _)| shown(*index)) {
        if args.json {
            let line = json!({
                "document": row.document, "chunk": row.chunk, "text": row.text, "first_page": row.first_page, "last_page": row.last_page,
                "start": row.start, "end": row.end, "section": row.section,
            });
            output::data(&line.to_string())?;
        } else {
            let pages =
                if row.first_page == 0 { String::new() } else { format!(", pages {} to {}", row.first_page, row.last_page) };
            let section = row.section.as_ref().map_or(String::new(), |section| format!(", under {section:?}"));
            output::data(&format!("--- {}, chunk {}{pages}{section}", shown_name(&row.document), row.chunk))?;
            output::data(&paragraphs(&row.text))?;
        }
    }
    if !args.json {
        let lengths: Vec<usize> = rows.iter().map(|row| row.text.chars().count()).collect();
        let mean = lengths.iter().sum::<usize>() / lengths.len().max(1);
        let longest = lengths.iter().max().copied().unwrap_or(0);
        output::data(&format!(
            "\n{} chunks, {} characters on average, {} the longest",
            count(rows.len() as u64),
            count(mean as u64),
            count(longest as u64)
        ))?;
    }
    Ok(())
}

/// A name on one line.
fn shown_name(name: &str) -> String {
    printable(&name.replace('\n', "\\n")).into_owned()
}

/// The rows of a document, or all; its name as it is, or as it is shown.
fn of_document<T>(rows: Vec<T>, store: &str, name: Option<&str>, of: fn(&T) -> &str) -> Result<Vec<T>, Failure> {
    let Some(name) = name else { return Ok(rows) };
    let rows: Vec<T> = rows.into_iter().filter(|row| of(row) == name || shown_name(of(row)) == name).collect();
    if rows.is_empty() {
        let message =
            format!("no chunk is of {name:?}; `artel documents {store}` lists the documents by name, and those that failed");
        return Err(Failure::new(Exit::Data, message));
    }
    Ok(rows)
}

/// A row of pairs, with the rule that took it out.
struct Judged {
    row: PairRow,
    rule: Option<String>,
}

/// Each row with the rule of the cleaning that took its pair out.
fn judged(rows: Vec<PairRow>, taken_out: &TakenOut) -> Vec<Judged> {
    let rules: BTreeMap<u64, &String> =
        taken_out.iter().flat_map(|(rule, numbers)| numbers.iter().map(move |number| (*number, rule))).collect();
    // chunks that came to no pair have no number
    let mut number = 0;
    let judged = rows.into_iter().map(|row| {
        let is_pair = row.question.is_some() && row.answer.is_some();
        let rule = if is_pair { rules.get(&number).map(|rule| (*rule).clone()) } else { None };
        number += u64::from(is_pair);
        Judged { row, rule }
    });
    judged.collect()
}

/// Runs `artel pairs`.
///
/// # Errors
/// As [`documents`]; or no chunk is of that document.
pub fn pairs(args: PairsArgs) -> Result<(), Failure> {
    let (rows, ledger, taken_out, left) = super::small_runtime()?.block_on(async {
        let (store, making) = making(&args.store).await?;
        let (mut rows, mut ledger): (Vec<PairRow>, _) = (Vec::new(), Ledger::default());
        let mut asked: Vec<_> = making.asked.iter().collect();
        asked.sort_by_key(|piece| (piece.shard, piece.from));
        for piece in asked {
            rows.extend(decode_pairs(store.get_verified(&piece.pairs).await?)?);
            ledger.add(&piece.ledger);
        }
        let taken_out = taken_out(&store).await;
        let left = still_to_ask(&making, &ledger);
        Ok::<_, Failure>((rows, ledger, taken_out, left))
    })?;
    let rows = judged(rows, taken_out.as_ref().unwrap_or(&TakenOut::new()));
    let rows = of_document(rows, &args.store, args.document.as_deref(), |judged| &judged.row.document)?;
    let wanted = |judged: &Judged| match (args.failed, args.taken_out) {
        (true, _) => judged.row.failure.is_some(),
        (_, true) => judged.rule.is_some(),
        _ => true,
    };
    let rows: Vec<Judged> = rows.into_iter().filter(wanted).collect();
    let shown = spread(rows.len(), args.limit);
    for (_, judged) in rows.iter().enumerate().filter(|(index, _)| shown(*index)) {
        show_pair(judged, args.json)?;
    }
    if args.json {
        return Ok(());
    }
    output::data(&format!(
        "\n{} pairs of {} chunks, {} chunks came to none; {}, {} answers were there already, {} tokens in, {} out",
        count(ledger.pairs),
        count(ledger.chunks),
        count(ledger.failed_chunks),
        ledger.spent(),
        count(ledger.cache_hits),
        count(ledger.tokens_in),
        count(ledger.tokens_out),
    ))?;
    let unknown = "which pairs the cleaning takes out is not known yet";
    output::data(&left.or(taken_out.as_ref().map(cleaned)).unwrap_or_else(|| unknown.to_owned()))
}

/// Which pairs the cleaning took out; none where that is not there, or of no use, which is said.
async fn taken_out(store: &Store) -> Option<TakenOut> {
    match store.get_json(layout::PAIRS_TAKEN_OUT).await {
        Ok(taken_out) => taken_out,
        Err(e) => {
            output::talk(&format!("warning: rules are not shown: {e}; report.json has their counts"));
            None
        }
    }
}

/// The texts of a pair as they may be shown: what seems to be a key stays in the store.
fn texts<'a>(row: &'a PairRow, rule: Option<&str>) -> (Option<&'a str>, Option<&'a str>) {
    let hidden = |text: &'a String| if rule == Some(HAS_SECRET) { "(not shown)" } else { text.as_str() };
    (row.question.as_ref().map(hidden), row.answer.as_ref().map(hidden))
}

fn show_pair(Judged { row, rule }: &Judged, json: bool) -> Result<(), Failure> {
    let (question, answer) = texts(row, rule.as_deref());
    if json {
        let line = json!({
            "document": row.document, "chunk": row.chunk, "text": row.text, "question": question, "answer": answer,
            "failure": row.failure, "score": row.score, "taken_out": rule,
        });
        return output::data(&line.to_string());
    }
    output::data(&format!("--- {}, chunk {}", shown_name(&row.document), row.chunk))?;
    let (Some(question), Some(answer)) = (question, answer) else {
        return output::data(&format!("no pair: {}", printable(row.failure.as_deref().unwrap_or("unknown"))));
    };
    output::data(&format!("Question: {}\nAnswer: {}", paragraphs(question), paragraphs(answer)))?;
    if let Some(score) = row.score {
        output::data(&format!("Score: {score} of 5"))?;
    }
    rule.as_ref().map_or(Ok(()), |rule| output::data(&format!("Taken out by the cleaning: {rule}")))
}

/// What the rules took, in a line.
fn cleaned(taken_out: &TakenOut) -> String {
    let rules: Vec<String> = taken_out.iter().map(|(rule, numbers)| format!("{rule} {}", count(numbers.len() as u64))).collect();
    let total: usize = taken_out.values().map(Vec::len).sum();
    let rules = if rules.is_empty() { String::new() } else { format!(": {}", rules.join(", ")) };
    format!("the cleaning took {} pairs out{rules}", count(total as u64))
}

/// A text of several lines without what a terminal would act on.
fn paragraphs(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use artel_common::making::{PairRow, TakenOut};

    use super::{judged, spread};

    /// Goal: a rule goes with the pair that it took. Method: pairs between chunks that came to none.
    #[test]
    fn rules_meet_their_pairs() {
        let pair = PairRow { question: Some("q".into()), answer: Some("a".into()), ..PairRow::default() };
        let none = PairRow { failure: Some("refused".into()), ..PairRow::default() };
        let taken_out = TakenOut::from([("judge".to_owned(), vec![1]), ("too_short".to_owned(), vec![0, 3])]);
        let rows = vec![none.clone(), pair.clone(), pair.clone(), none, pair.clone(), pair];
        let rules: Vec<Option<String>> = judged(rows, &taken_out).into_iter().map(|judged| judged.rule).collect();
        let rules: Vec<&str> = rules.iter().map(|rule| rule.as_deref().unwrap_or("-")).collect();
        assert_eq!(rules, ["-", "too_short", "judge", "-", "-", "too_short"]);
    }

    /// Goal: samples are as many as asked for and come from everywhere. Method: several totals and limits.
    #[test]
    fn samples_are_spread() {
        for (total, limit, expected) in [(100, 5, 5), (3, 5, 3), (7, 0, 7), (0, 5, 0)] {
            let shown = spread(total, limit);
            let chosen: Vec<usize> = (0..total).filter(|&index| shown(index)).collect();
            assert_eq!(chosen.len(), expected, "{total} {limit}");
            if total == 100 {
                assert_eq!(chosen, [19, 39, 59, 79, 99]);
            }
        }
    }
}
