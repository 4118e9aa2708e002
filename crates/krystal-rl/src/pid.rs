//! A PID controller.

use serde::{Deserialize, Serialize};

use crate::error::{Result, require, require_finite};

/// What the derivative is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DerivativeOn {
    /// The error: a jump of the set-point kicks.
    #[default]
    Error,
    /// The measurement, with its sign turned: the same but for jumps of the set-point, which it does not see.
    Measurement,
}

/// What keeps the integral from growing while the output is at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AntiWindup {
    /// Nothing.
    Off,
    /// The integral stands still while the output is at a limit and the error pushes it further.
    #[default]
    Conditional,
    /// The integral follows what the limit cut off: `I <- I + (u_limited - u) dt / (ki time)`.
    BackCalculation {
        /// Time in which the integral is brought back, above 0; a common choice is the root of the integral's time and the
        /// derivative's.
        time: f64,
    },
}

/// Settings of a [`Pid`]; the seed's gains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PidConfig {
    /// Gain of the error. Default 1.
    pub kp: f64,
    /// Gain of its integral. Default 0.1.
    pub ki: f64,
    /// Gain of its derivative. Default 0.05.
    pub kd: f64,
    /// Least and greatest output; without limits by default.
    pub limits: Option<(f64, f64)>,
    /// Default conditional; has no effect without limits.
    pub anti_windup: AntiWindup,
    /// Default the error.
    pub derivative_on: DerivativeOn,
    /// Time constant of a low-pass filter of the derivative, at least 0; 0, the default, is none.
    pub derivative_filter: f64,
}

impl Default for PidConfig {
    fn default() -> Self {
        Self {
            kp: 1.0,
            ki: 0.1,
            kd: 0.05,
            limits: None,
            anti_windup: AntiWindup::default(),
            derivative_on: DerivativeOn::default(),
            derivative_filter: 0.0,
        }
    }
}

/// A PID controller: `u = kp e + ki I + kd D`, with the error `e = set_point - measurement`.
///
/// Each step first `I <- I + e dt` and `D <- D + dt / (filter + dt) ((e - e_last) / dt - D)`, then `u`, cut to its limits; `D` is 0 in the first
/// step. Åström and Hägglund (2006), Advanced PID Control, chapter 3.
///
/// ```
/// use krystal_rl::{Pid, PidConfig};
///
/// let mut pid = Pid::new(PidConfig { kp: 2.0, ki: 1.0, kd: 0.1, ..PidConfig::default() })?;
/// let mut y = 0.0;
/// for _ in 0..2000 {
///     let u = pid.update(1.0, y, 0.01)?;
///     y += 0.01 * (u - y);
/// }
/// assert!((y - 1.0).abs() < 1e-3);
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pid {
    config: PidConfig,
    integral: f64,
    derivative: f64,
    last: Option<f64>,
}

impl Pid {
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting outside its range.
    pub fn new(config: PidConfig) -> Result<Self> {
        for (name, gain) in [("kp", config.kp), ("ki", config.ki), ("kd", config.kd)] {
            require(gain.is_finite(), name, "a finite number", gain)?;
        }
        if let Some((low, high)) = config.limits {
            require(low < high, "limits", "a least output below the greatest", high)?;
        }
        if let AntiWindup::BackCalculation { time } = config.anti_windup {
            require(time > 0.0 && time.is_finite(), "time", "a finite number above 0", time)?;
        }
        let filter = config.derivative_filter;
        require(filter >= 0.0 && filter.is_finite(), "derivative_filter", "a finite number of at least 0", filter)?;
        Ok(Self { config, integral: 0.0, derivative: 0.0, last: None })
    }

    /// The output after a measurement, `dt` after the last one.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite) for a set-point or measurement that is not finite,
    /// [`Error::Setting`](crate::Error::Setting) for a `dt` that is not above 0; nothing is changed then.
    pub fn update(&mut self, set_point: f64, measurement: f64, dt: f64) -> Result<f64> {
        require_finite("set-point and measurement", &[set_point, measurement])?;
        require(dt > 0.0 && dt.is_finite(), "dt", "a finite number above 0", dt)?;
        let PidConfig { kp, ki, kd, limits, anti_windup, derivative_on, derivative_filter } = self.config;
        let error = set_point - measurement;
        let watched = match derivative_on {
            DerivativeOn::Error => error,
            DerivativeOn::Measurement => -measurement,
        };
        let slope = self.last.map_or(0.0, |last| (watched - last) / dt);
        let derivative = self.derivative + dt / (derivative_filter + dt) * (slope - self.derivative);
        let mut integral = self.integral + error * dt;
        let wanted = kp * error + ki * integral + kd * derivative;
        let (low, high) = limits.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let output = wanted.clamp(low, high);
        match anti_windup {
            AntiWindup::Off => {}
            AntiWindup::Conditional => {
                if (wanted > high && ki * error > 0.0) || (wanted < low && ki * error < 0.0) {
                    integral = self.integral;
                }
            }
            AntiWindup::BackCalculation { time } => {
                if ki != 0.0 {
                    integral += (output - wanted) * dt / (ki * time);
                }
            }
        }
        require_finite("output", &[output, integral, derivative])?;
        (self.integral, self.derivative, self.last) = (integral, derivative, Some(watched));
        Ok(output)
    }

    /// Forgets the past.
    pub fn reset(&mut self) {
        (self.integral, self.derivative, self.last) = (0.0, 0.0, None);
    }

    /// `I`
    pub fn integral(&self) -> f64 {
        self.integral
    }

    /// The settings.
    pub fn config(&self) -> &PidConfig {
        &self.config
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.integral.is_finite() && self.derivative.is_finite() && self.last.is_none_or(f64::is_finite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// The response of the plant `1 / (s + 1)`, held over each step exactly; `pi.py` in numpy.
    #[test]
    fn response_is_the_published_formulas() {
        let mut pid = Pid::new(PidConfig { kp: 2.0, ki: 1.0, kd: 0.1, ..Default::default() }).unwrap();
        let (a, mut y, mut found) = ((-0.01_f64).exp(), 0.0, Vec::new());
        for _ in 0..2000 {
            let u = pid.update(1.0, y, 0.01).unwrap();
            y = a * y + (1.0 - a) * u;
            found.push(y);
        }
        let expected = [
            (0, 0.019_999_834_164),
            (9, 0.165_759_107_579),
            (99, 0.750_557_886_408),
            (999, 0.994_520_184_830),
            (1999, 0.999_886_916_098),
        ];
        for (at, y) in expected {
            assert!((found[at] - y).abs() < 1e-12, "step {at}: {} for {y}", found[at]);
        }
    }

    /// The greatest measurement of a plant whose input is at most 1.2, after a set-point of 1.
    fn overshoot(anti_windup: AntiWindup) -> f64 {
        let config =
            PidConfig { kp: 2.0, ki: 2.0, kd: 0.0, limits: Some((0.0, 1.2)), anti_windup, ..Default::default() };
        let mut pid = Pid::new(config).unwrap();
        let (mut y, mut greatest) = (0.0_f64, 0.0_f64);
        for _ in 0..3000 {
            let u = pid.update(1.0, y, 0.01).unwrap();
            assert!((0.0..=1.2).contains(&u));
            y += 0.01 * (u - y);
            greatest = greatest.max(y);
        }
        greatest
    }

    #[test]
    fn integrals_do_not_wind_up() {
        let wound = overshoot(AntiWindup::Off);
        let conditional = overshoot(AntiWindup::Conditional);
        let back = overshoot(AntiWindup::BackCalculation { time: 0.5 });
        assert!(wound > 1.05 && conditional < 1.001 && back < 1.001, "{wound} {conditional} {back}");
    }

    #[test]
    fn a_derivative_on_the_measurement_sees_no_jump_of_the_set_point() {
        let only_d = PidConfig { kp: 0.0, ki: 0.0, kd: 1.0, ..Default::default() };
        let kick = |derivative_on| {
            let mut pid = Pid::new(PidConfig { derivative_on, ..only_d }).unwrap();
            pid.update(0.0, 0.0, 0.1).unwrap();
            pid.update(1.0, 0.0, 0.1).unwrap()
        };
        assert_eq!((kick(DerivativeOn::Error), kick(DerivativeOn::Measurement)), (10.0, 0.0));
        // And falls alike on a measurement that rises.
        let answer = |derivative_on| {
            let mut pid = Pid::new(PidConfig { derivative_on, ..only_d }).unwrap();
            pid.update(0.0, 0.0, 0.1).unwrap();
            pid.update(0.0, 0.5, 0.1).unwrap()
        };
        assert_eq!((answer(DerivativeOn::Error), answer(DerivativeOn::Measurement)), (-5.0, -5.0));
    }

    #[test]
    fn a_filter_takes_the_noise_from_the_derivative() {
        let spread = |derivative_filter| {
            let config = PidConfig { kp: 0.0, ki: 0.0, kd: 1.0, derivative_filter, ..Default::default() };
            let mut pid = Pid::new(config).unwrap();
            let outputs = (0..1000).map(|t| pid.update(0.0, 0.01 * f64::from(t % 2) - 0.001 * f64::from(t), 0.01));
            outputs.map(|u| (u.unwrap() - 0.1).powi(2)).sum::<f64>() / 1000.0
        };
        assert!(spread(0.1) < spread(0.0) / 50.0);
    }

    #[test]
    fn what_is_no_measurement_is_refused_and_changes_nothing() {
        let mut pid = Pid::new(PidConfig::default()).unwrap();
        pid.update(1.0, 0.5, 0.1).unwrap();
        let before = pid;
        assert!(matches!(pid.update(1.0, f64::NAN, 0.1), Err(Error::NotFinite { index: 1, .. })));
        assert!(matches!(pid.update(f64::INFINITY, 0.0, 0.1), Err(Error::NotFinite { index: 0, .. })));
        assert!(matches!(pid.update(1.0, 0.0, 0.0), Err(Error::Setting { name: "dt", .. })));
        assert!(pid.update(1e308, -1e308, 1e-300).is_err());
        assert_eq!(pid, before);
        let limits = PidConfig { limits: Some((1.0, 0.0)), ..Default::default() };
        assert!(matches!(Pid::new(limits), Err(Error::Setting { name: "limits", .. })));
    }
}
