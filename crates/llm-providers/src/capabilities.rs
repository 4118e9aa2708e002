//! What a provider can do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that some vendors have and others lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Feature {
    /// Sampling from the most likely tokens.
    TopK,
    /// A seed of the sampling.
    Seed,
    /// Texts that end the answer.
    Stop,
    /// Presence and frequency penalties.
    Penalties,
    /// Log-probabilities of the answer's tokens.
    LogProbs,
    /// Answers that are JSON.
    JsonObject,
    /// Answers that follow a schema.
    JsonSchema,
    /// Tools.
    Tools,
    /// Forcing or forbidding tools.
    ToolChoice,
    /// Switching parallel calls of tools on or off.
    ParallelToolCalls,
    /// Settings of the reasoning.
    Reasoning,
    /// Images in messages.
    Images,
    /// Files in messages.
    Files,
    /// Images or files by their address.
    MediaUrls,
    /// Embeddings.
    Embeddings,
}

impl Feature {
    const ALL: [Self; 15] = [
        Self::TopK,
        Self::Seed,
        Self::Stop,
        Self::Penalties,
        Self::LogProbs,
        Self::JsonObject,
        Self::JsonSchema,
        Self::Tools,
        Self::ToolChoice,
        Self::ParallelToolCalls,
        Self::Reasoning,
        Self::Images,
        Self::Files,
        Self::MediaUrls,
        Self::Embeddings,
    ];
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TopK => "top_k",
            Self::Seed => "a seed",
            Self::Stop => "stop texts",
            Self::Penalties => "presence and frequency penalties",
            Self::LogProbs => "log-probabilities",
            Self::JsonObject => "JSON output",
            Self::JsonSchema => "output by a schema",
            Self::Tools => "tools",
            Self::ToolChoice => "a choice of tools",
            Self::ParallelToolCalls => "switching parallel tool calls",
            Self::Reasoning => "settings of the reasoning",
            Self::Images => "images",
            Self::Files => "files",
            Self::MediaUrls => "images or files by address",
            Self::Embeddings => "embeddings",
        })
    }
}

/// A set of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Nothing but text.
    pub const NONE: Self = Self(0);

    /// Everything there is a word for.
    pub const fn all() -> Self {
        Self((1 << Feature::ALL.len()) - 1)
    }

    /// With a feature.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// Without a feature.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u32))
    }

    /// Whether a feature is there.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// The features, in the order of their declaration.
    pub fn features(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_and_go() {
        for feature in Feature::ALL {
            assert!(!Capabilities::NONE.has(feature));
            assert!(Capabilities::all().has(feature));
            assert_eq!(Capabilities::NONE.with(feature).features().collect::<Vec<_>>(), [feature]);
            assert_eq!(Capabilities::all().without(feature).features().count(), Feature::ALL.len() - 1);
        }
    }
}
