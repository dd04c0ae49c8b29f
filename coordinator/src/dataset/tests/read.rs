//! Rows from files: columns, ids, counts.

use super::*;

const GENERATED: &str = "Unnamed: 0,Text Chunk,Question,Answer\n\
    0,\"Chunk one,\nin two lines\",What is one?,\"One is \"\"1\"\"\"\n\
    1,Chunk two,N/A,N/A\n\
    2,Chunk two, n/a ,An answer\n\
    3,Chunk three,,\n\
    4,Chunk four,What is four?,\n\
    5,Chunk one again,What is five?,Five,too many\n\
    6,Chunk six,What is six?,Six\n";

/// Goal: a generator's CSV is read as its user expects. Method: index column, quoted newlines, N/A of each kind, an empty
/// answer, a field too many; every row is a pair or accounted for with its line.
#[test]
fn generated_csv() {
    let folder = folder(&[("qa.csv", &format!("\u{feff}{GENERATED}"))]);
    let found = read(&data(&["qa.csv"]), folder.path()).unwrap();
    let pairs: Vec<_> = found.train.iter().map(|p| (p.id.as_str(), p.anchor.as_str(), p.positive.as_str())).collect();
    assert_eq!(pairs, [("0", "What is one?", "One is \"1\""), ("6", "What is six?", "Six")]);
    assert_ne!(found.train[0].group, found.train[1].group);
    let report = &found.report;
    assert_eq!((report.rows_read, report.rows_not_available, report.rows_bad), (7, 3, 2));
    let bad: Vec<_> = report.bad_rows.iter().map(|bad| (bad.file.as_str(), bad.line, bad.reason.as_str())).collect();
    assert_eq!(bad, [("qa.csv", 7, "the positive is empty"), ("qa.csv", 8, "the row has 5 fields and the header 4")]);
    assert_eq!(found.warnings, ["2 bad rows are left out; the first: qa.csv line 7: the positive is empty"]);
    assert_eq!(report.files[0].sha256, artel_common::digest::Digest::of(format!("\u{feff}{GENERATED}").as_bytes()));
}

/// Goal: bad rows of JSON Lines are listed with file, line and reason. Method: one of each kind among good ones.
#[test]
fn bad_json_rows() {
    let long = "x".repeat((1 << 20) + 1);
    let lines = [
        r#"{"anchor": "a1", "positive": "p1", "id": 17}"#.to_owned(),
        r#"{"anchor": "", "positive": "p"}"#.to_owned(),
        r#"{"anchor": "a"}"#.to_owned(),
        r#"{"anchor": "a", "positive": 5}"#.to_owned(),
        r#"{"anchor": "a", "positive": ["p"]}"#.to_owned(),
        "{not json".to_owned(),
        "\"text\"".to_owned(),
        format!(r#"{{"anchor": "a", "positive": "{long}"}}"#),
        r#"{"anchor": "same", "positive": "same"}"#.to_owned(),
        String::new(),
        r#"{"anchor": "a2", "positive": "p2", "id": null}"#.to_owned(),
    ];
    let folder = folder(&[("r.jsonl", &lines.join("\n"))]);
    let found = read(&data(&["r.jsonl"]), folder.path()).unwrap();
    let ids: Vec<_> = found.train.iter().map(|pair| pair.id.as_str()).collect();
    assert_eq!(ids, ["17", "9"]);
    let reasons: Vec<_> = found.report.bad_rows.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
    let wanted = [
        (2, "the anchor is empty"),
        (3, "the positive is missing"),
        (4, "the positive is a number, not a string"),
        (5, "the positive is a list, not a string"),
        (6, "the line is not JSON: key must be a string column 2"),
        (7, "the line is a string, not an object"),
        (8, "the positive has 1048577 bytes; a text may have 1 MiB"),
        (9, "the positive is the same text as the anchor"),
    ];
    assert_eq!(reasons, wanted);
}

/// Goal: all bad rows are counted, the first hundred listed. Method: 150 of them.
#[test]
fn many_bad_rows() {
    let text = "{\"anchor\": \"\"}\n".repeat(150) + "{\"anchor\": \"a\", \"positive\": \"p\"}\n";
    let found = read(&data(&["r.jsonl"]), folder(&[("r.jsonl", &text)]).path()).unwrap();
    assert_eq!((found.report.rows_bad, found.report.bad_rows.len(), found.train.len()), (150, 100, 1));
}

/// Goal: a file that gives nothing is an error that says why. Method: missing, empty, header only, all bad, all N/A, broken
/// quotes, wrong column, an array, another format, a folder, nothing matched.
#[test]
fn useless_files() {
    let folder = folder(&[
        ("empty.csv", ""),
        ("empty.jsonl", ""),
        ("blank.jsonl", "\n\n"),
        ("header.csv", "anchor,positive\n"),
        ("bad.csv", "anchor,positive\na\nb\n"),
        ("na.csv", "anchor,positive\nN/A,N/A\n"),
        ("quotes.csv", "anchor,positive\n\"a,b\nc,d\n"),
        ("columns.csv", "questoin,Answer\na,b\n"),
        ("array.json", "[{\"anchor\": \"a\", \"positive\": \"b\"}]"),
        ("text.jsonl", "hello\n"),
        ("x.docx", "hello"),
        ("good.csv", "anchor,positive\na,b\n"),
        ("sub/good.csv", "anchor,positive\na,b\n"),
    ]);
    let cases = [
        ("missing.csv", "missing.csv does not exist; paths are relative to the spec's folder"),
        ("empty.csv", "empty.csv is empty"),
        ("empty.jsonl", "empty.jsonl is empty"),
        ("blank.jsonl", "blank.jsonl has no rows"),
        ("header.csv", "header.csv has no rows"),
        ("bad.csv", "bad.csv: none of its 2 rows can be used (2 bad, 0 marked N/A); the first: line 2: the row has 1 fields"),
        ("na.csv", "na.csv: none of its 1 rows can be used (0 bad, 1 marked N/A)"),
        ("quotes.csv", "quotes.csv line 2: a quote is opened here and never closed"),
        ("columns.csv", "columns.csv: no column looks like the questions (anchor, question, query); it has 'questoin', 'Answer'"),
        ("array.json", "array.json is a JSON array"),
        ("text.jsonl", "text.jsonl line 1: the line is not JSON"),
        ("x.docx", "x.docx: its name tells no format"),
        ("sub", "sub is a folder"),
        ("*.xml", "no file matches *.xml"),
        ("s3:/x", "does not exist"),
        ("s3://bucket", "names no object"),
    ];
    for (file, wanted) in cases {
        let error = message(read(&data(&[file]), folder.path()));
        assert!(error.contains(wanted), "{file}: {error}");
        let mut with_test = data(&["good.csv"]);
        with_test.test = Some(file.into());
        let error = message(read(&with_test, folder.path()));
        assert!(error.contains(wanted), "{file} as a test file: {error}");
    }
    assert!(message(read(&data(&[]), folder.path())).contains("names no file"));
    assert!(message(read(&DataSection { limit: Some(0), ..data(&["good.csv"]) }, folder.path())).contains("limit is 0"));
}

/// Goal: globs give files in order of name, each file once; limit counts rows over files. Method: a glob, a name in it again, limits.
#[test]
fn globs_and_limits() {
    let file = |n: u32| format!("anchor,positive\na{n},p{n}\nb{n},q{n}\n");
    let folder = folder(&[("d [1]/2.csv", &file(2)), ("d [1]/10.csv", &file(10)), ("d [1]/other.jsonl", "x")]);
    let base = folder.path().join("d [1]");
    let anchors = |data: &DataSection| read(data, &base).unwrap().train.into_iter().map(|p| p.anchor).collect::<Vec<_>>();
    assert_eq!(anchors(&data(&["*.csv", "2.csv"])), ["a10", "b10", "a2", "b2"]);
    assert_eq!(anchors(&data(&["2.csv", "1*.csv"])), ["a2", "b2", "a10", "b10"]);
    assert_eq!(anchors(&DataSection { limit: Some(3), ..data(&["*.csv"]) }), ["a10", "b10", "a2"]);
    assert_eq!(anchors(&DataSection { limit: Some(2), ..data(&["*.csv"]) }), ["a10", "b10"]);
    let absolute = base.join("2.csv").display().to_string();
    assert_eq!(anchors(&data(&[&absolute])), ["a2", "b2"]);
}

/// Goal: the spec's columns are taken, negatives in their order, and progress ends at all bytes. Method: a TSV with odd names.
#[test]
fn columns_of_the_spec() {
    let text = "hard\tp\tq\tdocument\tkey\n".to_owned() + &"n\tpassage\tquestion\td1\tk\n".repeat(2000);
    let folder = folder(&[("x.tsv", &text)]);
    let columns = Columns {
        anchor: Some("q".into()),
        positive: Some("p".into()),
        negatives: vec!["hard".into()],
        group: Some("document".into()),
        id: Some("key".into()),
    };
    let told = std::sync::Mutex::new(Vec::new());
    let data = DataSection { columns, ..data(&["x.tsv"]) };
    let found =
        runtime().block_on(read_rows(&data, folder.path(), &|done, total| told.lock().unwrap().push((done, total)))).unwrap();
    let first = &found.train[0];
    assert_eq!((first.negatives[0].as_str(), first.group.as_deref(), first.id.as_str()), ("n", Some("d1"), "k"));
    assert_eq!((found.train[1].id.as_str(), found.train[1999].id.as_str()), ("k#2", "k#2000"));
    let told = told.into_inner().unwrap();
    assert!(told.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{told:?}");
    assert_eq!((told.len(), told.last()), (2, Some(&(text.len() as u64, text.len() as u64))));
}

/// Goal: negatives must be equally many over all files. Method: a file with one, a file with none.
#[test]
fn unequal_negatives() {
    let folder = folder(&[("a.csv", "anchor,positive,negative\na,b,c\n"), ("b.csv", "anchor,positive\nd,e\n")]);
    let error = message(read(&data(&["a.csv", "b.csv"]), folder.path()));
    assert!(
        error.contains("b.csv: none of its 1 rows can be used") && error.contains("it has 0 negatives and the rows before it 1")
    );
}

/// Goal: a test file keeps all its rows, copies and equal texts too, under ids that differ, and needs no negatives. Method: such a file.
#[test]
fn test_files() {
    let folder = folder(&[
        ("train.jsonl", "{\"anchor\": \"a\", \"positive\": \"b\", \"negative\": \"c\", \"id\": 1}\n"),
        ("test.jsonl", &"{\"anchor\": \"q\", \"positive\": \"q\", \"id\": 1}\n".repeat(3)),
    ]);
    let data = DataSection { test: Some("test.jsonl".into()), ..data(&["train.jsonl"]) };
    let found = read(&data, folder.path()).unwrap();
    let test = found.test.unwrap();
    assert_eq!(test.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["1", "1#2", "1#3"]);
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].starts_with("2 rows of test.jsonl have an id that an earlier row has"), "{:?}", found.warnings);
    assert_eq!((found.report.rows_read, found.report.files.len()), (4, 2));
}
