//! Learning what to do: `q(s, a) = w_a . x(s)`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require_len};
use crate::features::{At, Features, check_finite};
use crate::prediction::{Next, require_dim, require_share};
use crate::real::Real;
use crate::step_size::{Step, StepSize};
use crate::trace::{Trace, TraceKind};

/// Settings of [`ActionValues`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActionValuesConfig {
    /// Discount of a reward one step later, in `[0, 1]`. Default 0.95.
    pub gamma: f64,
    /// How slowly traces fade, in `[0, 1]`; 0, the default, has none.
    pub lambda: f64,
    /// Default `Fixed(0.1)`. `Autostep` only with `lambda` 0; [`true_online_sarsa`](ActionValues::true_online_sarsa) needs one step size
    /// for all features.
    pub step_size: StepSize,
    /// Default accumulating; [`true_online_sarsa`](ActionValues::true_online_sarsa) has its own.
    pub trace: TraceKind,
}

impl Default for ActionValuesConfig {
    fn default() -> Self {
        Self { gamma: 0.95, lambda: 0.0, step_size: StepSize::default(), trace: TraceKind::default() }
    }
}

/// Linear action values `q(s, a) = w_a . x(s)`, with the ways to learn them from a step `(x, a, r, x')`.
///
/// All move `w` by `alpha delta z` with `delta = r + gamma target - q(s, a)`; `z` is the trace, which is `x` in the place of `a` where `lambda` is
/// 0. They differ in the target:
///
/// | | target | learns |
/// |---|---|---|
/// | [`sarsa`](Self::sarsa) | `q(s', a')` | the policy that acts |
/// | [`true_online_sarsa`](Self::true_online_sarsa) | `q(s', a')` | the same, from the exact online lambda-return |
/// | [`expected_sarsa`](Self::expected_sarsa) | `sum_a' pi(a'|s') q(s', a')` | the policy `pi`, with less variance |
/// | [`q_learning`](Self::q_learning) | `max_a' q(s', a')` | the best policy |
///
/// Use one of them throughout: they share trace and weights. `O(d)`, times actions where a target needs all values. Sutton and Barto (2018),
/// chapters 6, 10 and 12; Watkins (1989); van Seijen et al. (2009), doi:10.1109/ADPRL.2009.4927542; van Seijen et al. (2016).
///
/// ```
/// use krystal_rl::{ActionValues, ActionValuesConfig, Next, greedy};
///
/// let mut q = ActionValues::<f64>::new(1, 2, ActionValuesConfig::default())?;
/// for _ in 0..20 {
///     q.q_learning(&[1.0], 0, 1.0, Next::Terminated)?;
///     q.q_learning(&[1.0], 1, 2.0, Next::Terminated)?;
/// }
/// let mut values = [0.0; 2];
/// q.values(&[1.0], &mut values)?;
/// assert_eq!(greedy(&values)?, 1);
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ActionValues<R: Real> {
    dim: usize,
    n_actions: usize,
    /// `(n_actions, dim)`
    weights: Vec<R>,
    config: ActionValuesConfig,
    gamma: R,
    fading: R,
    step: Step<R>,
    trace: Option<Trace<R>>,
    old_value: R,
}

impl<R: Real> ActionValues<R> {
    /// Values of `n_actions` over `dim` features, all 0.
    ///
    /// # Errors
    /// [`Error::NoActions`], [`Error::Setting`] for a setting outside its range, [`Error::StepSize`] for `Autostep` with traces.
    pub fn new(dim: usize, n_actions: usize, config: ActionValuesConfig) -> Result<Self> {
        require_dim(dim)?;
        if n_actions == 0 {
            return Err(Error::NoActions);
        }
        let len = dim.checked_mul(n_actions).filter(|len| u32::try_from(*len).is_ok());
        let len = len.ok_or(Error::Setting {
            name: "n_actions",
            expected: "so few that weights are below 2^32",
            found: n_actions as f64,
        })?;
        require_share("gamma", config.gamma)?;
        require_share("lambda", config.lambda)?;
        let step = Step::new(config.step_size, len)?;
        if config.lambda > 0.0 {
            step.require_traceable("action values with traces", config.step_size)?;
        }
        Ok(Self {
            dim,
            n_actions,
            weights: vec![R::ZERO; len],
            config,
            gamma: R::from_f64(config.gamma),
            fading: R::from_f64(config.gamma) * R::from_f64(config.lambda),
            step,
            trace: (config.lambda > 0.0).then(|| Trace::new(len)),
            old_value: R::ZERO,
        })
    }

    /// Features.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Actions.
    pub fn n_actions(&self) -> usize {
        self.n_actions
    }

    /// `q(s, a)`
    ///
    /// # Errors
    /// If `x` is not of as many features, one is not finite, or there is no such action.
    pub fn value<X: Features<R> + ?Sized>(&self, x: &X, action: usize) -> Result<R> {
        self.check_action(action)?;
        crate::prediction::value_of(self.row(action), x)
    }

    /// Writes `q(s, a)` of all actions.
    ///
    /// # Errors
    /// As [`value`](Self::value), and [`Error::Length`] for another number of values.
    pub fn values<X: Features<R> + ?Sized>(&self, x: &X, values: &mut [R]) -> Result<()> {
        require_len("action values", self.n_actions, values.len())?;
        x.fits(self.dim)?;
        let mut finite = true;
        for (value, weights) in values.iter_mut().zip(self.weights.chunks_exact(self.dim)) {
            *value = x.dot(weights);
            finite &= value.is_finite();
        }
        if finite {
            return Ok(());
        }
        check_finite("feature", x)?;
        Err(Error::Diverged { what: "action values", found: f64::NAN })
    }

    /// SARSA(lambda): `next` has the action that is taken there.
    ///
    /// # Errors
    /// As [`Td::update`](crate::Td::update), and [`Error::OutOfRange`] for an action that is none; nothing is changed then.
    pub fn sarsa<X>(&mut self, x: &X, action: usize, reward: R, next: Next<(&X, usize)>) -> Result<R>
    where
        X: Features<R> + ?Sized,
    {
        self.learn(x, action, reward, &next, |q, (next, action)| {
            q.check_action(*action)?;
            next.fits(q.dim)?;
            Ok(next.dot(q.row(*action)))
        })
    }

    /// Expected SARSA(lambda): `next` has the probabilities of the actions there.
    ///
    /// # Errors
    /// As [`sarsa`](Self::sarsa), and [`Error::Length`] for another number of probabilities.
    pub fn expected_sarsa<X>(&mut self, x: &X, action: usize, reward: R, next: Next<(&X, &[f64])>) -> Result<R>
    where
        X: Features<R> + ?Sized,
    {
        self.learn(x, action, reward, &next, |q, (next, probabilities)| {
            require_len("probabilities", q.n_actions, probabilities.len())?;
            next.fits(q.dim)?;
            let rows = q.weights.chunks_exact(q.dim).zip(*probabilities);
            Ok(rows.fold(R::ZERO, |sum, (w, p)| sum + R::from_f64(*p) * next.dot(w)))
        })
    }

    /// Q-learning, with traces Watkins's Q(lambda): the trace is dropped whenever the action taken is not the best, by the values as they
    /// are when it is learned from.
    ///
    /// # Errors
    /// As [`sarsa`](Self::sarsa).
    pub fn q_learning<X>(&mut self, x: &X, action: usize, reward: R, next: Next<&X>) -> Result<R>
    where
        X: Features<R> + ?Sized,
    {
        let greedy = self.trace.is_none() || {
            self.check_action(action)?;
            x.fits(self.dim)?;
            let taken = x.dot(self.row(action));
            self.weights.chunks_exact(self.dim).all(|w| x.dot(w) <= taken)
        };
        let best_after = |q: &Self, next: &&X| {
            next.fits(q.dim)?;
            let values = q.weights.chunks_exact(q.dim).map(|w| next.dot(w));
            // A value that is NaN must not be passed over.
            Ok(values.reduce(|a, b| if b > a || !b.is_finite() { b } else { a }).unwrap_or(R::ZERO))
        };
        let delta = self.error(x, action, reward, &next, best_after)?;
        if !greedy && let Some(trace) = &mut self.trace {
            trace.reset();
        }
        self.step_along(x, action, delta, next.ends());
        Ok(delta)
    }

    /// True online SARSA(lambda), with the dutch trace of [`TrueOnlineTd`](crate::TrueOnlineTd).
    ///
    /// # Errors
    /// As [`sarsa`](Self::sarsa), and [`Error::StepSize`] for step sizes that differ between features.
    pub fn true_online_sarsa<X>(&mut self, x: &X, action: usize, reward: R, next: Next<(&X, usize)>) -> Result<R>
    where
        X: Features<R> + ?Sized,
    {
        self.step.require_scalar("true online SARSA", self.config.step_size)?;
        let mut next_value = R::ZERO;
        let delta = self.error(x, action, reward, &next, |q, (next, action)| {
            q.check_action(*action)?;
            next.fits(q.dim)?;
            next_value = next.dot(q.row(*action));
            Ok(next_value)
        })?;
        let at = At { x, offset: action * self.dim, dim: self.dim };
        let alpha = self.step.scalar(x).unwrap_or(R::ZERO);
        match &mut self.trace {
            Some(trace) => {
                crate::prediction::dutch_step(&mut self.weights, trace, alpha, self.fading, delta, self.old_value, &at);
                self.old_value = next_value;
            }
            None => at.add_to(alpha * delta, &mut self.weights),
        }
        self.step.advance();
        self.forget_if(next.ends());
        Ok(delta)
    }

    /// Drops the trace, as where an episode is left without an end.
    pub fn forget_episode(&mut self) {
        self.forget_if(true);
    }

    /// Changes the step sizes; what an adaptive rule has learned about features stays with it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn set_step_size(&mut self, step_size: StepSize) -> Result<()> {
        step_size.validate()?;
        if self.trace.is_some() && matches!(step_size, StepSize::Autostep { .. }) {
            let reason = "it is not defined for traces";
            return Err(Error::StepSize { learner: "action values with traces", step_size: step_size.name(), reason });
        }
        self.step.retune(step_size, self.weights.len())?;
        self.config.step_size = step_size;
        Ok(())
    }

    /// The settings.
    pub fn config(&self) -> &ActionValuesConfig {
        &self.config
    }

    /// The weights, `(n_actions, dim)`.
    pub fn weights(&self) -> &[R] {
        &self.weights
    }

    /// Sets the weights, `(n_actions, dim)`; traces stay.
    ///
    /// # Errors
    /// If there are not as many or one is not finite.
    pub fn set_weights(&mut self, weights: &[R]) -> Result<()> {
        crate::prediction::set_weights(&mut self.weights, weights)
    }

    /// Moves `q(s, a)` towards `reward + gamma target` with the error multiplied by `weight`, and returns the error without it; with
    /// `cut_trace` the trace of what came before is dropped.
    ///
    /// # Errors
    /// As [`sarsa`](Self::sarsa).
    #[inline]
    pub(crate) fn towards(
        &mut self,
        x: &[R],
        action: usize,
        reward: R,
        target: Next<R>,
        weight: R,
        cut_trace: bool,
    ) -> Result<R> {
        let delta = self.error(x, action, reward, &target, |_, target| Ok(*target))?;
        if cut_trace && let Some(trace) = &mut self.trace {
            trace.reset();
        }
        self.step_along(x, action, weight * delta, target.ends());
        Ok(delta)
    }

    /// # Errors
    /// [`Error::Inconsistent`] for parts that do not fit each other, as a file can hold them.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.dim.checked_mul(self.n_actions) != Some(self.weights.len()) {
            return Err(Error::Inconsistent { what: "weights of the learner" });
        }
        let new = Self::new(self.dim, self.n_actions, self.config)?;
        let (len, traced) = (new.weights.len(), new.trace.is_some());
        let trace_fits = self.trace.as_ref().is_none_or(|trace| trace.fits_dim(len));
        let numbers = self.gamma == new.gamma && self.fading == new.fading;
        if self.weights.len() == len && self.trace.is_some() == traced && trace_fits && numbers && self.step.fits(len) {
            check_finite("weight", &self.weights[..])
        } else {
            Err(Error::Inconsistent { what: "weights, traces and step sizes of the learner" })
        }
    }

    fn row(&self, action: usize) -> &[R] {
        &self.weights[action * self.dim..(action + 1) * self.dim]
    }

    fn check_action(&self, action: usize) -> Result<()> {
        if action < self.n_actions {
            Ok(())
        } else {
            Err(Error::OutOfRange { what: "action", index: action, len: self.n_actions })
        }
    }

    fn learn<X, S>(
        &mut self,
        x: &X,
        action: usize,
        reward: R,
        next: &Next<S>,
        target: impl FnMut(&Self, &S) -> Result<R>,
    ) -> Result<R>
    where
        X: Features<R> + ?Sized,
    {
        let delta = self.error(x, action, reward, next, target)?;
        self.step_along(x, action, delta, next.ends());
        Ok(delta)
    }

    /// `reward + gamma target - q(s, a)`, finite.
    fn error<X, S>(
        &mut self,
        x: &X,
        action: usize,
        reward: R,
        next: &Next<S>,
        mut target: impl FnMut(&Self, &S) -> Result<R>,
    ) -> Result<R>
    where
        X: Features<R> + ?Sized,
    {
        self.check_action(action)?;
        x.fits(self.dim)?;
        let delta = self.finite_error(x, action, reward, next, &mut target)?;
        if !self.step.rescales() {
            return Ok(delta);
        }
        // Only now that all inputs were judged.
        self.step.prepare(&At { x, offset: action * self.dim, dim: self.dim }, &mut self.weights);
        self.finite_error(x, action, reward, next, &mut target)
    }

    fn finite_error<X, S>(
        &self,
        x: &X,
        action: usize,
        reward: R,
        next: &Next<S>,
        target: &mut impl FnMut(&Self, &S) -> Result<R>,
    ) -> Result<R>
    where
        X: Features<R> + ?Sized,
    {
        let target = next.state().map_or(Ok(R::ZERO), |next| target(self, next))?;
        let delta = reward + self.gamma * target - x.dot(self.row(action));
        if delta.is_finite() { Ok(delta) } else { Err(self.blame(x, reward, target, delta)) }
    }

    #[cold]
    fn blame<X: Features<R> + ?Sized>(&self, x: &X, reward: R, target: R, delta: R) -> Error {
        let wrong = crate::prediction::judge(x, reward, &Next::Terminated).err();
        let diverged = self.weights.iter().any(|w| !w.is_finite());
        wrong.unwrap_or(if target.is_finite() || diverged {
            Error::Diverged { what: "error", found: delta.to_f64() }
        } else {
            Error::NotFinite { what: "value of the next state", index: 0, found: target.to_f64() }
        })
    }

    fn step_along<X: Features<R> + ?Sized>(&mut self, x: &X, action: usize, delta: R, ends: bool) {
        let at = At { x, offset: action * self.dim, dim: self.dim };
        match &mut self.trace {
            None => self.step.apply(&mut self.weights, delta, &at, &at),
            Some(trace) => {
                trace.decay(self.fading);
                match self.config.trace {
                    TraceKind::Accumulating => trace.add(R::ONE, &at),
                    TraceKind::Replacing => trace.replace(&at),
                }
                self.step.apply(&mut self.weights, delta, trace, &at);
            }
        }
        self.forget_if(ends);
    }

    fn forget_if(&mut self, ends: bool) {
        if ends {
            self.old_value = R::ZERO;
            if let Some(trace) = &mut self.trace {
                trace.reset();
            }
        }
    }
}
