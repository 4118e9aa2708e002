//! Weights that can be changed and drawn from.

use pulp::{Arch, NullaryFnOnce};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require};

/// Children of a node: two lines of cache, and five levels for a million weights.
const ARITY: usize = 16;

/// Sums of a level in whole lines of cache.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(align(128))]
struct Node([f64; ARITY]);

/// Non-negative weights, of which one can be set, and one drawn in proportion, in `O(log n)`.
///
/// A 16-ary tree of sums in `f64`. A node is always added up again from its children: its error is that of one sum, however often weights
/// change and from wherever they come. The usual way, adding the change of a leaf to every node above it, in `f32`, drifts: after 3e7
/// updates and a fall of all priorities it can end with a *negative* total (see the crate's tests), and with it sampling that is wrong
/// without a sign of it.
///
/// ```
/// use krystal_rl::SumTree;
///
/// let mut tree = SumTree::new(1000)?;
/// tree.set(3, 1.0)?;
/// tree.set(999, 3.0)?;
/// assert_eq!((tree.total(), tree.find(0.5), tree.find(1.5)), (4.0, Some(3), Some(999)));
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Vec<f64>", try_from = "Vec<f64>")]
pub struct SumTree {
    n: usize,
    /// The weights first, then the sums of 16, of 256, ...; the last has one node.
    levels: Vec<Vec<Node>>,
    total: f64,
    /// Parents to be added up again.
    changed: Vec<usize>,
}

impl SumTree {
    /// `n` weights of 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for none, or more than 2^32.
    pub fn new(n: usize) -> Result<Self> {
        require(n > 0 && n as u64 <= 1 << 32, "capacity", "from 1 to 2^32", n as f64)?;
        let mut levels = Vec::new();
        let mut len = n;
        while len > 1 || levels.is_empty() {
            len = len.div_ceil(ARITY);
            levels.push(vec![Node::default(); len]);
        }
        Ok(Self { n, levels, total: 0.0, changed: Vec::new() })
    }

    /// Weights.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Never: a tree has at least one weight.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The sum of all weights.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// A weight.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn get(&self, index: usize) -> Result<f64> {
        self.check(index)?;
        Ok(self.levels[0][index / ARITY].0[index % ARITY])
    }

    /// Sets a weight.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Setting`] for a weight that is negative or not finite.
    pub fn set(&mut self, index: usize, weight: f64) -> Result<()> {
        self.check(index)?;
        check_weight(weight)?;
        self.levels[0][index / ARITY].0[index % ARITY] = weight;
        let mut node = index / ARITY;
        for level in 1..self.levels.len() {
            let sum = sum(&self.levels[level - 1][node]);
            self.levels[level][node / ARITY].0[node % ARITY] = sum;
            node /= ARITY;
        }
        self.total = sum_of_root(&self.levels);
        Ok(())
    }

    /// Sets several weights, adding up once what changes together; of an index given twice the last counts.
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::Length`] if there are not as many indices as weights; nothing is changed then.
    pub fn set_all(&mut self, indices: &[usize], weights: &[f64]) -> Result<()> {
        crate::error::require_len("weights", indices.len(), weights.len())?;
        indices.iter().try_for_each(|index| self.check(*index))?;
        weights.iter().try_for_each(|weight| check_weight(*weight))?;
        self.put(indices, weights);
        Ok(())
    }

    /// [`set_all`](Self::set_all) for indices and weights that were checked.
    pub(super) fn put(&mut self, indices: &[usize], weights: &[f64]) {
        self.changed.clear();
        self.changed.reserve(indices.len());
        for (index, weight) in indices.iter().zip(weights) {
            self.levels[0][index / ARITY].0[index % ARITY] = *weight;
            if self.changed.last() != Some(&(index / ARITY)) {
                self.changed.push(index / ARITY);
            }
        }
        Arch::new().dispatch(AddUp { levels: &mut self.levels, changed: &mut self.changed });
        self.total = sum_of_root(&self.levels);
    }

    /// The weight that `point` of `[0, total)` falls on when weights lie one after another; `None` if all are 0. Rounding never leads to a
    /// weight of 0, and points outside count as the nearest inside.
    pub fn find(&self, point: f64) -> Option<usize> {
        if self.total <= 0.0 {
            return None;
        }
        let mut rest = point;
        let mut node = 0;
        for level in self.levels.iter().rev() {
            let children = &level[node].0;
            let mut chosen = 0;
            let mut before_chosen = 0.0;
            let mut before = 0.0;
            for (child, weight) in children.iter().enumerate() {
                if *weight > 0.0 {
                    (chosen, before_chosen) = (child, before);
                    if rest < before + *weight {
                        break;
                    }
                }
                before += *weight;
            }
            rest -= before_chosen;
            node = node * ARITY + chosen;
        }
        Some(node)
    }

    fn check(&self, index: usize) -> Result<()> {
        if index < self.n { Ok(()) } else { Err(Error::OutOfRange { what: "weight", index, len: self.n }) }
    }
}

fn check_weight(weight: f64) -> Result<()> {
    require(weight >= 0.0 && weight.is_finite(), "weight", "a finite number of at least 0", weight)
}

/// Adds up again what is above the nodes that changed.
struct AddUp<'a> {
    levels: &'a mut [Vec<Node>],
    changed: &'a mut Vec<usize>,
}

impl NullaryFnOnce for AddUp<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { levels, changed } = self;
        for level in 1..levels.len() {
            let (below, here) = levels.split_at_mut(level);
            let (below, here) = (&below[level - 1], &mut here[0]);
            if below.len() <= changed.len() {
                // So high up that nearly everything has changed, and much of it more than once.
                for (sums, nodes) in here.iter_mut().zip(below.chunks(ARITY)) {
                    sums.0.iter_mut().zip(nodes).for_each(|(total, node)| *total = sum(node));
                }
                continue;
            }
            for node in changed.iter_mut() {
                here[*node / ARITY].0[*node % ARITY] = sum(&below[*node]);
                *node /= ARITY;
            }
            changed.dedup();
        }
    }
}

/// In a fixed order that the compiler can use vectors for.
#[inline(always)]
fn sum(node: &Node) -> f64 {
    let eight: [f64; 8] = std::array::from_fn(|i| node.0[i] + node.0[i + 8]);
    crate::features::tree_sum(eight)
}

fn sum_of_root(levels: &[Vec<Node>]) -> f64 {
    levels.last().and_then(|root| root.first()).map_or(0.0, sum)
}

impl From<SumTree> for Vec<f64> {
    fn from(tree: SumTree) -> Self {
        let mut weights: Vec<f64> = tree.levels[0].iter().flat_map(|node| node.0).collect();
        weights.truncate(tree.n);
        weights
    }
}

impl TryFrom<Vec<f64>> for SumTree {
    type Error = Error;

    fn try_from(weights: Vec<f64>) -> Result<Self> {
        let mut tree = Self::new(weights.len())?;
        let indices: Vec<usize> = (0..weights.len()).collect();
        tree.set_all(&indices, &weights)?;
        tree.changed = Vec::new();
        Ok(tree)
    }
}
