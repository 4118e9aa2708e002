//! Tile coding: overlapping grids, each tile a binary feature.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require, require_len};

/// One axis of the tiled space.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileAxis {
    /// Least value; smaller ones count as this.
    pub low: f64,
    /// Greatest value, above `low`; greater ones count as this.
    pub high: f64,
    /// Tiles over the whole axis, at least 1.
    pub tiles: u32,
}

/// How a tile becomes the index of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TileIndex {
    /// Each tile has its own feature.
    #[default]
    Exact,
    /// Tiles share this many features by a hash: memory that does not grow with the number of axes, at the price of collisions.
    Hashed(u32),
}

/// Settings of a [`TileCoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileConfig {
    /// The axes.
    pub axes: Vec<TileAxis>,
    /// Grids laid over each other, at least 1: finer generalisation without smaller tiles. A power of two of at least four times the
    /// number of axes is recommended (Sutton and Barto, section 9.5.4).
    pub tilings: u32,
    /// Feature for each tile, or shared.
    #[serde(default)]
    pub index: TileIndex,
}

/// Tile coding with asymmetric offsets.
///
/// Tiling `t` of `n` is displaced along axis `i` by `((2 i + 1) t mod n) / n` of a tile (Miller and Glanz 1996; Sutton and Barto 2018,
/// section 9.5.4), so that no two tilings are displaced along the diagonal alone. A state has exactly `n` active features, one of each
/// tiling; divide a step size by `n` to move a value by a given share of its error. `O(n d)` for `d` axes.
///
/// ```
/// use krystal_rl::{Active, Next, Td, TdConfig, TileAxis, TileCoder, TileConfig, TileIndex};
///
/// let axis = TileAxis { low: -1.0, high: 1.0, tiles: 8 };
/// let coder = TileCoder::new(TileConfig { axes: vec![axis; 2], tilings: 8, index: TileIndex::Exact })?;
/// let mut td = Td::<f64>::new(coder.n_features(), TdConfig { step_size: 0.1.into(), ..TdConfig::default() })?;
/// let mut tiles = [0; 8];
/// coder.active(&[0.3, -0.2], &mut tiles)?;
/// td.update(&Active(&tiles), 1.0, Next::Terminated)?;
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TileCoder {
    config: TileConfig,
    /// Tiles of one tiling.
    tiles: u32,
    n_features: u32,
}

impl TileCoder {
    /// # Errors
    /// [`Error::Setting`] for a setting outside its range, or more tiles than 2^32 - 1.
    pub fn new(config: TileConfig) -> Result<Self> {
        let TileConfig { axes, tilings, index } = &config;
        require(!axes.is_empty(), "axes", "at least 1", 0.0)?;
        require(*tilings > 0, "tilings", "at least 1", 0.0)?;
        let mut tiles = 1_u32;
        let mut n_features = *tilings;
        for axis in axes {
            let range = axis.high - axis.low;
            require(range > 0.0 && range.is_finite(), "high", "a finite number above low", axis.high)?;
            require(axis.tiles > 0, "tiles", "at least 1", 0.0)?;
            if *index == TileIndex::Exact {
                // A displaced grid needs one more to cover the axis.
                let more = axis.tiles.checked_add(1);
                let product = |n: u32| more.and_then(|more| n.checked_mul(more));
                (tiles, n_features) = product(tiles).zip(product(n_features)).ok_or(Error::Setting {
                    name: "tiles",
                    expected: "fewer than 2^32 in all",
                    found: f64::INFINITY,
                })?;
            }
        }
        if let TileIndex::Hashed(size) = index {
            require(*size > 0, "hashed", "at least 1", 0.0)?;
            n_features = *size;
        }
        Ok(Self { tiles, n_features, config })
    }

    /// Features that a learner must have room for.
    pub fn n_features(&self) -> usize {
        self.n_features as usize
    }

    /// Features that are active at once.
    pub fn tilings(&self) -> usize {
        self.config.tilings as usize
    }

    /// Writes the indices of the active features of `state`.
    ///
    /// # Errors
    /// [`Error::Length`] if `state` is not as long as there are axes or `active` not as long as there are tilings,
    /// [`Error::NotFinite`] for a state that is not finite.
    pub fn active(&self, state: &[f64], active: &mut [u32]) -> Result<()> {
        let TileConfig { axes, tilings, index } = &self.config;
        require_len("coordinates", axes.len(), state.len())?;
        require_len("places for tiles", self.tilings(), active.len())?;
        crate::error::require_finite("coordinate", state)?;
        let n = u64::from(*tilings);
        for (tiling, active) in (0_u64..).zip(active) {
            let mut exact = 0_u32;
            let mut hash = tiling;
            for (i, (axis, s)) in (0_u64..).zip(axes.iter().zip(state)) {
                let shift = ((2 * i + 1) % n * tiling % n) as f64 / n as f64;
                let place = (s.clamp(axis.low, axis.high) - axis.low) / (axis.high - axis.low) * f64::from(axis.tiles);
                let tile = ((place + shift) as u32).min(axis.tiles);
                exact = exact * (axis.tiles + 1) + tile;
                hash = mix(hash ^ u64::from(tile).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
            *active = match index {
                TileIndex::Exact => tiling as u32 * self.tiles + exact,
                TileIndex::Hashed(size) => ((u128::from(hash) * u128::from(*size)) >> 64) as u32,
            };
        }
        Ok(())
    }
}

/// The finalizer of MurmurHash3 in Stafford's variant 13.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coder(index: TileIndex) -> TileCoder {
        let axes = vec![TileAxis { low: 0.0, high: 1.0, tiles: 4 }, TileAxis { low: -2.0, high: 2.0, tiles: 4 }];
        TileCoder::new(TileConfig { axes, tilings: 4, index }).unwrap()
    }

    #[test]
    fn tilings_are_displaced_by_odd_shares_of_a_tile() {
        let coder = coder(TileIndex::Exact);
        assert_eq!(coder.n_features(), 4 * 5 * 5);
        let mut active = [0; 4];
        // 0.25 is 1 tile, -0.5 is 1.5 tiles; displacements are (0, 0), (1/4, 3/4), (2/4, 2/4), (3/4, 1/4).
        coder.active(&[0.25, -0.5], &mut active).unwrap();
        assert_eq!(active, [5 + 1, 25 + 5 + 2, 50 + 5 + 2, 75 + 5 + 1]);
        coder.active(&[99.0, 99.0], &mut active).unwrap();
        assert_eq!(active, [24, 49, 74, 99]);
    }

    #[test]
    fn neighbours_share_tiles_and_strangers_none() {
        let coder = coder(TileIndex::Exact);
        let tiles = |s: [f64; 2]| {
            let mut active = [0; 4];
            coder.active(&s, &mut active).unwrap();
            active
        };
        let shared = |a, b| tiles(a).iter().zip(tiles(b)).filter(|(a, b)| **a == *b).count();
        assert_eq!(shared([0.30, 0.1], [0.31, 0.12]), 4);
        assert_eq!(shared([0.30, 0.1], [0.37, 0.12]), 3);
        assert_eq!(shared([0.1, -1.5], [0.9, 1.5]), 0);
    }

    #[test]
    fn hashes_spread_evenly() {
        let size = 64_u32;
        let coder = coder(TileIndex::Hashed(size));
        let mut counts = vec![0_u32; size as usize];
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..50 {
            for j in 0..50 {
                let mut active = [0; 4];
                coder.active(&[f64::from(i) / 49.0, f64::from(j) / 12.25 - 2.0], &mut active).unwrap();
                for (tiling, at) in active.iter().enumerate() {
                    if seen.insert((tiling, *at)) {
                        counts[*at as usize] += 1;
                    }
                }
            }
        }
        // 100 tiles of 4 tilings into 64 features: nearly all are hit, none by very many.
        assert!(counts.iter().filter(|n| **n == 0).count() < 25 && counts.iter().max() < Some(&9), "{counts:?}");
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let coder = coder(TileIndex::Exact);
        assert!(matches!(coder.active(&[0.0, f64::NAN], &mut [0; 4]), Err(Error::NotFinite { index: 1, .. })));
        assert!(matches!(coder.active(&[0.0], &mut [0; 4]), Err(Error::Length { .. })));
        assert!(matches!(coder.active(&[0.0, 0.0], &mut [0; 3]), Err(Error::Length { .. })));
        let axis = TileAxis { low: 0.0, high: 1.0, tiles: 1000 };
        let huge = TileConfig { axes: vec![axis; 4], tilings: 8, index: TileIndex::Exact };
        assert!(matches!(TileCoder::new(huge.clone()), Err(Error::Setting { .. })));
        assert!(TileCoder::new(TileConfig { index: TileIndex::Hashed(4096), ..huge }).is_ok());
        let flat = TileAxis { high: 0.0, ..axis };
        assert!(TileCoder::new(TileConfig { axes: vec![flat], tilings: 1, index: TileIndex::Exact }).is_err());
    }
}
