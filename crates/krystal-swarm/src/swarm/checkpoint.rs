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
        let at_best = self.best.as_ref().map_or(0, |best| best.evaluation);
        if at_best > self.evaluations {
            let (expected, found) = (at_best as usize, self.evaluations as usize);
            return Err(Error::Inconsistent { what: "evaluations up to the best", expected, found });
        }
        for (what, expected, found) in counts {
            if expected != found {
                return Err(Error::Inconsistent { what, expected, found });
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SearchSpace, SwarmConfig};

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let mut swarm = Swarm::new(SearchSpace::cube(2, -1.0, 1.0).unwrap(), SwarmConfig::default()).unwrap();
        for _ in 0..50 {
            let trial = swarm.ask().unwrap();
            swarm.tell(trial.id, trial.x[0].abs() + trial.x[1]).unwrap();
        }
        let reloaded = |swarm: &Swarm| Swarm::from_bytes(&swarm.to_bytes().unwrap());
        assert!(reloaded(&swarm).is_ok());
        let whole = swarm.clone();
        swarm.evaluations = 0;
        assert!(matches!(reloaded(&swarm), Err(Error::Inconsistent { what: "evaluations up to the best", .. })));
        let mut short = whole.clone();
        short.points.pop();
        assert!(matches!(reloaded(&short), Err(Error::Inconsistent { .. })));
        let mut shifted = whole;
        shifted.cursor = 1 << 20;
        assert!(matches!(reloaded(&shifted), Err(Error::Inconsistent { .. })));
    }
}
