//! A table whose columns are as wide as their longest cell.

/// Rows of cells below a row of titles.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    is_number: bool,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    /// A separate line below the previous row.
    Note(String),
}

impl Table {
    /// A title that starts with `#` marks a column of numbers, which is right-aligned.
    pub(crate) fn new<const N: usize>(titles: [&'static str; N]) -> Self {
        let column = |title: &'static str| match title.strip_prefix('#') {
            Some(title) => Column { title, is_number: true },
            None => Column { title, is_number: false },
        };
        Self { columns: titles.map(column).into(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells at its end are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    /// Adds a line that belongs to the previous row.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.rows.push(Row::Note(text.into()));
    }

    /// The lines of the table, each with its line end.
    pub(crate) fn text(&self) -> String {
        let width = |n: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|row| match row {
                Row::Cells(cells) => cells.get(n),
                Row::Note(_) => None,
            });
            let title = column.title.len();
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(title)
        };
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(n, column)| width(n, column)).collect();
        let mut out = String::new();
        let titles: Vec<String> = self.columns.iter().map(|it| it.title.to_owned()).collect();
        self.line(&mut out, &widths, &titles);
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.line(&mut out, &widths, cells),
                Row::Note(text) => {
                    out.push_str("  ");
                    out.push_str(text);
                    out.push('\n');
                }
            }
        }
        out
    }

    fn line(&self, out: &mut String, widths: &[usize], cells: &[String]) {
        let start = out.len();
        for ((cell, width), column) in cells.iter().zip(widths).zip(&self.columns) {
            let fill = " ".repeat(width - cell.chars().count());
            let (before, after) = if column.is_number { (&*fill, "") } else { ("", &*fill) };
            out.extend([before, cell, after, "  "]);
        }
        out.truncate(start + out[start..].trim_end().len());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut table = Table::new(["NAME", "#BYTES", "NOTE"]);
        table.row(["a".into(), "5".into(), "x".into()]);
        table.row(["a longer näme".into(), "12345".into()]);
        table.note("below it");
        let expected = "\
NAME           BYTES  NOTE
a                  5  x
a longer näme  12345
  below it
";
        assert_eq!(table.text(), expected);
    }
}
