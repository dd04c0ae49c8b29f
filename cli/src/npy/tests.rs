use super::*;

/// A file as `numpy.save` of NumPy 2.4.6 wrote it for `np.array([[1, 2.5], [-3, 0]], "<f4")`.
fn numpy_file() -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }".to_vec();
    bytes.resize(127, b' ');
    bytes.push(b'\n');
    for value in [1.0f32, 2.5, -3.0, 0.0] {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn refusal(bytes: &[u8]) -> String {
    let folder = scratch();
    let path = folder.path().join("x.npy");
    std::fs::write(&path, bytes).expect("a scratch file");
    let failure = read(&path).expect_err("the file is not a matrix");
    assert_eq!(failure.exit, artel_common::exit::Exit::Data);
    failure.message.expect("every refusal says why")
}

/// Goal: NumPy's bytes and ours are the same. Method: write the matrix of a known file, compare, read it back.
#[test]
fn same_bytes_as_numpy() {
    let folder = scratch();
    let path = folder.path().join("x.npy");
    let mut writer = Writer::create(&path, 2).expect("a scratch file");
    writer.push(&[1.0, 2.5]).expect("first row");
    writer.push(&[-3.0, 0.0]).expect("second row");
    writer.finish().expect("the whole file");
    assert_eq!(std::fs::read(&path).expect("the file"), numpy_file());
    let matrix = read(&path).expect("our own file");
    assert_eq!(matrix, Matrix { values: vec![1.0, 2.5, -3.0, 0.0], rows: 2, columns: 2 });
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1, "no partial file stays");
}

/// Goal: the header has room for every size, so that the number of rows can be told last. Method: the greatest sizes;
/// no row at all.
#[test]
fn rows_are_told_last() {
    let greatest = header_bytes(u64::MAX, usize::MAX);
    assert_eq!((header_bytes(0, 1).len(), greatest.len()), (HEADER_BYTES, HEADER_BYTES));
    assert!(String::from_utf8_lossy(&greatest[10..]).contains(&format!("({}, {})", u64::MAX, usize::MAX)));
    let folder = scratch();
    let path = folder.path().join("x.npy");
    Writer::create(&path, 3).and_then(Writer::finish).expect("a scratch file");
    assert_eq!(read(&path).expect("our own file"), Matrix { values: Vec::new(), rows: 0, columns: 3 });
}

/// Goal: f64 and the longer header of format 2.0 are read. Method: one such file, keys in another order.
#[test]
fn other_forms_are_read() {
    let header = b"{\"shape\": (1, 2), 'fortran_order': False, 'descr': '<f8'}\n";
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend(header);
    bytes.extend(0.5f64.to_le_bytes());
    bytes.extend((-2.0f64).to_le_bytes());
    let folder = scratch();
    let path = folder.path().join("x.npy");
    std::fs::write(&path, bytes).expect("a scratch file");
    assert_eq!(read(&path).expect("f64").values, [0.5, -2.0]);
}

/// Goal: whatever is not a matrix of floats is refused with the reason. Method: damage a good file, part by part.
#[test]
fn refusals_say_why() {
    let good = numpy_file();
    let with = |from: &str, to: &str| String::from_utf8_lossy(&good[10..128]).replace(from, to).into_bytes();
    let rebuilt = |header: Vec<u8>| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header);
        bytes.extend(&good[128..]);
        bytes
    };
    for (bytes, reason) in [
        (b"PK\x03\x04 and so on".to_vec(), "not a .npy file"),
        (b"\x93NUM".to_vec(), "too short"),
        (good[..100].to_vec(), "cut off"),
        (good[..good.len() - 1].to_vec(), "but 15 bytes follow"),
        ([good.clone(), vec![0]].concat(), "but 17 bytes follow"),
        (rebuilt(with("<f4", "<i4")), "values of type <i4"),
        (rebuilt(with("False", "True ")), "Fortran order"),
        (rebuilt(with("(2, 2)", "(4,)")), "1 dimensions"),
        (rebuilt(with("(2, 2)", "(2, x)")), "shape is not one"),
        (rebuilt(with("(2, 2)", "(99999999999999, 99999999999999)")), "header says"),
        (rebuilt(with("descr", "type")), "no 'descr'"),
        ([&good[..128], f32::NAN.to_le_bytes().as_slice(), &good[132..]].concat(), "row 0, column 0 is NaN"),
    ] {
        let said = refusal(&bytes);
        assert!(said.contains(reason), "{said} should say {reason}");
    }
}
