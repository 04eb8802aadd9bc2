//! Every fault of a data set is named with its line.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use matrixai_protocol::spec::TrainingSpec;
use matrixai_training::dataset::{Dataset, TEXT_BYTES_MAX};

/// Two features up to 16, two classes, every second row validates, two virtual workers.
fn spec() -> TrainingSpec {
    TrainingSpec { features: 2, classes: 2, validate_every: 2, virtual_workers: 2, ..support::spec() }
}

const GOOD: &str = "0,16,0\n8,-16,1\n1,2,0\n4,4,1\n";

fn check(bytes: &[u8], message: &str) {
    let fault = Dataset::parse(bytes, &spec()).unwrap_err();
    assert_eq!(fault.to_string(), message);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rows_are_scaled_and_split() {
    let set = Dataset::parse(GOOD.as_bytes(), &spec()).unwrap();
    assert_eq!((set.train.len(), set.validation.len()), (2, 2));
    assert_eq!((set.train.row(0), set.train.label(0)), (&[0.0, 1.0][..], 0));
    assert_eq!((set.validation.row(0), set.validation.label(0)), (&[0.5, -1.0][..], 1));
    assert_eq!((set.validation.row(1), set.validation.label(1)), (&[0.25, 0.25][..], 1));
}

#[test]
fn one_training_row_in_ten_is_watched_and_still_trained_on() {
    let (_, set) = support::small();
    assert_eq!((set.train.len(), set.validation.len(), set.watch.len()), (96, 24, 9));
    assert_eq!(set.watch.row(0), set.train.row(9));
    assert_eq!(set.watch.label(8), set.train.label(89));
}

#[test]
fn encodings_of_one_table_are_one_data_set() {
    let want = Dataset::parse(GOOD.as_bytes(), &spec()).unwrap();
    let windows = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    let spaced = GOOD.replace(',', " , ");
    let unended = GOOD.trim_end();
    let members = [gzip(&GOOD.as_bytes()[..9]), gzip(&GOOD.as_bytes()[9..])].concat();
    for bytes in [windows.as_bytes(), spaced.as_bytes(), unended.as_bytes(), &gzip(GOOD.as_bytes()), &members] {
        assert_eq!(Dataset::parse(bytes, &spec()), Ok(want.clone()));
    }
}

#[test]
fn faults_of_the_whole_are_named() {
    check(b"", "data set: it is empty");
    check(b"\n", "data set: it is empty");
    check(&gzip(b""), "data set: it is empty");
    check(b"1,1,0\n1,1,1\n", "data set: 1 training rows for 2 virtual workers");
    let barren = TrainingSpec { validate_every: 9, ..spec() };
    let fault = Dataset::parse(GOOD.as_bytes(), &barren).unwrap_err();
    assert_eq!(fault.to_string(), "data set: no validation row: 4 rows, of which every 9th validates");
}

#[test]
fn faults_of_a_line_are_named_with_it() {
    check(b"1,1,0\n1,0\n", "data set, line 2: 2 columns, expected 3 (features and a label)");
    check(b"1,1,0\n1,1,1,1\n", "data set, line 2: 4 columns, expected 3 (features and a label)");
    check(b"a,b,label\n1,1,0\n", "data set, line 1: column 1: \"a\" is not an integer");
    check(b"1,1.5,0\n", "data set, line 1: column 2: \"1.5\" is not an integer");
    check(b"1,,0\n", "data set, line 1: column 2: \"\" is not an integer");
    check(b"1,99999999999999999999,0\n", "data set, line 1: column 2: \"99999999999999999999\" is not an integer");
    check(b"1,1,0\n1,1,0\n1,17,0\n", "data set, line 3: column 2: feature 17 is beyond the scale of 16");
    check(b"-17,1,0\n", "data set, line 1: column 1: feature -17 is beyond the scale of 16");
    let lowest = format!("{},1,0\n", i64::MIN);
    check(lowest.as_bytes(), "data set, line 1: column 1: feature -9223372036854775808 is beyond the scale of 16");
    check(b"1,1,2\n", "data set, line 1: label 2 is not below the 2 classes");
    check(b"1,1,0\n1,1,-1\n", "data set, line 2: label -1 is not below the 2 classes");
    check(b"1,1,65536\n", "data set, line 1: label 65536 is not below the 2 classes");
    check(b"1,1,x\n", "data set, line 1: column 3: \"x\" is not an integer");
    check(b"1,1,0\n\n1,1,0\n", "data set, line 2: the line is empty");
    check(b"1,1,0\n1,1,0\n\n", "data set, line 3: the line is empty");
    check(b"1,1,0\n1,\xff,0\n", "data set, line 2: not UTF-8 text");
    check(b"1;1;0\n", "data set, line 1: 1 columns, expected 3 (features and a label)");
    let long = [b"1,".as_slice(), &[b'z'; 1000], b",0\n"].concat();
    check(&long, &format!("data set, line 1: column 2: {:?} is not an integer", "z".repeat(40)));
}

#[test]
fn a_damaged_gzip_stream_is_named() {
    let mut bytes = gzip(GOOD.repeat(100).as_bytes());
    bytes.truncate(bytes.len() - 9);
    let cut = Dataset::parse(&bytes, &spec()).unwrap_err().to_string();
    assert!(cut.starts_with("data set: the gzip stream is damaged: "), "{cut}");
    check(b"\x1f\x8b", "data set: the gzip stream is damaged: unexpected end of file");
}

#[test]
fn a_decompression_bomb_ends_at_the_limit() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let block = vec![b'0'; 1 << 20];
    for _ in 0..TEXT_BYTES_MAX / (1 << 20) + 1 {
        encoder.write_all(&block).unwrap();
    }
    check(&encoder.finish().unwrap(), "data set: more than 268435456 bytes of text");
}
