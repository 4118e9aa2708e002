//! Several processes that train together, one best for each machine.

use clap::ValueEnum;
use krystal::grpo::lm::Ranks;
use serde::Serialize;

/// How processes that train together reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distributed {
    /// Not at all
    #[default]
    None,
    /// By the system's MPI
    Mpi,
}

impl Distributed {
    /// Whether this process is on its own.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Joins the others. To be called before anything that takes time, once.
    pub(crate) fn join(self) -> anyhow::Result<Joined> {
        match self {
            Self::None => Ok(Joined::default()),
            Self::Mpi => mpi(),
        }
    }
}

#[cfg(feature = "mpi")]
fn mpi() -> anyhow::Result<Joined> {
    let mpi = std::rc::Rc::new(krystal::spheres::collective::Mpi::start()?);
    Ok(Joined { ranks: Ranks::new(mpi.clone()), mpi: Some(mpi) })
}

#[cfg(not(feature = "mpi"))]
fn mpi() -> anyhow::Result<Joined> {
    Err(crate::failure::usage(
        "--distributed mpi: this krystal was built without MPI: cargo install krystal-cli --features mpi builds one with it",
    ))
}

/// This process among those that train together.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    pub(crate) ranks: Ranks,
    #[cfg(feature = "mpi")]
    mpi: Option<std::rc::Rc<krystal::spheres::collective::Mpi>>,
}

impl Joined {
    /// Takes leave of the others, who would else be ended as if something had failed here. Where something has, they are to be.
    pub(crate) fn leave(self) {
        #[cfg(feature = "mpi")]
        {
            drop(self.ranks);
            if let Some(mpi) = self.mpi.and_then(std::rc::Rc::into_inner) {
                mpi.finish();
            }
        }
    }
}
