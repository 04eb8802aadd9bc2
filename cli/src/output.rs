//! Everything this program prints: tables for people, one JSON value for scripts. Nothing else prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use clap::ValueEnum;
use serde_json::Value;
use std::io::Write as _;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences.
    Table,
    /// One JSON value on the last line.
    Json,
}

/// Prints one JSON value on a line of its own.
pub(crate) fn json(value: &Value) {
    line(&value.to_string());
}

/// Prints a line; a closed pipe (`| head`) is not an error.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a note for people, apart from results.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints text as it is (completion scripts, model files).
pub(crate) fn raw(bytes: &[u8]) {
    let _ = std::io::stdout().lock().write_all(bytes);
}

/// Prints a value as JSON, or what `table` makes of it.
pub(crate) fn show(format: Format, value: &Value, table: impl FnOnce() -> String) {
    match format {
        Format::Json => json(value),
        Format::Table => line(table().trim_end()),
    }
}

/// Rows in aligned columns under a head; columns whose cells are all numbers are aligned right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|text| text.chars().count())).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some()
            && cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-') && cell.len() < 20)
    };
    let mut text = String::new();
    let mut push = |cells: Vec<&str>| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = width(column);
            let cell = if numeric(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    push(head.to_vec());
    for row in rows {
        push(row.iter().map(String::as_str).collect());
    }
    text
}

/// The first characters of a long id: enough for people to tell apart.
pub(crate) fn short(id: &[u8]) -> String {
    let text = hex::encode(id);
    text.get(..10).unwrap_or(&text).to_owned()
}

/// Operations per second with a unit.
pub(crate) fn speed(ops_per_s: u64) -> String {
    let figure = ops_per_s as f64;
    match ops_per_s {
        0 => "–".to_owned(),
        1..1_000_000 => format!("{:.1} kop/s", figure / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} Mop/s", figure / 1e6),
        _ => format!("{:.2} Gop/s", figure / 1e9),
    }
}

/// Micro-ut in a wire string as ut.
pub(crate) fn ut(micro: &str) -> f64 {
    micro.parse::<u64>().map_or(0.0, |micro| micro as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let text = table(&["name", "n"], &[vec!["a".into(), "1".into()], vec!["bcdef".into(), "100".into()]]);
        assert_eq!(text, "name     n\na        1\nbcdef  100\n");
    }
}
