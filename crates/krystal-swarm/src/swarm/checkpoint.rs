//! Searches on disk.

use std::path::Path;

use super::{Slot, Swarm};
use crate::Error;

const KIND: &str = "swarm";
const VERSION: u32 = 1;

impl Swarm {
    /// Writes everything, so that [`load`](Self::load) goes on exactly; pending trials too.
    ///
    /// # Errors
    /// Where it cannot be written; the previous file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        krystal_checkpoint::save(path, KIND, VERSION, self).map_err(|source| Error::Checkpoint { source })
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// Where the file is not whole, not a swarm's, of another version, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let swarm: Self =
            krystal_checkpoint::load(path, KIND, VERSION).map_err(|source| Error::Checkpoint { source })?;
        swarm.checked()
    }

    /// What [`save`](Self::save) would write, for swarms inside another state.
    ///
    /// # Errors
    /// None that a swarm could cause.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        krystal_checkpoint::to_bytes(KIND, VERSION, self).map_err(|source| Error::Checkpoint { source })
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let swarm: Self =
            krystal_checkpoint::from_bytes(bytes, KIND, VERSION).map_err(|source| Error::Checkpoint { source })?;
        swarm.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        self.config.validate()?;
        let (n, d, n_dims) = (self.slots.len(), self.space.n_coordinates(), self.space.n_dims());
        let n_told = self.slots.iter().filter(|slot| **slot == Slot::Told).count();
        // Where particles move one by one, nothing that is told stays so.
        let told = if self.moves.is_asynchronous() { self.n_told.min(n.saturating_sub(1)) } else { n_told };
        let counts = [
            ("coordinates", n * d, self.points.len()),
            ("values", n, self.fitness.len()),
            ("values told", told, self.n_told),
            ("coordinates of suggestions", d * self.suggested.len(), self.suggested.iter().map(Vec::len).sum()),
            ("coordinates of trials", d * self.orphans.len(), self.orphans.iter().map(|orphan| orphan.1.len()).sum()),
            ("numbers of the best point", n_dims, self.best.as_ref().map_or(n_dims, |best| best.x.len())),
            ("particles that can move", n, if self.moves.is_of(n, d) { n } else { 0 }),
            ("rows up to the next", n, n.max(self.cursor + 1)),
        ];
        for (what, expected, found) in counts {
            if expected != found {
                return Err(Error::Inconsistent { what, expected, found });
            }
        }
        Ok(self)
    }
}
