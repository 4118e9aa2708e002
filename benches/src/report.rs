//! The numbers of a run: a table for people, one flat JSON object for programs.

use serde_json::{Map, Number, Value};

use crate::Options;
use crate::host::describe_host;

/// Numbers by name, in the order they were recorded.
#[derive(Debug, Clone, Default)]
pub struct Report {
    numbers: Map<String, Value>,
}

impl Report {
    /// Keeps a number for the closing object.
    ///
    /// # Errors
    /// If `value` is not finite, which JSON cannot say.
    pub fn keep(&mut self, name: &str, value: f64) -> anyhow::Result<()> {
        let number = Number::from_f64(value).ok_or_else(|| anyhow::anyhow!("`{name}` is {value}"))?;
        self.numbers.insert(name.to_owned(), Value::Number(number));
        Ok(())
    }

    /// Ends the run: with `--json`, prints the object.
    pub fn close(self, options: &Options) {
        if options.json {
            println!("{}", Value::Object(self.numbers));
        }
    }
}

/// A table of a report: the first column is text, the others are numbers.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Adds a row; `None` is shown as a dash.
    pub fn row(&mut self, name: &str, cells: impl IntoIterator<Item = Option<String>>) {
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        self.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }

    /// Prints the table: with `--markdown` as Markdown after a line about the machine.
    pub fn print(&self, options: &Options) {
        if options.markdown {
            println!("{}\n", describe_host());
        }
        print!("{}", self.text(options.markdown));
        println!();
    }

    /// The table, as Markdown or aligned.
    pub fn text(&self, markdown: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).max(3)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let cells: Vec<String> = cells.collect();
            if !markdown {
                text.push_str(cells.join("  ").trim_end());
                text.push('\n');
                continue;
            }
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
            if index == 0 {
                let rules = widths.iter().enumerate().map(|(column, width)| match column {
                    0 => "-".repeat(*width),
                    _ => format!("{}:", "-".repeat(width - 1)),
                });
                text.push_str(&format!("| {} |\n", rules.collect::<Vec<_>>().join(" | ")));
            }
        }
        text
    }
}

/// The middle value, the mean of the two middle ones for an even count; NaN for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn a_number_that_json_cannot_say_is_refused() {
        assert!(Report::default().keep("x", f64::NAN).is_err());
    }

    #[test]
    fn a_table_is_aligned_or_markdown() {
        let mut table = Table::new(["size", "ratio"]);
        table.row("tiny", [Some("12.5".to_owned())]);
        table.row("medium", [None]);
        assert_eq!(table.text(false), "size    ratio\ntiny     12.5\nmedium      -\n");
        assert_eq!(
            table.text(true),
            "| size   | ratio |\n| ------ | ----: |\n| tiny   |  12.5 |\n| medium |     - |\n"
        );
    }
}
