//! An aligned table on standard output.

/// Rows of cells under a line of headings; the first column is flush left, the others right.
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// One line of the table.
struct Row {
    cells: Vec<String>,
    /// Free text after the last cell.
    note: String,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Table {
        let cells = headings.iter().map(|heading| heading.to_string()).collect();
        Table { rows: vec![Row { cells, note: String::new() }] }
    }

    /// Adds a row; it may have fewer cells than there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>, note: impl Into<String>) {
        self.rows.push(Row { cells, note: note.into() });
    }

    /// Prints the table, indented by two spaces.
    pub(crate) fn print(&self) {
        let columns = self.rows[0].cells.len();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.cells.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.cells.iter().enumerate() {
                let width = widths[column];
                line += &if column == 0 {
                    format!("  {cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                };
            }
            if !row.note.is_empty() {
                line = format!("{line}  {}", row.note);
            }
            println!("{}", line.trim_end());
        }
        println!();
    }
}

/// A number with `digits` after the point, or a dash.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A whole number with its thousands set apart, or a dash.
pub(crate) fn thousands(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
