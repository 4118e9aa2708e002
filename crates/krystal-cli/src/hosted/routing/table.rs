//! What every model makes of every question: what a router can be judged by.

use krystal::math::statistics::mean;

/// What an answer is worth: its quality, less what it cost in time and money.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worth {
    /// Of a second, in right answers.
    pub(crate) latency: f64,
    /// Of a US dollar, in right answers.
    pub(crate) cost: f64,
}

impl Worth {
    /// What an answer of this quality is worth.
    pub(crate) fn of(&self, quality: f64, seconds: f64, cost_usd: Option<f64>) -> f64 {
        quality - self.latency * seconds - self.cost * cost_usd.unwrap_or(0.0)
    }
}

/// Worth of answers, `[question][model]`, of questions that every model has answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Vec<f64>>,
}

impl Table {
    /// Mean worth of a model.
    pub(crate) fn fixed(&self, model: usize) -> f64 {
        mean(&self.rows.iter().map(|row| row[model]).collect::<Vec<_>>())
    }

    /// The model that is best for all questions together, and its mean worth; `None` for an empty table.
    pub(crate) fn best_fixed(&self) -> Option<(usize, f64)> {
        let models = 0..self.rows.first()?.len();
        models.map(|model| (model, self.fixed(model))).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    /// Mean worth of the best model for each question: no choice is better.
    pub(crate) fn oracle(&self) -> f64 {
        mean(&self.rows.iter().map(|row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect::<Vec<_>>())
    }

    /// Mean worth of choosing blindly.
    pub(crate) fn random(&self) -> f64 {
        mean(&self.rows.iter().map(|row| mean(row)).collect::<Vec<_>>())
    }
}
