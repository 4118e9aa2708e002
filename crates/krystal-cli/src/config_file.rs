//! `--config FILE.toml`: every flag of a verb is a key, and a flag wins over the file.
//!
//! A verb's options are declared once, as a `clap` struct. The file's values are given to the same parser as if they had been
//! typed, for every flag that was not: so files and flags accept the same values with the same messages.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::{Table, Value};

use crate::failure::{one_line, usage};

/// Keys that only make sense on a command line.
const NOT_KEYS: [&str; 4] = ["help", "version", "config", "resume"];

/// The arguments that the keys of `path` stand for, without those that `matches` has from the command line.
///
/// `command` is the built command of the verb, `matches` what was parsed for it.
pub(crate) fn arguments(path: &Path, command: &Command, matches: &ArgMatches) -> anyhow::Result<Vec<OsString>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let message = format!("{}, line {line}: not TOML: {}", path.display(), one_line(error.message()));
            return Err(usage(message));
        }
    };
    let known: Vec<_> = command.get_arguments().filter(|arg| !NOT_KEYS.contains(&arg.get_id().as_str())).collect();
    let mut arguments = Vec::new();
    let mut seen = BTreeSet::new();
    for (key, value) in table {
        let id = key.replace('-', "_");
        let Some(arg) = known.iter().find(|arg| arg.get_id() == id.as_str()) else {
            let ids = known.iter().map(|arg| arg.get_id().as_str());
            return Err(usage(format!("{}: {}", path.display(), unknown_key(&key, ids))));
        };
        if !seen.insert(id.clone()) {
            return Err(usage(format!("{}: key `{id}` is given twice, with `-` and with `_`", path.display())));
        }
        let typed = |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        if typed(arg) || known.iter().any(|other| typed(other) && conflict(command, arg, other)) {
            continue;
        }
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text,
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => format!("{number:?}"),
                Value::Boolean(flag) => flag.to_string(),
                Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                    let message = format!("{}: key `{key}`: expected a value or a list of values", path.display());
                    return Err(usage(format!("{message}, found a {}", value.type_str())));
                }
            };
            arguments.push(OsString::from(match arg.get_long() {
                Some(long) => format!("--{long}={text}"),
                None => text,
            }));
        }
    }
    Ok(arguments)
}

/// Whether two flags exclude each other, whichever of them says so.
fn conflict(command: &Command, one: &Arg, other: &Arg) -> bool {
    let says = |a: &Arg, b: &Arg| command.get_arg_conflicts_with(a).iter().any(|c| c.get_id() == b.get_id());
    says(one, other) || says(other, one)
}

/// What is wrong with a key that nothing is called by, and the known key nearest to it.
pub(crate) fn unknown_key<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    let id = key.replace('-', "_");
    let nearest = known.max_by(|a, b| strsim::jaro_winkler(&id, a).total_cmp(&strsim::jaro_winkler(&id, b)));
    let hint = nearest.map_or_else(String::new, |nearest| format!("; the nearest is `{nearest}`"));
    format!("unknown key `{key}`{hint}")
}
