//! Tables and descriptions, aligned, as wide as the terminal at most.
//!
//! A list comes in pages and may be long, so a table is printed in parts: the first one settles the columns.

mod places;

use std::io::{self, Write};
use std::iter::zip;

use self::places::{cut, width};

/// How it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Columns of the terminal; absent: not a terminal, as wide as need be.
    pub(super) width: Option<usize>,
    pub(super) colour: bool,
}

/// What a cell's text says about its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Faint,
    Good,
    Bad,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

/// A column's title and what may become of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    to_the_right: bool,
    squeezed: bool,
    spare: bool,
}

/// A table under way.
#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [Column],
    style: Style,
    /// The width of each column, 0 for one that is left out; settled by the first rows.
    widths: Option<Vec<usize>>,
}

/// Between two columns.
const GAP: usize = 2;
/// What a squeezed column keeps.
const LEAST: usize = 12;

// === impl Column ===

impl Column {
    pub(super) const fn new(title: &'static str) -> Self {
        Self {
            title,
            to_the_right: false,
            squeezed: false,
            spare: false,
        }
    }

    /// Of numbers, which line up at their ends.
    pub(super) const fn to_the_right(mut self) -> Self {
        self.to_the_right = true;
        self
    }

    /// Its text may be cut where room is short.
    pub(super) const fn squeezed(mut self) -> Self {
        self.squeezed = true;
        self
    }

    /// It may be left out where room is short.
    pub(super) const fn spare(mut self) -> Self {
        self.spare = true;
        self
    }
}

// === impl Cell ===

impl Cell {
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

// === impl Table ===

impl Table {
    pub(super) fn new(columns: &'static [Column], style: Style) -> Self {
        Self {
            columns,
            style,
            widths: None,
        }
    }

    /// Prints rows, each with a cell a column; before the first of all, the titles.
    pub(super) fn print(&mut self, rows: &[Vec<Cell>], out: &mut dyn Write) -> io::Result<()> {
        let first = self.widths.is_none();
        let widths = self.widths.take().unwrap_or_else(|| self.settle(rows));
        if first {
            let titles: Vec<_> = self.columns.iter().map(|c| Cell::toned(c.title, Tone::Faint)).collect();
            self.line(&titles, &widths, out)?;
        }
        for row in rows {
            self.line(row, &widths, out)?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn settle(&self, rows: &[Vec<Cell>]) -> Vec<usize> {
        let widest = |(at, column): (usize, &Column)| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| width(&cell.text));
            cells.chain([width(column.title)]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        let Some(room) = self.style.width else {
            return widths;
        };
        // First the last of the columns that nobody would miss go, until the squeezed ones have what they keep at least.
        let least = |(column, width): (&Column, &usize)| if column.squeezed { LEAST.min(*width) } else { *width };
        while total(zip(self.columns, &widths).map(least)) > room {
            let spare = zip(self.columns, &mut widths).rfind(|(column, width)| column.spare && **width > 0);
            let Some((_, width)) = spare else { break };
            *width = 0;
        }
        // Then the widest text gives way.
        loop {
            let excess = total(widths.iter().copied()).saturating_sub(room);
            let wide = zip(self.columns, &mut widths).filter(|(column, width)| column.squeezed && **width > LEAST);
            match wide.max_by_key(|(_, width)| **width) {
                Some((_, width)) if excess > 0 => *width = width.saturating_sub(excess).max(LEAST),
                _ => return widths,
            }
        }
    }

    fn line(&self, cells: &[Cell], widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        let mut blanks = 0;
        for ((cell, column), &room) in zip(zip(cells, self.columns), widths).filter(|(_, room)| **room > 0) {
            let text = if column.squeezed && self.style.width.is_some() {
                cut(&cell.text, room)
            } else {
                cell.text.clone()
            };
            let pad = room.saturating_sub(width(&text));
            if text.is_empty() {
                blanks += pad + GAP;
                continue;
            }
            let before = if column.to_the_right { pad } else { 0 };
            line.extend(std::iter::repeat_n(' ', blanks + before));
            line.push_str(&self.style.tone(&text, cell.tone));
            blanks = pad - before + GAP;
        }
        writeln!(out, "{line}")
    }
}

/// Prints a label and a value a line.
pub(super) fn describe(fields: &[(&str, Cell)], style: Style, out: &mut dyn Write) -> io::Result<()> {
    let room = fields.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, cell) in fields {
        let label = style.tone(&format!("{label:room$}"), Tone::Faint);
        writeln!(out, "{label}  {}", style.tone(&cell.text, cell.tone))?;
    }
    Ok(())
}

// === impl Style ===

impl Style {
    fn tone(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Plain => "",
        };
        if self.colour && !code.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn total(widths: impl Iterator<Item = usize>) -> usize {
    let shown = widths.filter(|width| *width > 0);
    shown.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::new("NAME").squeezed(),
        Column::new("USED").to_the_right(),
        Column::new("STATUS"),
        Column::new("ID").spare(),
    ];

    fn row(cells: [&str; 4]) -> Vec<Cell> {
        cells.into_iter().map(Cell::from).collect()
    }

    fn table(width: Option<usize>, parts: &[&[Vec<Cell>]]) -> String {
        let mut table = Table::new(COLUMNS, Style { width, colour: false });
        let mut out = Vec::new();
        for rows in parts {
            table.print(rows, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up_and_lines_have_no_blanks_at_their_ends() {
        let rows = [row(["ci", "1,000", "enabled", "06k1"]), row(["日本", "5", "off", ""])];
        assert_eq!(
            table(None, &[&rows]),
            "NAME   USED  STATUS   ID\nci    1,000  enabled  06k1\n日本      5  off\n"
        );
    }

    #[test]
    fn a_second_page_keeps_the_columns_of_the_first() {
        let printed = table(
            None,
            &[&[row(["ci", "1", "on", "a"])], &[row(["nightly", "2", "on", "b"])]],
        );
        assert_eq!(printed.matches("NAME").count(), 1);
        assert!(printed.ends_with("nightly     2  on      b\n"), "{printed}");
    }

    #[test]
    fn room_that_is_short_takes_from_long_names_then_spare_columns() {
        let long = [row(["a-name-that-is-rather-long", "1", "enabled", "06k1"])];
        let printed = table(Some(40), &[&long]);
        assert!(printed.lines().all(|line| width(line) <= 40), "{printed}");
        assert!(
            printed.contains("a-name-that-is-rat…") && printed.contains("06k1"),
            "{printed}"
        );
        let printed = table(Some(28), &[&long]);
        assert!(printed.lines().all(|line| width(line) <= 28), "{printed}");
        assert!(!printed.contains("06k1") && !printed.contains("ID"), "{printed}");
        assert!(
            printed.contains("a-name-that-…"),
            "what a column left goes to the others: {printed}"
        );
    }

    #[test]
    fn colours_only_where_asked() {
        let style = |colour| Style { width: None, colour };
        assert_eq!(style(false).tone("off", Tone::Bad), "off");
        assert_eq!(style(true).tone("off", Tone::Bad), "\u{1b}[31moff\u{1b}[0m");
        let mut out = Vec::new();
        describe(&[("id", "06k1".into()), ("name", "ci".into())], style(false), &mut out).unwrap();
        assert_eq!(out, b"id    06k1\nname  ci\n");
    }
}
