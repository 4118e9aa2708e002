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
    pub(crate) is_screened: bool,
    pub(crate) is_pinned: bool,
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
}

impl ParamPhases {
    pub(crate) fn new(rank: usize, d_in: usize, d_out: usize) -> Self {
        let (bytes_a, bytes_b) = (d_in.div_ceil(8), d_out.div_ceil(8));
        let bits = vec![0; rank * (bytes_a + bytes_b)];
        Self { rank, bytes_a, bytes_b, bits }
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

    /// Gives a row the phases that it asks for.
    pub(crate) fn flip(&mut self, row: Range<usize>, wanted: &[u8]) -> Flips {
        let mut flips = Flips::default();
        for (bits, wanted) in self.bits[row].iter_mut().zip(wanted) {
            flips.freed += u64::from((*bits & !wanted).count_ones());
            flips.screened += u64::from((wanted & !*bits).count_ones());
            *bits = *wanted;
        }
        flips
    }

    /// SCREENED entries of a row.
    pub(crate) fn count(&self, row: Range<usize>) -> u64 {
        self.bits[row].iter().map(|byte| u64::from(byte.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hysteresis_calms_a_noisy_parameter() {
        let n_flips = |hysteresis: f64| {
            let mut phases = ParamPhases::new(1, 8, 8);
            let (mut n_flips, thresholds) = (0, Thresholds::new(1.0, hysteresis, 1.0));
            for tick in 0..1000 {
                let activity = if tick % 2 == 0 { 1.1 } else { 0.9 };
                let wanted = u8::from(thresholds.wants(phases.bits[0] & 1 != 0, activity));
                let flips = phases.flip(phases.row(0, false), &[wanted]);
                n_flips += flips.screened + flips.freed;
            }
            n_flips
        };
        assert_eq!((n_flips(1.0), n_flips(0.75)), (1000, 1));
    }

    #[test]
    fn flips_are_counted_by_direction() {
        let mut phases = ParamPhases::new(1, 3, 9);
        let row = phases.row(0, true);
        assert_eq!(row, 1..3);
        assert_eq!(phases.flip(row.clone(), &[3, 1]), Flips { screened: 3, freed: 0 });
        assert_eq!(phases.flip(row.clone(), &[6, 0]), Flips { screened: 1, freed: 2 });
        assert_eq!(phases.bits, [0, 6, 0]);
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
