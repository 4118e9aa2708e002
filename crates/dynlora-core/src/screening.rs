//! Phases: which parameters are SCREENED, and for how long a phase lasts at least (R13, R14).

use std::ops::Range;

/// Phase of the entries of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowPhase<'a> {
    /// One for all.
    Whole(bool),
    /// One bit each, the lowest first.
    Bits(&'a [u8]),
}

impl RowPhase<'_> {
    #[inline]
    pub(crate) fn is_screened(&self, i: usize) -> bool {
        match self {
            Self::Whole(phase) => *phase,
            Self::Bits(bits) => bits[i / 8] >> (i % 8) & 1 != 0,
        }
    }
}

/// A Schmitt trigger's two thresholds, in the unit of activity: SCREENED above `enter` if FREE before, above `leave` if
/// SCREENED before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) enter: f32,
    pub(crate) leave: f32,
}

impl Thresholds {
    /// Around `threshold` times the mean activity; without activity nothing changes its phase.
    pub(crate) fn new(threshold: f64, hysteresis: f64, mean_activity: f64) -> Self {
        if mean_activity <= 0.0 {
            return Self { enter: f32::MAX, leave: -1.0 };
        }
        let enter = threshold * mean_activity;
        Self { enter: enter as f32, leave: (hysteresis * enter) as f32 }
    }

    /// The phase that an activity asks for.
    pub(crate) fn wants(&self, is_screened: bool, activity: f32) -> bool {
        activity > if is_screened { self.leave } else { self.enter }
    }
}

/// Flips of phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flips {
    pub(crate) screened: u64,
    pub(crate) freed: u64,
}

impl Flips {
    pub(crate) fn add(&mut self, other: Self) {
        self.screened += other.screened;
        self.freed += other.freed;
    }
}

/// What a module keeps of a channel besides its values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct ChannelRecord {
    /// Mean of `|theta g|` over the channel's parameters and recent updates.
    pub(crate) activity: f32,
    /// The same of squared movement.
    pub(crate) movement: f32,
    pub(crate) is_screened: bool,
    pub(crate) is_pinned: bool,
    /// Tick before which the phase stays.
    pub(crate) dwell_until: u64,
    /// Tick before which it stays SCREENED.
    pub(crate) credit_until: u64,
    pub(crate) generation: u32,
    /// Steps that its moments have seen.
    pub(crate) n_steps: u32,
}

/// Phases of single parameters of a module: a bit each, rows of `A` and then of `B^T`, every row on bytes of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParamPhases {
    rank: usize,
    bytes_a: usize,
    bytes_b: usize,
    pub(crate) bits: Vec<u8>,
    /// Flips of the last ticks, one bit set a slot; slot `tick % dwell`. Empty while the layer is idle.
    pub(crate) recent: Vec<Vec<u8>>,
    /// The tick of each slot.
    pub(crate) stamps: Vec<u64>,
}

impl ParamPhases {
    pub(crate) fn new(rank: usize, d_in: usize, d_out: usize) -> Self {
        let (bytes_a, bytes_b) = (d_in.div_ceil(8), d_out.div_ceil(8));
        let bits = vec![0; rank * (bytes_a + bytes_b)];
        Self { rank, bytes_a, bytes_b, bits, recent: Vec::new(), stamps: Vec::new() }
    }

    /// Bytes of a row: of `A`, or of `B^T`.
    pub(crate) fn row(&self, channel: usize, is_b: bool) -> Range<usize> {
        let (start, len) = match is_b {
            false => (channel * self.bytes_a, self.bytes_a),
            true => (self.rank * self.bytes_a + channel * self.bytes_b, self.bytes_b),
        };
        start..start + len
    }

    /// Gives all entries of a row one phase.
    pub(crate) fn fill_row(&mut self, row: Range<usize>, n_entries: usize, is_screened: bool) {
        let bits = &mut self.bits[row];
        bits.fill(if is_screened { 0xff } else { 0 });
        if let (true, Some(last)) = (is_screened && !n_entries.is_multiple_of(8), bits.last_mut()) {
            *last = (1 << (n_entries % 8)) - 1;
        }
    }

    /// Makes room for the flips of a tick and forgets those that no longer bind.
    pub(crate) fn begin(&mut self, tick: u64, dwell: u32) {
        let n_slots = dwell as usize;
        if self.recent.len() != n_slots {
            self.recent = vec![vec![0; self.bits.len()]; n_slots];
            self.stamps = vec![u64::MAX; n_slots];
        }
        if n_slots == 0 {
            return;
        }
        let slot = (tick % u64::from(dwell)) as usize;
        for (i, (flips, stamp)) in self.recent.iter_mut().zip(&mut self.stamps).enumerate() {
            // A slot that was never written, or whose tick lies too far back.
            let is_over = *stamp == u64::MAX || stamp.saturating_add(u64::from(dwell)) <= tick;
            if is_over && *stamp != u64::MAX {
                flips.fill(0);
                *stamp = u64::MAX;
            }
            if i == slot {
                *stamp = tick;
            }
        }
    }

    /// Puts back the flips of an earlier tick.
    pub(crate) fn recall(&mut self, tick: u64, dwell: u32, flipped: Vec<u8>) {
        if self.recent.len() != dwell as usize {
            self.recent = vec![vec![0; self.bits.len()]; dwell as usize];
            self.stamps = vec![u64::MAX; dwell as usize];
        }
        let slot = (tick % u64::from(dwell.max(1))) as usize;
        if let (Some(recent), Some(stamp)) = (self.recent.get_mut(slot), self.stamps.get_mut(slot)) {
            *recent = flipped;
            *stamp = tick;
        }
    }

    /// Moves a row towards the phases it asks for, as far as dwelling allows.
    pub(crate) fn flip(&mut self, row: Range<usize>, wanted: &[u8], tick: u64) -> Flips {
        let mut flips = Flips::default();
        let slot = if self.recent.is_empty() { 0 } else { (tick % self.recent.len() as u64) as usize };
        for (i, wanted) in row.zip(wanted) {
            let is_bound = self.recent.iter().fold(0, |bound, slot| bound | slot[i]);
            let change = (self.bits[i] ^ wanted) & !is_bound;
            if change != 0 {
                flips.freed += u64::from((change & self.bits[i]).count_ones());
                flips.screened += u64::from((change & !self.bits[i]).count_ones());
                self.bits[i] ^= change;
                if let Some(recent) = self.recent.get_mut(slot) {
                    recent[i] |= change;
                }
            }
        }
        flips
    }

    /// SCREENED entries of a row.
    pub(crate) fn count(&self, row: Range<usize>) -> u64 {
        self.bits[row].iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Frees what only a layer that learns needs.
    pub(crate) fn drop_detail(&mut self) {
        self.recent = Vec::new();
        self.stamps = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy_flips(dwell: u32, hysteresis: f64) -> u64 {
        let mut phases = ParamPhases::new(1, 8, 8);
        let mut n_flips = 0;
        // Activity jumps about the threshold every tick, well within the hysteresis.
        for tick in 0..1000_u64 {
            phases.begin(tick, dwell);
            let activity = if tick % 2 == 0 { 1.1 } else { 0.9 };
            let thresholds = Thresholds::new(1.0, hysteresis, 1.0);
            let wanted = if thresholds.wants(phases.bits[0] & 1 != 0, activity) { 1 } else { 0 };
            let flips = phases.flip(phases.row(0, false), &[wanted], tick);
            n_flips += flips.screened + flips.freed;
        }
        n_flips
    }

    #[test]
    fn hysteresis_and_dwell_each_calm_a_noisy_parameter() {
        assert_eq!(noisy_flips(0, 1.0), 1000);
        assert_eq!(noisy_flips(3, 1.0), 334);
        assert_eq!(noisy_flips(0, 0.75), 1);
    }

    #[test]
    fn a_phase_lasts_its_dwell_across_gaps() {
        let mut phases = ParamPhases::new(1, 3, 9);
        let row = phases.row(0, true);
        assert_eq!(row, 1..3);
        let mut at = |tick: u64, wanted: [u8; 2]| {
            phases.begin(tick, 3);
            phases.flip(row.clone(), &wanted, tick)
        };
        assert_eq!(at(10, [3, 1]), Flips { screened: 3, freed: 0 });
        assert_eq!(at(10, [0, 0]), Flips::default());
        assert_eq!(at(12, [0, 1]), Flips::default());
        assert_eq!(at(13, [1, 1]), Flips { screened: 0, freed: 1 });
        assert_eq!(at(40, [3, 0]), Flips { screened: 1, freed: 1 });
    }

    #[test]
    fn filling_a_row_leaves_no_bit_beyond_it() {
        let mut phases = ParamPhases::new(2, 3, 9);
        phases.fill_row(phases.row(1, true), 9, true);
        phases.fill_row(phases.row(0, false), 3, true);
        assert_eq!(phases.bits, [0b111, 0, 0, 0, 0xff, 1]);
        assert_eq!(phases.count(phases.row(1, true)), 9);
    }

    #[test]
    fn without_activity_every_phase_stays() {
        let thresholds = Thresholds::new(1e-3, 0.75, 0.0);
        assert!(thresholds.wants(true, 0.0) && !thresholds.wants(false, 1.0));
    }
}
