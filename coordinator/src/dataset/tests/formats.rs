//! Files of each format, good and bad.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};

use super::*;

fn write_parquet(folder: &Path, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(folder.join(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn strings(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

/// Goal: strings of every Parquet kind are read. Method: the same rows as five kinds of column; ids as integers.
#[test]
fn parquet_strings() {
    let texts = ["passage one", "passage two"];
    let kinds: [ArrayRef; 5] = [
        Arc::new(StringArray::from(texts.to_vec())),
        Arc::new(LargeStringArray::from(texts.to_vec())),
        Arc::new(StringViewArray::from(texts.to_vec())),
        Arc::new(BinaryArray::from(texts.map(str::as_bytes).to_vec())),
        Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    let folder = folder(&[]);
    for kind in kinds {
        let name = format!("{:?}.parquet", kind.data_type()).replace([' ', ','], "");
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let columns = vec![("extra", ids.clone()), ("passage", kind), ("id", ids), ("query", strings(&[Some("q1"), Some("q2")]))];
        write_parquet(folder.path(), &name, columns);
        let found = read(&data(&[&name]), folder.path()).unwrap();
        let pairs: Vec<_> = found.train.iter().map(|p| (p.id.as_str(), p.anchor.as_str(), p.positive.as_str())).collect();
        assert_eq!(pairs, [("7", "q1", "passage one"), ("8", "q2", "passage two")], "{name}");
        assert_eq!(found.report.files[0].key, name);
    }
}

/// Goal: lists of negatives are columns, and rows that have not as many as the first are bad. Method: lists of 2, 2, 1, null.
#[test]
fn parquet_lists() {
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("n1"), Some("n2")]);
    lists.append_value([Some("n3"), Some("n4")]);
    lists.append_value([Some("n5")]);
    lists.append_null();
    let folder = folder(&[]);
    let columns = vec![
        ("anchor", strings(&[Some("a"), Some("b"), Some("c"), Some("d")])),
        ("positive", strings(&[Some("p"), Some("q"), Some("r"), Some("s")])),
        ("negatives", Arc::new(lists.finish()) as ArrayRef),
    ];
    write_parquet(folder.path(), "l.parquet", columns);
    let found = read(&data(&["l.parquet"]), folder.path()).unwrap();
    assert_eq!(found.train[1].negatives, ["n3", "n4"]);
    let bad: Vec<_> = found.report.bad_rows.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
    let few = "it has 1 negatives and the rows before it 2; every row needs equally many";
    assert_eq!(bad, [(3, few), (4, "the negative 1 is missing")]);
}

/// Goal: nulls and other types are bad rows; damage and what is no Parquet are errors. Method: one file each; every cut and
/// many flips of a small file end in rows or an error.
#[test]
fn parquet_trouble() {
    let folder = folder(&[("no.parquet", "anchor,positive\n")]);
    let columns = vec![("anchor", strings(&[Some("a"), None])), ("positive", strings(&[Some("p"), Some("q")]))];
    write_parquet(folder.path(), "nulls.parquet", columns);
    let found = read(&data(&["nulls.parquet"]), folder.path()).unwrap();
    assert_eq!((found.train.len(), found.report.bad_rows[0].reason.as_str()), (1, "the anchor is missing"));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    write_parquet(folder.path(), "float.parquet", vec![("anchor", strings(&[Some("a")])), ("positive", numbers)]);
    assert!(message(read(&data(&["float.parquet"]), folder.path())).contains("line 1: the positive is a number, not a string"));
    assert!(message(read(&data(&["no.parquet"]), folder.path())).contains("no.parquet is not readable as Parquet"));
    let bytes = std::fs::read(folder.path().join("nulls.parquet")).unwrap();
    let damaged = folder.path().join("damaged.parquet");
    for cut in (0..bytes.len()).step_by(7) {
        std::fs::write(&damaged, &bytes[..cut]).unwrap();
        read(&data(&["damaged.parquet"]), folder.path()).unwrap_err();
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x11;
        std::fs::write(&damaged, &flipped).unwrap();
        let _ = read(&data(&["damaged.parquet"]), folder.path());
    }
}
