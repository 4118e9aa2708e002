//! Inertia that knows directions: what earlier data was read along resists change, everything else is free.
//!
//! The seeds give a layer one inertia. A layer that is used for many things then either forgets or stops learning. Here
//! each module remembers along which directions of its inputs it was used, and a step is damped along those alone: the mass is a
//! matrix. Protecting the inputs of earlier tasks is the idea of Gradient Projection Memory (Saha et al. 2021,
//! arXiv:2103.09762) and OWM (Zeng et al. 2019, arXiv:1810.01256); the soft form is the input half of a Kronecker-factored
//! penalty (Ritter et al. 2018, arXiv:1805.07810).
//!
//! Letters: `x` an input `(d_in)` of a module; `V (m, d_in)` rows with `V^T V` the second moment of past inputs, scaled so that
//! each remembered regime has trace `d_in` (mean eigenvalue 1); `kappa` the strength. A change of a row of `A` becomes
//! `(I + kappa V^T V)^-1 delta`, a change of the rows of `B^T` becomes `(I + kappa H H^T)^-1 delta` with `H = A V^T`, rows of
//! `A` scaled to mean square length 1. What is left of a change is then lengthened, at most `regain` times, towards the length
//! that it had: learning that is turned away from what is protected need not be slower. Differences from Gradient Projection Memory: damping instead of projection, so that
//! nothing freezes; applied to the optimiser's step, not the gradient, for Adam undoes a projection of the gradient; no task
//! boundaries (see [`RegimeDetector`](crate::RegimeDetector)); a sketch instead of stored activations.

use krystal_math::low_rank::low_rank_svd;
use krystal_math::positive_definite::{cholesky, inverse};
use krystal_math::rng::{Purpose, stream_rng};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, ModuleFactors, ModuleShape, RegimeChange, SavedState};

/// Settings of [`DirectionalInertia`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DirectionalConfig {
    /// Whether it is on. Default true; the ablation of all that this module does.
    pub enabled: bool,
    /// `kappa`, >= 0: how much harder a direction of mean past use is to move. More keeps more and learns more slowly along
    /// shared directions. Default 4.
    pub strength: f64,
    /// How many times a damped change is lengthened at most, towards the length that it had; >= 1, and 1 lengthens none.
    /// Default 4.
    pub regain: f64,
    /// Rows of `V` and of the sketch of the present regime (`m`); each module needs `3 m d_in` numbers. Default 64.
    pub directions: usize,
    /// Ticks between two looks at where the rows of `A` point now. Default 8.
    pub refresh_ticks: u64,
}

impl Default for DirectionalConfig {
    fn default() -> Self {
        Self { enabled: true, strength: 4.0, regain: 4.0, directions: 64, refresh_ticks: 8 }
    }
}

impl DirectionalConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Field`] names the first that cannot be.
    pub fn validate(&self) -> Result<(), Error> {
        if !(self.strength >= 0.0 && self.strength.is_finite()) {
            return Err(Error::field("strength", "a finite number of at least 0", self.strength));
        }
        if !(self.regain >= 1.0 && self.regain.is_finite()) {
            return Err(Error::field("regain", "a finite number of at least 1", self.regain));
        }
        if !(1..=4096).contains(&self.directions) {
            return Err(Error::field("directions", "1 to 4096", self.directions));
        }
        if self.refresh_ticks == 0 {
            return Err(Error::field("refresh_ticks", "at least 1", 0));
        }
        Ok(())
    }
}

/// The mass matrices of all modules.
#[derive(Debug, Clone)]
pub struct DirectionalInertia {
    config: DirectionalConfig,
    seed: u64,
    modules: Vec<ModuleMass>,
    /// Sums of inputs taken in since the regime began.
    n_sums: u64,
    /// Regimes remembered.
    n_regimes: u64,
    /// Whether the present regime is one of them.
    is_known: bool,
}

#[derive(Debug, Clone)]
struct ModuleMass {
    d_in: usize,
    /// `V`, at most `m` rows.
    mass: Vec<f32>,
    /// Signed sums of the present regime's inputs, `(m, d_in)`.
    window: Vec<f32>,
    /// `Z` with `(I + kappa V^T V)^-1 = I - Z^T Z`, as many rows as `V`.
    damping: Vec<f32>,
}

impl DirectionalInertia {
    /// No memory yet: nothing is damped.
    pub fn new(config: DirectionalConfig, shapes: &[ModuleShape], seed: u64) -> Self {
        let module = |shape: &ModuleShape| ModuleMass {
            d_in: shape.d_in,
            mass: Vec::new(),
            window: Vec::new(),
            damping: Vec::new(),
        };
        Self { config, seed, modules: shapes.iter().map(module).collect(), n_sums: 0, n_regimes: 0, is_known: false }
    }

    /// Whether anything is damped.
    pub fn is_active(&self) -> bool {
        self.config.enabled && self.n_regimes > 0
    }

    /// Regimes remembered.
    pub fn n_regimes(&self) -> u64 {
        self.n_regimes
    }

    /// Takes in signed sums of inputs `(s, d_in)` of one module.
    fn observe(&mut self, module: usize, sums: &[f32]) {
        let m = self.config.directions;
        let mass = &mut self.modules[module];
        let d_in = mass.d_in;
        mass.window.resize(m * d_in, 0.0);
        for (i, row) in sums.chunks_exact(d_in.max(1)).enumerate() {
            let slot = (self.n_sums as usize + i) % m;
            // The sums of one pass carry independent signs; those of another pass, of the same signs by its rows, must not add
            // up with them in one slot.
            let sign = if sign_of(self.seed, self.n_sums + i as u64) { 1.0 } else { -1.0 };
            for (to, x) in mass.window[slot * d_in..][..d_in].iter_mut().zip(row) {
                *to += sign * x;
            }
        }
    }

    /// Takes in one pass: for each module its signed sums of inputs. Ignored while switched off.
    pub fn observe_pass<'a>(&mut self, sums: impl IntoIterator<Item = &'a [f32]>) {
        if !self.config.enabled {
            return;
        }
        let mut most = 0;
        for (module, sums) in sums.into_iter().enumerate().take(self.modules.len()) {
            self.observe(module, sums);
            most = most.max(sums.len() / self.modules[module].d_in.max(1));
        }
        self.n_sums += most as u64;
    }

    /// Ends a regime: what was read in it is protected from now on, if it was not before. `next` is how the one after it begins.
    pub fn end_regime(&mut self, next: RegimeChange) {
        if self.config.enabled && self.n_sums > 0 {
            let is_known = self.is_known;
            for mass in &mut self.modules {
                if !is_known {
                    mass.remember(self.config.directions);
                    mass.prepare(self.config.strength);
                }
                mass.window.fill(0.0);
            }
            self.n_sums = 0;
            self.n_regimes += u64::from(!is_known);
        }
        self.is_known = next == RegimeChange::Return;
    }

    /// Turns a change of a row of `A`, `(d_in)`, away from what is protected.
    pub fn turn_row(&self, module: usize, delta: &mut [f32]) {
        let before = dot(delta, delta);
        self.modules[module].damp(delta);
        self.lengthen(delta, before);
    }

    /// Turns a change of all rows of `B^T` of a layer's module, `(r, d_out)`, by its [`mixing`](Self::mixing).
    pub fn turn_rows(&self, mixing: &[f32], rows: &mut [f32]) {
        let r = mixing.len().isqrt().max(1);
        let d_out = (rows.len() / r).max(1);
        let asked = rows.to_vec();
        for (row, weights) in rows.chunks_exact_mut(d_out).zip(mixing.chunks_exact(r)) {
            row.fill(0.0);
            for (source, weight) in asked.chunks_exact(d_out).zip(weights) {
                row.iter_mut().zip(source).for_each(|(to, from)| *to += weight * from);
            }
        }
        self.lengthen(rows, dot(&asked, &asked));
    }

    fn lengthen(&self, delta: &mut [f32], square_before: f32) {
        let square = dot(delta, delta);
        if square > 0.0 && self.config.regain > 1.0 {
            let factor = (square_before / square).sqrt().min(self.config.regain as f32);
            delta.iter_mut().for_each(|x| *x *= factor);
        }
    }

    /// The damping of the rows of `B^T` of a layer's module: `(I + kappa (R / r) H H^T)^-1`, `(r, r)`, in a stack of `R =
    /// stack_rank` channels. All channels of the stack answer for the function together, and a layer sees only its own: what
    /// the others add to the mass is taken to be like its own.
    pub fn mixing(&self, module: usize, factors: &ModuleFactors, stack_rank: usize) -> Vec<f32> {
        let mass = &self.modules[module];
        let (r, d_in) = (factors.rank, mass.d_in.max(1));
        let h: Vec<Vec<f64>> = (0..r)
            .map(|j| mass.mass.chunks_exact(d_in).map(|v| f64::from(dot(v, factors.a_row(j)))).collect())
            .collect();
        let square: f64 = factors.a.iter().map(|a| f64::from(*a).powi(2)).sum();
        let scale = if square > 0.0 { self.config.strength * stack_rank as f64 / square } else { 0.0 };
        let mut matrix = vec![0.0; r * r];
        for i in 0..r {
            for j in 0..=i {
                let value = scale * h[i].iter().zip(&h[j]).map(|(x, y)| x * y).sum::<f64>();
                matrix[i * r + j] = value;
                matrix[j * r + i] = value;
            }
            matrix[i * r + i] += 1.0;
        }
        inverse(&matrix, r).into_iter().map(|x| x as f32).collect()
    }

    /// Turns a fresh row of `A` out of the protected directions, at its own length.
    pub fn free_row(&self, module: usize, row: &mut [f32]) {
        if !self.is_active() {
            return;
        }
        let before = dot(row, row).sqrt();
        self.modules[module].damp(row);
        let after = dot(row, row).sqrt();
        if after > 1e-6 * before {
            row.iter_mut().for_each(|x| *x *= before / after);
        }
    }

    /// All there is to restore.
    pub fn state(&self) -> SavedState {
        let mut state = SavedState::default();
        for (i, mass) in self.modules.iter().enumerate() {
            state.set_tensor(format!("mass.{i}"), mass.mass.as_slice());
            state.set_tensor(format!("window.{i}"), mass.window.as_slice());
        }
        state.set_number("n_sums", self.n_sums as f64);
        state.set_number("n_regimes", self.n_regimes as f64);
        state.set_number("is_known", f64::from(u8::from(self.is_known)));
        state
    }

    /// Goes on from a state of the same modules.
    ///
    /// # Errors
    /// [`Error::State`] for an entry that is missing or of another size; nothing has changed then.
    pub fn restore(&mut self, state: &SavedState) -> Result<(), Error> {
        let state = state.reader();
        let mut modules = Vec::with_capacity(self.modules.len());
        for (i, old) in self.modules.iter().enumerate() {
            let tensor = |name: &str| {
                let entry = format!("{name}.{i}");
                let values = state.tensor(&entry)?;
                match values.len().is_multiple_of(old.d_in.max(1)) {
                    true => Ok(values.to_vec()),
                    false => Err(Error::state(&entry, format!("rows of {}", old.d_in), values.len())),
                }
            };
            let mut mass =
                ModuleMass { d_in: old.d_in, mass: tensor("mass")?, window: tensor("window")?, damping: Vec::new() };
            mass.prepare(self.config.strength);
            modules.push(mass);
        }
        let numbers = (state.integer("n_sums")?, state.integer("n_regimes")?);
        // Absent in what was saved before regimes could return.
        self.is_known = state.optional("is_known")?.is_some_and(|is_known| is_known != 0.0);
        (self.n_sums, self.n_regimes) = numbers;
        self.modules = modules;
        Ok(())
    }
}

impl ModuleMass {
    /// `delta <- (I + kappa V^T V)^-1 delta`.
    fn damp(&self, delta: &mut [f32]) {
        let d_in = self.d_in.max(1);
        let along: Vec<f32> = self.damping.chunks_exact(d_in).map(|z| dot(z, delta)).collect();
        for (z, along) in self.damping.chunks_exact(d_in).zip(along) {
            delta.iter_mut().zip(z).for_each(|(delta, z)| *delta -= along * z);
        }
    }

    /// Adds the window to the mass, both as rows, and cuts the sum to its `m` largest directions.
    fn remember(&mut self, m: usize) {
        let d_in = self.d_in.max(1);
        let trace: f64 = self.window.iter().map(|x| f64::from(*x).powi(2)).sum();
        if trace > 0.0 && trace.is_finite() {
            let scale = (self.d_in as f64 / trace).sqrt() as f32;
            self.mass.extend(self.window.iter().map(|x| x * scale));
            let rows: Vec<&[f32]> = self.mass.chunks_exact(d_in).collect();
            let units: Vec<Vec<f32>> =
                (0..rows.len()).map(|i| (0..rows.len()).map(|j| f32::from(u8::from(i == j))).collect()).collect();
            let units: Vec<&[f32]> = units.iter().map(Vec::as_slice).collect();
            let svd = low_rank_svd(&units, &rows);
            let kept = svd.singular_values.iter().zip(&svd.right).take(m);
            self.mass = kept.flat_map(|(s, v)| v.iter().map(move |v| (s * v) as f32)).collect();
        }
    }

    /// `Z = L^-1 V` with `L L^T = I / kappa + V V^T` (Woodbury).
    fn prepare(&mut self, kappa: f64) {
        let d_in = self.d_in.max(1);
        let rows: Vec<&[f32]> = self.mass.chunks_exact(d_in).collect();
        let m = rows.len();
        if kappa <= 0.0 || m == 0 {
            self.damping = Vec::new();
            return;
        }
        let mut gram = vec![0.0; m * m];
        for i in 0..m {
            for j in 0..=i {
                gram[i * m + j] = rows[i].iter().zip(rows[j]).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            }
            gram[i * m + i] += 1.0 / kappa;
        }
        cholesky(&mut gram, m);
        let mut z: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
        for i in 0..m {
            let (done, rest) = z.split_at_mut(i);
            for (j, done) in done.iter().enumerate() {
                let factor = gram[i * m + j];
                rest[0].iter_mut().zip(done).for_each(|(x, y)| *x -= factor * y);
            }
            rest[0].iter_mut().for_each(|x| *x /= gram[i * m + i]);
        }
        self.damping = z.into_iter().flatten().map(|x| x as f32).collect();
    }
}

fn sign_of(seed: u64, index: u64) -> bool {
    stream_rng(seed, Purpose::Sketch, 1 << 40, index).next_u32() & 1 == 1
}

/// The dot product in eight lanes: a fixed order that vectorises.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let (x_blocks, x_tail) = x.as_chunks::<8>();
    let (y_blocks, y_tail) = y.as_chunks::<8>();
    for (x, y) in x_blocks.iter().zip(y_blocks) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let tail: f32 = x_tail.iter().zip(y_tail).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(d_in: usize) -> ModuleShape {
        ModuleShape { name: "m".into(), d_in, d_out: 5 }
    }

    fn uniform(seed: u64, n: usize) -> Vec<f32> {
        let mut rng = stream_rng(seed, Purpose::Task, 0, 0);
        (0..n).map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
    }

    /// A regime that read along two of twelve directions: those are damped as the formula says, the others not at all.
    #[test]
    fn only_directions_that_were_read_are_heavy() {
        let d = 12;
        let config = DirectionalConfig { directions: 8, strength: 3.0, ..DirectionalConfig::default() };
        let mut inertia = DirectionalInertia::new(config, &[shape(d)], 3);
        for tick in 0..64 {
            let mut sums = vec![0.0; 2 * d];
            (sums[0], sums[d + 1]) = if tick % 2 == 0 { (2.0, 1.0) } else { (-2.0, -1.0) };
            inertia.observe_pass([sums.as_slice()]);
        }
        let mut delta = vec![1.0; d];
        inertia.modules[0].damp(&mut delta);
        assert_eq!(delta, vec![1.0; d], "nothing is protected before a regime has ended");
        inertia.end_regime(RegimeChange::New);
        inertia.modules[0].damp(&mut delta);
        // Second moments 4 : 1 with trace 12.
        for (i, second_moment) in [(0, 9.6), (1, 2.4)] {
            let expected = 1.0 / (1.0 + 3.0 * second_moment);
            assert!((f64::from(delta[i]) - expected).abs() < 0.35 * expected, "{i}: {} {expected}", delta[i]);
        }
        assert!(delta[2..].iter().all(|x| (x - 1.0).abs() < 1e-5));
        let mut row = uniform(7, d);
        let length = dot(&row, &row);
        inertia.free_row(0, &mut row);
        assert!((dot(&row, &row) - length).abs() < 1e-4 && row[0].abs() < 0.1);
    }

    /// Both dampings against a dense inverse of `I + kappa V^T V`.
    #[test]
    fn woodbury_and_mixing_agree_with_the_dense_formulas() {
        let (d, r) = (9, 4);
        let config = DirectionalConfig { directions: 6, strength: 1.7, ..DirectionalConfig::default() };
        let mut inertia = DirectionalInertia::new(config, &[shape(d)], 5);
        for regime in 0..3 {
            for tick in 0..20 {
                inertia.observe_pass([uniform(100 * regime + tick, 3 * d).as_slice()]);
            }
            inertia.end_regime(RegimeChange::New);
        }
        let v = &inertia.modules[0].mass;
        assert_eq!(v.len(), 6 * d);
        let mut dense = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..d {
                dense[i * d + j] = 1.7 * v.chunks_exact(d).map(|v| f64::from(v[i]) * f64::from(v[j])).sum::<f64>()
                    + f64::from(u8::from(i == j));
            }
        }
        let dense = inverse(&dense, d);
        let x = uniform(1, d);
        let mut damped = x.clone();
        inertia.modules[0].damp(&mut damped);
        for i in 0..d {
            let expected: f64 = (0..d).map(|j| dense[i * d + j] * f64::from(x[j])).sum();
            assert!((f64::from(damped[i]) - expected).abs() < 1e-5, "{i}");
        }
        let factors = ModuleFactors { d_in: d, d_out: 5, rank: r, a: uniform(2, r * d), b: vec![0.0; r * 5] };
        let mixing = inertia.mixing(0, &factors, r);
        let square: f64 = factors.a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>() / r as f64;
        let mut check = vec![0.0; r * r];
        for i in 0..r {
            for j in 0..r {
                let h = |k: usize| -> Vec<f64> {
                    v.chunks_exact(d).map(|row| f64::from(dot(row, factors.a_row(k)))).collect()
                };
                let kernel =
                    |a: usize, b: usize| h(a).iter().zip(&h(b)).map(|(x, y)| x * y).sum::<f64>() * 1.7 / square;
                check[i * r + j] =
                    (0..r).map(|k| f64::from(mixing[i * r + k]) * (kernel(k, j) + f64::from(u8::from(k == j)))).sum();
                assert!((check[i * r + j] - f64::from(u8::from(i == j))).abs() < 1e-4, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_restored_mass_goes_on_as_the_other() {
        let config = DirectionalConfig { directions: 4, ..DirectionalConfig::default() };
        let mut one = DirectionalInertia::new(config.clone(), &[shape(6), shape(3)], 5);
        let pass = |i: u64| [uniform(i, 12), uniform(i + 1000, 6)];
        let feed = |inertia: &mut DirectionalInertia, ticks: std::ops::Range<u64>| {
            for tick in ticks {
                let sums = pass(tick);
                inertia.observe_pass(sums.iter().map(Vec::as_slice));
                if tick % 7 == 6 {
                    inertia.end_regime(RegimeChange::New);
                }
            }
        };
        feed(&mut one, 0..17);
        let mut other = DirectionalInertia::new(config, &[shape(6), shape(3)], 5);
        other.restore(&one.state()).unwrap();
        feed(&mut one, 17..40);
        feed(&mut other, 17..40);
        assert_eq!(one.state(), other.state());
        let mut damaged = one.state();
        damaged.tensors[0].1.pop();
        let before = other.state();
        assert!(other.restore(&damaged).unwrap_err().to_string().contains("`mass.0`"));
        assert_eq!(other.state(), before);
    }
}
