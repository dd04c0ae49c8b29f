//! The stage tokenise: a shard of rows becomes a shard of tokens.

use artel_common::layout;
use artel_common::records::Pair;
use artel_proto::v1;
use artel_trainer::model::{Prompt, Tokenizer};
use artel_trainer::parallel::map_ordered;
use artel_trainer::tokens::TokenTable;

use crate::session::{Session, TaskResult};

/// Rows that a thread takes at a time.
const BLOCK: usize = 256;

/// Tokenises one shard and puts the tokens into the store.
pub(crate) fn tokenise(session: &mut Session, task: &v1::Tokenise) -> TaskResult<v1::Tokenised> {
    let split = session.split(&task.split)?;
    let tokenizer = session.tokenizer()?;
    let rows = session.rows(&split, task.index as usize)?;
    let (query, passage) = session.prompts()?;
    let prompts: Vec<&Prompt> =
        std::iter::once(&query).chain(std::iter::repeat_n(&passage, split.num_columns as usize - 1)).collect();
    let table = table(&tokenizer, &rows, &prompts, session.num_threads(session.spec.workers.count))?;
    let bytes = table.to_bytes();
    let digest = artel_common::digest::Digest::of(&bytes);
    let key = layout::token_shard(&task.split, task.index as usize, digest.as_str());
    let object = session.wait(session.store.put(&key, bytes.into()))?;
    Ok(v1::Tokenised { object: Some((&object).into()), num_tokens: table.num_tokens() as u64, num_rows: rows.len() as u64 })
}

fn table(tokenizer: &Tokenizer, rows: &[Pair], prompts: &[&Prompt], threads: usize) -> TaskResult<TokenTable> {
    let prompt_lens: Vec<u32> = prompts.iter().map(|prompt| prompt.num_tokens()).collect();
    let parts = map_ordered(rows.len().div_ceil(BLOCK), threads, |block| {
        let mut part = TokenTable::new(prompt_lens.clone());
        for row in rows.iter().skip(block * BLOCK).take(BLOCK) {
            for (text, prompt) in row.columns().zip(prompts) {
                part.push_text(&tokenizer.encode(text, prompt)?);
            }
        }
        Ok(part)
    })?;
    let mut table = TokenTable::new(prompt_lens);
    for part in &parts {
        table.append(part)?;
    }
    Ok(table)
}
