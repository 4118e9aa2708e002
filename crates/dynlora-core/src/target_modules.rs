//! Which linear layers an adapter goes to.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pattern_map::matches;
use crate::{Error, ModuleShape};

/// Target modules in PEFT's sense. In JSON and TOML a list of names, `"all-linear"`, or a regular expression as a string.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetModules {
    /// Every linear layer of the decoder blocks (`"all-linear"`); never the head or the embedding.
    AllLinear,
    /// Modules whose name is one of these or ends in a dot and one of these.
    Names(Vec<String>),
    /// Modules whose whole name this regular expression matches.
    Regex(String),
}

/// The text form: what PEFT writes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    One(String),
    Many(Vec<String>),
}

/// The form for encodings that do not describe themselves.
#[derive(Serialize, Deserialize)]
enum Tagged {
    AllLinear,
    Names(Vec<String>),
    Regex(String),
}

impl TargetModules {
    /// Whether `name` is targeted.
    ///
    /// # Errors
    /// [`Error::Pattern`] for a regular expression that cannot be used.
    pub fn matches(&self, name: &str) -> Result<bool, Error> {
        match self {
            Self::AllLinear => Ok(true),
            Self::Names(targets) => Ok(targets.iter().any(|target| named(name, target))),
            Self::Regex(pattern) => matches(&format!(r"\A(?:{pattern})\z"), name).map_err(|reason| Error::Pattern {
                field: "target_modules",
                pattern: pattern.clone(),
                reason,
            }),
        }
    }

    /// Indices into `shapes` of the targeted modules, at least one.
    pub(crate) fn select(&self, shapes: &[ModuleShape]) -> Result<Vec<usize>, Error> {
        let mut selected = Vec::new();
        for (index, shape) in shapes.iter().enumerate() {
            if self.matches(&shape.name)? {
                selected.push(index);
            }
        }
        if selected.is_empty() {
            return Err(Error::NothingTargeted { targets: self.to_string(), available: last_components(shapes) });
        }
        Ok(selected)
    }

    /// As [`select`](Self::select), refusing a name that targets nothing.
    pub(crate) fn select_all(&self, shapes: &[ModuleShape]) -> Result<Vec<usize>, Error> {
        if let Self::Names(targets) = self
            && let Some(target) = targets.iter().find(|target| !shapes.iter().any(|shape| named(&shape.name, target)))
        {
            return Err(Error::UnknownTarget { target: target.clone(), available: last_components(shapes) });
        }
        self.select(shapes)
    }
}

/// PEFT's suffix rule: `name == target or name.endswith("." + target)`.
fn named(name: &str, target: &str) -> bool {
    name.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// `q_proj` of `model.layers.0.self_attn.q_proj`, once each, in order of appearance.
pub(crate) fn last_components(shapes: &[ModuleShape]) -> Vec<String> {
    let mut components: Vec<String> = Vec::new();
    for shape in shapes {
        let component = shape.name.rsplit('.').next().unwrap_or(&shape.name);
        if !components.iter().any(|known| known == component) {
            components.push(component.to_owned());
        }
    }
    components
}

impl From<&str> for TargetModules {
    fn from(text: &str) -> Self {
        // PEFT compares the shorthand in lower case.
        if text.eq_ignore_ascii_case("all-linear") { Self::AllLinear } else { Self::Regex(text.to_owned()) }
    }
}

impl std::fmt::Display for TargetModules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllLinear => f.write_str("all-linear"),
            Self::Names(names) => write!(f, "[{}]", names.join(", ")),
            Self::Regex(pattern) => write!(f, "the regular expression `{pattern}`"),
        }
    }
}

impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            match self {
                Self::AllLinear => serializer.serialize_str("all-linear"),
                Self::Names(names) => names.serialize(serializer),
                Self::Regex(pattern) => serializer.serialize_str(pattern),
            }
        } else {
            match self.clone() {
                Self::AllLinear => Tagged::AllLinear,
                Self::Names(names) => Tagged::Names(names),
                Self::Regex(pattern) => Tagged::Regex(pattern),
            }
            .serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for TargetModules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Ok(match Text::deserialize(deserializer)? {
                Text::One(text) => text.as_str().into(),
                Text::Many(names) => Self::Names(names),
            })
        } else {
            Ok(match Tagged::deserialize(deserializer)? {
                Tagged::AllLinear => Self::AllLinear,
                Tagged::Names(names) => Self::Names(names),
                Tagged::Regex(pattern) => Self::Regex(pattern),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_match_as_pefts_do() {
        let check = |target: TargetModules, name: &str, expected: bool| {
            assert_eq!(target.matches(name).unwrap(), expected, "{target} {name}");
        };
        let names = |names: &[&str]| TargetModules::Names(names.iter().map(|name| (*name).to_owned()).collect());
        let name = "model.layers.0.self_attn.q_proj";
        check(names(&["q_proj"]), name, true);
        check(names(&["k_proj", "self_attn.q_proj"]), name, true);
        check(names(&["proj"]), name, false);
        check(names(&[name]), name, true);
        check(names(&["0.self_attn"]), name, false);
        check("all-Linear".into(), name, true);
        check(r".*\.(q|v)_proj".into(), name, true);
        // A regular expression must match the whole name, and a bare name as a string is one.
        check("q_proj".into(), name, false);
        check(r"(?!.*layers\.0).*q_proj".into(), name, false);
    }
}
