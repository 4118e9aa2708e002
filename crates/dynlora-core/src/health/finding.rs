//! What can be outside its band, and how bad that is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LayerOwner, Level};

/// How bad it is; the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing to report.
    #[default]
    Healthy,
    /// Outside its band, not a fault.
    Acceptable,
    /// Works, worse than it could.
    Degraded,
    /// What was learned is at risk, or nothing can be learned.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Acceptable => "acceptable",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        })
    }
}

/// One thing outside its band.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// Entropy far too low: the layer can hardly learn.
    Crystallization {
        /// Which layer.
        layer: LayerOwner,
        /// Entropy over its optimum.
        entropy_ratio: f64,
    },
    /// Entropy far too high: the layer keeps nothing.
    Amnesia {
        /// Which layer.
        layer: LayerOwner,
        /// Entropy over its optimum.
        entropy_ratio: f64,
    },
    /// Entropy outside its band.
    EntropyOffBand {
        /// Which layer.
        layer: LayerOwner,
        /// Entropy over its optimum.
        entropy_ratio: f64,
    },
    /// Too few or too many parameters are SCREENED.
    ScreeningOffBand {
        /// Which layer.
        layer: LayerOwner,
        /// Share of them.
        screening_rate: f64,
    },
    /// Inertia at its cap: the layer stands still.
    Frozen {
        /// Which layer.
        layer: LayerOwner,
        /// `alpha_eff`.
        effective_inertia: f64,
    },
    /// A measurement is not a number.
    NotFinite {
        /// Which layer.
        layer: LayerOwner,
        /// Which measurement.
        what: String,
    },
    /// A migration queue is long.
    Backlog {
        /// The channel's faster end.
        from: Level,
        /// Its length.
        backlog: u64,
    },
    /// Migrations wait long.
    SlowMigration {
        /// The channel's faster end.
        from: Level,
        /// Mean ticks.
        wait_ticks: f64,
    },
    /// Migrations are refused often.
    Rejections {
        /// The channel's faster end.
        from: Level,
        /// Share of the requests.
        rejection_rate: f64,
    },
    /// Layers disagree often.
    Conflicts {
        /// Share of the windows.
        conflict_rate: f64,
    },
    /// Gradients are refused often: too old, or malformed.
    RefusedGradients {
        /// Share of all.
        refusal_rate: f64,
    },
    /// Hardly anything is universal; to be expected where agents or tasks have little in common, so no fault.
    FewFastTracks {
        /// Share of the windows.
        fast_track_rate: f64,
    },
    /// Nearly everything is called universal: the threshold tells nothing apart.
    ManyFastTracks {
        /// Share of the windows.
        fast_track_rate: f64,
    },
    /// Vertical alignment cannot be told from noise: resonance steers nothing, and harms nothing.
    NoResonanceSignal {
        /// Standard errors from none.
        z: f64,
    },
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Crystallization { .. } | Self::Amnesia { .. } | Self::NotFinite { .. } => Severity::Critical,
            Self::ScreeningOffBand { .. }
            | Self::Frozen { .. }
            | Self::Backlog { .. }
            | Self::SlowMigration { .. }
            | Self::Rejections { .. }
            | Self::Conflicts { .. }
            | Self::RefusedGradients { .. }
            | Self::ManyFastTracks { .. } => Severity::Degraded,
            Self::EntropyOffBand { .. } | Self::FewFastTracks { .. } | Self::NoResonanceSignal { .. } => {
                Severity::Acceptable
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crystallization { layer, entropy_ratio } => {
                write!(f, "{layer} crystallises: entropy ratio {entropy_ratio:.2}")
            }
            Self::Amnesia { layer, entropy_ratio } => write!(f, "{layer} forgets: entropy ratio {entropy_ratio:.2}"),
            Self::EntropyOffBand { layer, entropy_ratio } => {
                write!(f, "{layer} has entropy ratio {entropy_ratio:.2}")
            }
            Self::ScreeningOffBand { layer, screening_rate } => {
                write!(f, "{layer} has {:.0} % screened", 100.0 * screening_rate)
            }
            Self::Frozen { layer, effective_inertia } => {
                write!(f, "{layer} stands still: inertia {effective_inertia:.4}")
            }
            Self::NotFinite { layer, what } => write!(f, "{layer} has no number for its {what}"),
            Self::Backlog { from, backlog } => write!(f, "{backlog} circuits wait to leave the {from} layer"),
            Self::SlowMigration { from, wait_ticks } => {
                write!(f, "circuits wait {wait_ticks:.1} ticks to leave the {from} layer")
            }
            Self::Rejections { from, rejection_rate } => {
                write!(f, "{:.1} % of migrations from the {from} layer are refused", 100.0 * rejection_rate)
            }
            Self::Conflicts { conflict_rate } => {
                write!(f, "layers conflict in {:.1} % of windows", 100.0 * conflict_rate)
            }
            Self::RefusedGradients { refusal_rate } => {
                write!(f, "{:.1} % of gradients are refused", 100.0 * refusal_rate)
            }
            Self::FewFastTracks { fast_track_rate } | Self::ManyFastTracks { fast_track_rate } => {
                write!(f, "{:.1} % of windows are fast-tracked", 100.0 * fast_track_rate)
            }
            Self::NoResonanceSignal { z } => write!(f, "vertical alignment is {z:.1} standard errors from none"),
        }
    }
}
