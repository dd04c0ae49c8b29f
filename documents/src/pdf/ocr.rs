//! Pages that are pictures, read by the `tesseract` program.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::model::{Bitmap, Rect, Word};

/// Dots per inch that pages are drawn at.
pub const DPI: f32 = 300.0;
/// A page may take this long.
const PAGE_LIMIT: Duration = Duration::from_secs(60);
/// Words that tesseract is less sure of than this (of 100) are left out.
const MIN_SURE: f32 = 20.0;

/// Tesseract as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tesseract {
    program: PathBuf,
    /// What it calls itself: `tesseract 5.3.0`.
    pub version: String,
}

impl Tesseract {
    /// Looks for it on PATH.
    pub fn find() -> Option<Self> {
        let name = format!("tesseract{}", std::env::consts::EXE_SUFFIX);
        let paths = std::env::var_os("PATH")?;
        let program = std::env::split_paths(&paths).map(|p| p.join(&name)).find(|p| p.is_file())?;
        let output = Command::new(&program).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let version = String::from_utf8_lossy(&text).lines().next().unwrap_or("tesseract").trim().to_string();
        Some(Self { program, version })
    }

    /// The words of a picture, in points; the error says what went wrong.
    pub fn read(&self, picture: &Bitmap, languages: &[String]) -> Result<Vec<Word>, String> {
        let failed = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
        let mut file = tempfile::Builder::new().suffix(".pgm").tempfile().map_err(failed("cannot make a temporary file"))?;
        write!(file, "P5\n{} {}\n255\n", picture.width, picture.height)
            .and_then(|()| file.write_all(&picture.grey))
            .and_then(|()| file.flush())
            .map_err(failed("cannot write the page's picture"))?;
        let languages = languages.join("+");
        let mut command = Command::new(&self.program);
        command.arg(file.path()).arg("stdout");
        if !languages.is_empty() {
            command.args(["-l", &languages]);
        }
        command.args(["--dpi", &format!("{DPI}"), "tsv"]).env("OMP_THREAD_LIMIT", "1");
        let out = tempfile::tempfile().map_err(failed("cannot make a temporary file"))?;
        let told = tempfile::tempfile().map_err(failed("cannot make a temporary file"))?;
        let copies = (out.try_clone().map_err(failed("temporary file"))?, told.try_clone().map_err(failed("temporary file"))?);
        command.stdin(Stdio::null()).stdout(copies.0).stderr(copies.1);
        let mut child = command.spawn().map_err(failed("tesseract did not start"))?;
        let start = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if start.elapsed() < PAGE_LIMIT => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("tesseract took longer than {} s", PAGE_LIMIT.as_secs()));
                }
                Err(e) => return Err(format!("tesseract: {e}")),
            }
        };
        if !status.success() {
            let said = slurp(told);
            return Err(format!("tesseract failed: {}", said.lines().next_back().unwrap_or("it said nothing").trim()));
        }
        Ok(parse(&slurp(out)))
    }
}

fn slurp(mut file: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(64 << 20).read_to_end(&mut bytes));
    read.map_or(String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

/// Words of tesseract's table: level, page, block, paragraph, line, word, left, top, width, height, sureness, text.
fn parse(table: &str) -> Vec<Word> {
    let mut line = Rect::default();
    let mut words = Vec::new();
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.splitn(12, '\t').collect();
        let [level, .., sure, text] = cells.as_slice() else { continue };
        let number = |at: usize| cells.get(at).and_then(|c| c.parse::<f32>().ok()).unwrap_or(0.0) * 72.0 / DPI;
        let rect = Rect::of(number(6), number(7), number(6) + number(8), number(7) + number(9));
        match *level {
            "4" => line = rect,
            "5" if !text.trim().is_empty() && sure.parse::<f32>().is_ok_and(|s| s >= MIN_SURE) => {
                // a line's height is that of its tallest letters: in half points, so that neighbours agree
                let size = (line.height() * 2.0 / 1.05).round() / 2.0;
                let base = line.y1 - 0.2 * size;
                let rect = Rect { y0: line.y0.min(rect.y0), y1: line.y1.max(rect.y1), ..rect };
                words.push(Word { text: text.trim().into(), rect, base, size, bold: false, spaced: true });
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: tesseract's table becomes words in points. Method: a table of one line with a sure, an unsure and an empty word.
    #[test]
    fn table_of_tesseract() {
        let head = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n";
        let rows = "4\t1\t1\t1\t1\t0\t300\t300\t600\t50\t-1\t\n5\t1\t1\t1\t1\t1\t300\t300\t150\t50\t96.1\tHello\n\
                    5\t1\t1\t1\t1\t2\t500\t300\t150\t50\t3\tnoise\n5\t1\t1\t1\t1\t3\t700\t300\t150\t50\t95\t \n";
        let words = parse(&format!("{head}{rows}"));
        assert_eq!(words.len(), 1);
        assert_eq!(words[0].text, "Hello");
        assert_eq!((words[0].rect.x0, words[0].rect.x1), (72.0, 108.0));
    }
}
