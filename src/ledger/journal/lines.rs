//! Usage rows as lines of JSON.

use crate::store::Row;

/// Rows as lines of JSON.
pub(in crate::ledger) fn write<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<u8> {
    let mut lines = Vec::with_capacity(1 << 14);
    for row in rows {
        // Into memory, and without maps, it cannot fail.
        if let Err(error) = serde_json::to_writer(&mut lines, row) {
            tracing::error!(id = %row.id, %error, "a row could not be written down");
        }
        lines.push(b'\n');
    }
    lines
}

/// The rows of a batch, and the lines that are none.
pub(in crate::ledger) fn read(lines: &[u8]) -> (Vec<Row>, Vec<(String, String)>) {
    let mut rows = Vec::new();
    let mut bad = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(row) => rows.push(row),
            Err(error) => bad.push((String::from_utf8_lossy(line).into_owned(), error.to_string())),
        }
    }
    (rows, bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::row;

    #[test]
    fn rows_read_back_and_what_is_none_is_told() {
        let rows = [row(1), row(2)];
        let mut lines = write(&rows);
        assert_eq!(read(&lines), (rows.to_vec(), Vec::new()));
        lines.extend(b"{\"id\":\"torn");
        let (read, bad) = read(&lines);
        assert_eq!(read, rows);
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].0, "{\"id\":\"torn");
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let line = String::from_utf8(write([&row(1)])).expect("text");
        let line = line.replacen('{', "{\"novel\":[1,{\"a\":null}],", 1);
        assert_eq!(read(line.as_bytes()), (vec![row(1)], Vec::new()));
    }
}
