//! AdamW: Adam with decoupled weight decay.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

/// A float an optimiser can work in.
pub trait Real: Copy + Debug + PartialOrd + Default + Send + Sync + private::Sealed + 'static {
    /// Rounds to this type.
    fn from_f64(x: f64) -> Self;
    /// Widens to `f64`, exactly.
    fn to_f64(self) -> f64;
}

mod private {
    /// One element of AdamW, in the arithmetic of the type.
    pub trait Sealed: Sized {
        fn adamw(value: &mut Self, gradient: Self, first: &mut Self, second: &mut Self, c: &super::Coefficients<Self>);
    }
}

/// What one step shares among all elements.
#[derive(Debug, Clone, Copy)]
pub struct Coefficients<T> {
    decay: T,
    one_minus_beta1: T,
    beta2: T,
    one_minus_beta2: T,
    step_size: T,
    sqrt_bias_correction2: T,
    eps: T,
}

macro_rules! real {
    ($float:ty) => {
        impl Real for $float {
            fn from_f64(x: f64) -> Self {
                x as $float
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
        }
        impl private::Sealed for $float {
            #[inline]
            fn adamw(p: &mut Self, g: Self, m: &mut Self, v: &mut Self, c: &Coefficients<Self>) {
                *p *= c.decay;
                *m += (g - *m) * c.one_minus_beta1;
                *v = *v * c.beta2 + g * g * c.one_minus_beta2;
                *p -= c.step_size * *m / (v.sqrt() / c.sqrt_bias_correction2 + c.eps);
            }
        }
    };
}
real!(f32);
real!(f64);

/// Constants of AdamW. Defaults are TRL's (PyTorch's but for the weight decay, which PyTorch sets to 0.01).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWSettings {
    /// Decay of the mean of gradients, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Decay of the mean of squared gradients, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the second moment, > 0. Default 1e-8.
    pub eps: f64,
    /// Share of each value (times the learning rate) taken off before the step, >= 0. Default 0.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW over a list of tensors.
///
/// ```text
/// p <- p (1 - lr wd)
/// m <- m + (g - m)(1 - beta1);  v <- beta2 v + (1 - beta2) g^2
/// p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
/// ```
///
/// The moments are kept in the type of the values. Unlike the Hugging Face trainer, weight decay applies to every tensor:
/// adapters have no biases or norms to spare.
///
/// Loshchilov and Hutter (2019), arXiv:1711.05101.
///
/// ```
/// use grpo_trainer::optimizer::{AdamW, AdamWSettings};
///
/// let mut weights = [1.0_f32, -1.0];
/// let mut adamw = AdamW::new(AdamWSettings::default(), [weights.len()]);
/// adamw.step(0.1, [(&mut weights[..], &[0.5_f32, -0.5][..])]);
/// // The first step of Adam has the size of the learning rate, whatever the gradient.
/// assert!((weights[0] - 0.9).abs() < 1e-6 && (weights[1] + 0.9).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdamW<T> {
    settings: AdamWSettings,
    n_steps: u64,
    first: Vec<Vec<T>>,
    second: Vec<Vec<T>>,
}

impl<T: Real> AdamW<T> {
    /// An optimiser that has taken no step, for tensors of these lengths.
    pub fn new(settings: AdamWSettings, lengths: impl IntoIterator<Item = usize>) -> Self {
        let first: Vec<Vec<T>> = lengths.into_iter().map(|n| vec![T::default(); n]).collect();
        Self { settings, n_steps: 0, second: first.clone(), first }
    }

    /// Steps taken.
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// Lengths of the tensors it was made for.
    pub fn lengths(&self) -> Vec<usize> {
        self.first.iter().map(Vec::len).collect()
    }

    /// One step on every `(values, gradient)`, always the same tensors in the same order.
    ///
    /// # Panics
    /// Where number or lengths of the tensors differ from those it was made for.
    pub fn step<'a>(&mut self, learning_rate: f64, tensors: impl IntoIterator<Item = (&'a mut [T], &'a [T])>) {
        let coefficients = self.begin_step(learning_rate);
        let mut n_tensors = 0;
        for (i, (values, gradient)) in tensors.into_iter().enumerate() {
            self.step_tensor(i, values, gradient, &coefficients);
            n_tensors += 1;
        }
        assert_eq!(n_tensors, self.first.len(), "fewer tensors than the optimiser was made for");
    }

    /// Counts a step; [`AdamW::step_tensor`] of every tensor completes it.
    pub(crate) fn begin_step(&mut self, learning_rate: f64) -> Coefficients<T> {
        self.n_steps += 1;
        let s = &self.settings;
        let t = self.n_steps as f64;
        Coefficients {
            decay: T::from_f64(1.0 - learning_rate * s.weight_decay),
            one_minus_beta1: T::from_f64(1.0 - s.beta1),
            beta2: T::from_f64(s.beta2),
            one_minus_beta2: T::from_f64(1.0 - s.beta2),
            step_size: T::from_f64(learning_rate / (1.0 - s.beta1.powf(t))),
            sqrt_bias_correction2: T::from_f64((1.0 - s.beta2.powf(t)).sqrt()),
            eps: T::from_f64(s.eps),
        }
    }

    /// The step of tensor `i`.
    pub(crate) fn step_tensor(&mut self, i: usize, values: &mut [T], gradient: &[T], coefficients: &Coefficients<T>) {
        assert!(i < self.first.len(), "more tensors than the optimiser was made for ({})", self.first.len());
        let (first, second) = (&mut self.first[i], &mut self.second[i]);
        assert_eq!(values.len(), first.len(), "tensor {i} changed its length");
        assert_eq!(gradient.len(), first.len(), "gradient {i} differs in length from its tensor");
        for (((p, &g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            T::adamw(p, g, m, v, coefficients);
        }
    }
}
