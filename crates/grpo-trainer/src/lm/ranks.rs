//! Several ranks that train one policy.

use std::ops::Range;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sphere_hierarchy::collective::{Collective, Local};
use sphere_hierarchy::share;

use crate::reward::{Reward, RewardError, RewardFunction, RewardInput};

/// What the bytes between ranks are, and the version of their layout.
const KIND: &str = "part of a rank";
const VERSION: u32 = 1;

/// What can go wrong between ranks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RanksError {
    /// Another rank could not do its part; its own message says why.
    #[error("rank {rank} failed")]
    OtherRank {
        /// The first that failed.
        rank: usize,
    },
    /// Ranks that differ where they must not.
    #[error("rank {rank} has other {what} than rank 0: every rank needs the same")]
    Disagree {
        /// The first that differs from rank 0.
        rank: usize,
        /// In what.
        what: &'static str,
    },
    /// The engine between the ranks failed.
    #[error("the ranks cannot reach each other")]
    Collective(#[from] sphere_hierarchy::Error),
    /// What a rank sent is not what this version writes.
    #[error("what another rank sent cannot be read")]
    Bytes(#[from] krystal_checkpoint::Error),
}

/// The ranks that train one policy together, each of which runs the whole trainer with the same settings and data: work is
/// shared out, and every rank has all the results, with the bits that one rank alone would get.
///
/// A rank that fails tells the others, so that none waits for what will not come.
#[derive(Debug, Clone)]
pub struct Ranks(Rc<dyn Collective>);

impl Default for Ranks {
    /// The only rank.
    fn default() -> Self {
        Self(Rc::new(Local))
    }
}

impl Ranks {
    /// The ranks of a collective.
    pub fn new(collective: Rc<dyn Collective>) -> Self {
        Self(collective)
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    /// Whether this is the rank that writes what all have found.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there are others.
    pub fn are_many(&self) -> bool {
        self.0.size() > 1
    }

    /// What carries messages between the ranks.
    pub fn collective(&self) -> &dyn Collective {
        self.0.as_ref()
    }

    /// Whether it is so on any rank.
    ///
    /// # Errors
    /// [`RanksError::Collective`].
    pub fn any(&self, flag: bool) -> Result<bool, RanksError> {
        let all = self.0.gather_bytes(&[u8::from(flag)])?;
        Ok(all.iter().any(|bytes| *bytes == [1]))
    }

    /// Checks that all have the same `bytes`.
    ///
    /// # Errors
    /// [`RanksError::Disagree`] on every rank, naming `what`; [`RanksError::Collective`].
    pub fn agree(&self, what: &'static str, bytes: &[u8]) -> Result<(), RanksError> {
        let all = self.0.gather_bytes(bytes)?;
        match all.iter().position(|other| *other != all[0]) {
            Some(rank) => Err(RanksError::Disagree { rank, what }),
            None => Ok(()),
        }
    }

    /// What `work` gives on the first rank, on all of them; the others do not call it.
    ///
    /// # Errors
    /// The error of `work` on the first rank and [`RanksError::OtherRank`] on the others; [`RanksError::Collective`].
    pub fn ask_first<E: From<RanksError>>(&self, work: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        let done = if self.is_first() { work() } else { Ok(Vec::new()) };
        self.check(&done)?;
        let mut bytes = done?;
        self.0.broadcast(0, &mut bytes).map_err(RanksError::from)?;
        Ok(bytes)
    }

    /// This rank's part of `n` pieces of work: contiguous, and following that of the rank before.
    pub fn part(&self, n: usize) -> Range<usize> {
        share(n, self.rank(), self.0.size())
    }

    /// The results of all ranks, in order of rank; each may have any number of them.
    ///
    /// # Errors
    /// That of `mine`; [`RanksError::OtherRank`] where it failed on another rank alone; [`RanksError::Collective`],
    /// [`RanksError::Bytes`].
    pub fn gather<T, E>(&self, mine: Result<Vec<T>, E>) -> Result<Vec<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<RanksError>,
    {
        if !self.are_many() {
            return mine;
        }
        self.check(&mine)?;
        let mut mine = mine?;
        let sent = krystal_checkpoint::to_bytes(KIND, VERSION, &mine).map_err(RanksError::from)?;
        let mut all = Vec::new();
        for (rank, bytes) in self.0.gather_bytes(&sent).map_err(RanksError::from)?.iter().enumerate() {
            if rank == self.rank() {
                all.append(&mut mine);
            } else {
                let other: Vec<T> = krystal_checkpoint::from_bytes(bytes, KIND, VERSION).map_err(RanksError::from)?;
                all.extend(other);
            }
        }
        Ok(all)
    }

    /// Tells the others whether this rank has failed; an error where another alone has.
    fn check<T, E>(&self, done: &Result<T, E>) -> Result<(), RanksError> {
        let all = self.0.gather_bytes(&[u8::from(done.is_err())])?;
        match all.iter().position(|failed| *failed == [1]) {
            Some(rank) if done.is_ok() => Err(RanksError::OtherRank { rank }),
            _ => Ok(()),
        }
    }
}

/// A reward function whose work is shared out among ranks: a program that judges completions runs once for each, wherever that is.
#[derive(Debug)]
pub struct SharedReward {
    function: Box<dyn RewardFunction>,
    ranks: Ranks,
}

/// A [`Reward`] on its way: its extra columns as JSON, which the format of the rest cannot hold.
type Sent = (Option<f64>, Option<String>, String);

impl SharedReward {
    /// Shares out the work of `function`.
    pub fn new(function: Box<dyn RewardFunction>, ranks: Ranks) -> Self {
        Self { function, ranks }
    }

    fn failed(&self, error: &dyn std::error::Error) -> RewardError {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let reason = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        RewardError { name: self.name().to_owned(), reason }
    }
}

/// An error of this rank or of the others.
enum Failed {
    Here(RewardError),
    Between(RanksError),
}

impl From<RanksError> for Failed {
    fn from(error: RanksError) -> Self {
        Self::Between(error)
    }
}

impl RewardFunction for SharedReward {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        if !self.ranks.are_many() {
            return self.function.score(inputs);
        }
        let judge = |range: Range<usize>| -> Result<Vec<Sent>, Failed> {
            let n = range.len();
            let rewards = self.function.score(&inputs[range]).map_err(Failed::Here)?;
            if rewards.len() != n {
                let reason = format!("expected {n} rewards, one per completion, got {}", rewards.len());
                return Err(Failed::Here(RewardError { name: self.name().to_owned(), reason }));
            }
            let send = |Reward { score, reason, extra }| {
                let extra = serde_json::to_string(&extra).map_err(|error| Failed::Here(self.failed(&error)))?;
                Ok((score, reason, extra))
            };
            rewards.into_iter().map(send).collect()
        };
        let sent = self.ranks.gather(judge(self.ranks.part(inputs.len()))).map_err(|error| match error {
            Failed::Here(error) => error,
            Failed::Between(error) => self.failed(&error),
        })?;
        let receive = |(score, reason, extra): Sent| {
            let extra = serde_json::from_str(&extra).map_err(|error| self.failed(&error))?;
            Ok(Reward { score, reason, extra })
        };
        sent.into_iter().map(receive).collect()
    }
}
