//! The report of a run: its log files as one HTML page that needs nothing else, not even a script.
//!
//! [`RunLog`] reads the files, [`line_chart`], [`heat_map`], [`migration_marks`] and [`health_strip`] draw parts of them as SVG,
//! [`page`] puts the parts together; [`search_page`] is that of a search by `krystal tune`. Everything that comes from a file passes through [`escape`].

mod completion_table;
mod dynamics;
mod escape;
mod health_strip;
mod heat_map;
mod line_chart;
mod migration_marks;
mod number;
mod page;
mod parallel_coordinates;
mod run_log;
mod scale;
mod search_page;
mod summary;

use std::path::{Path, PathBuf};

use run_log::RunLog;

/// Writes the report of the run in `run` to `report.html` in the same folder, and says where that is.
///
/// # Errors
/// Where `run` holds no run, its metrics are empty, or a line of its logs is not readable (with file and line).
pub(crate) fn write(run: &Path) -> anyhow::Result<PathBuf> {
    let path = run.join("report.html");
    write_to(run, &path)?;
    Ok(path)
}

/// As [`write`], to a file of another name.
pub(crate) fn write_to(run: &Path, path: &Path) -> anyhow::Result<()> {
    let html = if search_page::is_search(run) { search_page::html(run)? } else { page::html(&RunLog::read(run)?) };
    Ok(krystal::checkpoint::write_atomically(path, html.as_bytes())?)
}

#[cfg(test)]
mod tests;
