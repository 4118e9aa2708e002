//! Steps in columns.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require, require_len};
use crate::features::check_finite;
use crate::prediction::Next;
use crate::real::Real;

/// One step: where it began, what was done, what it brought, what followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transition<'a, R> {
    /// Features of the state.
    pub x: &'a [R],
    /// The action taken.
    pub action: usize,
    /// The reward.
    pub reward: R,
    /// The features that followed, and whether the episode ended there.
    pub next: Next<&'a [R]>,
}

/// How a step ended; kept as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Continues,
    Truncated,
    Terminated,
}

/// A ring of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Transitions<R: Real> {
    dim: usize,
    capacity: usize,
    len: usize,
    /// Where the next goes.
    cursor: usize,
    x: Vec<R>,
    next: Vec<R>,
    actions: Vec<u32>,
    rewards: Vec<R>,
    ends: Vec<End>,
}

impl<R: Real> Transitions<R> {
    pub(crate) fn new(dim: usize, capacity: usize) -> Result<Self> {
        require(dim > 0, "dim", "at least 1", 0.0)?;
        require(capacity > 0, "capacity", "at least 1", 0.0)?;
        require(u32::try_from(capacity).is_ok(), "capacity", "below 2^32", capacity as f64)?;
        let numbers = capacity.checked_mul(dim).filter(|n| *n <= isize::MAX as usize / size_of::<R>());
        let numbers = numbers.ok_or(Error::Setting {
            name: "capacity",
            expected: "such that it fits in memory",
            found: capacity as f64,
        })?;
        Ok(Self {
            dim,
            capacity,
            len: 0,
            cursor: 0,
            x: vec![R::ZERO; numbers],
            next: vec![R::ZERO; numbers],
            actions: vec![0; capacity],
            rewards: vec![R::ZERO; capacity],
            ends: vec![End::Terminated; capacity],
        })
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where it lies now.
    pub(crate) fn push(&mut self, step: &Transition<'_, R>) -> Result<usize> {
        require_len("features", self.dim, step.x.len())?;
        check_finite("feature", step.x)?;
        let action = u32::try_from(step.action);
        let action =
            action.map_err(|_| Error::OutOfRange { what: "action", index: step.action, len: u32::MAX as usize })?;
        check_finite("reward", &[step.reward])?;
        if let Some(next) = step.next.state() {
            require_len("features of the next state", self.dim, next.len())?;
            check_finite("feature of the next state", *next)?;
        }
        let at = self.cursor;
        let row = at * self.dim..(at + 1) * self.dim;
        self.x[row.clone()].copy_from_slice(step.x);
        match step.next.state() {
            Some(next) => self.next[row].copy_from_slice(next),
            None => self.next[row].fill(R::ZERO),
        }
        self.actions[at] = action;
        self.rewards[at] = step.reward;
        self.ends[at] = match step.next {
            Next::Continues(_) => End::Continues,
            Next::Truncated(_) => End::Truncated,
            Next::Terminated => End::Terminated,
        };
        self.cursor = if at + 1 == self.capacity { 0 } else { at + 1 };
        self.len = self.len.max(at + 1);
        Ok(at)
    }

    pub(crate) fn get(&self, index: usize) -> Result<Transition<'_, R>> {
        if index >= self.len {
            return Err(Error::OutOfRange { what: "transition", index, len: self.len });
        }
        let row = index * self.dim..(index + 1) * self.dim;
        let next = &self.next[row.clone()];
        let next = match self.ends[index] {
            End::Continues => Next::Continues(next),
            End::Truncated => Next::Truncated(next),
            End::Terminated => Next::Terminated,
        };
        Ok(Transition { x: &self.x[row], action: self.actions[index] as usize, reward: self.rewards[index], next })
    }

    /// Copies the steps at `batch.indices` into its other columns.
    pub(crate) fn gather(&self, batch: &mut Batch<R>) {
        let Batch { indices, x, next, actions, rewards, terminated, .. } = batch;
        x.clear();
        next.clear();
        for index in indices.iter() {
            let row = index * self.dim..(index + 1) * self.dim;
            x.extend_from_slice(&self.x[row.clone()]);
            next.extend_from_slice(&self.next[row]);
        }
        actions.clear();
        actions.extend(indices.iter().map(|i| self.actions[*i] as usize));
        rewards.clear();
        rewards.extend(indices.iter().map(|i| self.rewards[*i]));
        terminated.clear();
        terminated.extend(indices.iter().map(|i| self.ends[*i] == End::Terminated));
    }

    /// # Errors
    /// [`Error::Inconsistent`] for columns that do not fit each other, as a file can hold them.
    pub(crate) fn validate(&self) -> Result<()> {
        let Self { dim, capacity, len, cursor, x, next, actions, rewards, ends } = self;
        let numbers = capacity.checked_mul(*dim);
        let columns = numbers == Some(x.len()) && numbers == Some(next.len());
        let rows = [actions.len(), rewards.len(), ends.len()].iter().all(|n| n == capacity);
        let ring = len <= capacity && (*cursor < *capacity) && (*len == *capacity || cursor == len);
        if columns && rows && ring && *dim > 0 {
            check_finite("feature", &x[..])?;
            check_finite("feature of the next state", &next[..])?;
            check_finite("reward", &rewards[..])
        } else {
            Err(Error::Inconsistent { what: "columns of the replay buffer" })
        }
    }
}

/// Steps drawn from a buffer, in columns; its memory is used again by the next draw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch<R> {
    /// Where each lies in the buffer.
    pub indices: Vec<usize>,
    /// Importance weights, at most 1; all 1 where all are drawn alike.
    pub weights: Vec<f64>,
    /// Features, `(n, dim)`.
    pub x: Vec<R>,
    /// Features that followed, `(n, dim)`; 0 where the episode terminated.
    pub next: Vec<R>,
    /// Actions.
    pub actions: Vec<usize>,
    /// Rewards.
    pub rewards: Vec<R>,
    /// Whether the episode terminated, so that nothing of `next` counts.
    pub terminated: Vec<bool>,
}
