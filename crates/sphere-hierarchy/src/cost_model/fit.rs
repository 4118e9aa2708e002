//! A cost model from measurements.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CostModel, Link};
use crate::error::{Error, Result};

/// What a sample timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Two machines sent `bytes` to each other at the same time: one message.
    SendReceive,
    /// All-to-all of `bytes` from each machine: as many messages of one segment as there are other machines.
    Exchange,
    /// One machine summed buffers of `bytes` in all.
    Add,
}

/// One timed operation, the median of several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was timed.
    pub kind: Kind,
    /// Machines that took part.
    pub machines: usize,
    /// Bytes of each machine's buffer, or of all the addends.
    pub bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
}

impl Sample {
    /// Messages one after another, and the bytes of each.
    fn messages(&self) -> (f64, f64) {
        match self.kind {
            Kind::SendReceive => (1.0, self.bytes as f64),
            Kind::Exchange => (self.machines as f64 - 1.0, self.bytes as f64 / self.machines as f64),
            Kind::Add => (0.0, 0.0),
        }
    }

    fn valid(&self) -> bool {
        let enough = if self.kind == Kind::Add { 1 } else { 2 };
        self.bytes > 0 && self.machines >= enough && self.seconds.is_finite() && self.seconds > 0.0
    }
}

/// A sample beside what the model says of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Residual {
    /// As measured.
    pub sample: Sample,
    /// Seconds by the model.
    pub predicted_s: f64,
    /// What the prediction is off by, as a share of what was measured; positive where too long.
    pub relative_error: f64,
}

/// A model and how well it describes what it was made from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// What was found.
    pub model: CostModel,
    /// Every sample, in the order given.
    pub residuals: Vec<Residual>,
    /// Root of the mean squared relative error.
    pub rms_relative_error: f64,
    /// The largest relative error, without its sign.
    pub worst_relative_error: f64,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Link { from_bytes, latency_s, seconds_per_byte } in self.model.links() {
            let latency_us = latency_s * 1e6;
            writeln!(f, "messages from {from_bytes} bytes on: {latency_us:.1} us and {}", speed(*seconds_per_byte))?;
        }
        writeln!(f, "additions: {}", speed(self.model.add_seconds_per_byte()))?;
        let (samples, rms, worst) =
            (self.residuals.len(), self.rms_relative_error * 1e2, self.worst_relative_error * 1e2);
        writeln!(f, "{samples} samples, off by {rms:.1} % (root mean square), {worst:.1} % at worst")
    }
}

fn speed(seconds_per_byte: f64) -> String {
    if seconds_per_byte == 0.0 {
        "no time for bytes".to_owned()
    } else {
        format!("{:.0} MB/s", 1e-6 / seconds_per_byte)
    }
}

/// Relative error, root mean square, that is good enough: below it no line is added.
const GOOD_ENOUGH: f64 = 0.02;
/// Each line more must divide the sum of squared errors by this.
const WORTH_A_LINE: f64 = 2.0;
/// Sizes that one of several lines needs: two determine it, the third can contradict it.
const SIZES_OF_A_LINE: usize = 3;
/// Lines at most.
const MOST_LINES: usize = 8;

/// One message: `seconds` for `bytes`.
#[derive(Debug, Clone, Copy)]
struct Message {
    bytes: f64,
    seconds: f64,
}

impl CostModel {
    /// The model that predicts `samples` best: the least sum of squared relative errors, no cost below 0.
    ///
    /// Messages get one latency and one bandwidth, or several, each from some size on: as many as minimise
    /// `2^lines * sum of squares`, where squares below those of an error of 2 % count as these, and each of several rests on
    /// three sizes or more. The sizes at which they change are the best there are (dynamic programming, cubic in the number of
    /// samples).
    ///
    /// # Errors
    /// [`Error::Sample`] for a time that is not positive and finite, or a message without another machine;
    /// [`Error::Undetermined`] without samples of additions or with messages of fewer than two sizes.
    pub fn fit(samples: &[Sample]) -> Result<Fit> {
        if let Some(sample) = samples.iter().find(|sample| !sample.valid()) {
            return Err(Error::Sample { sample: format!("{sample:?}") });
        }
        let (additions, sent): (Vec<&Sample>, Vec<&Sample>) =
            samples.iter().partition(|sample| sample.kind == Kind::Add);
        let model = CostModel::with_links(fit_links(&sent)?, fit_additions(&additions)?)?;
        let residuals: Vec<Residual> = samples.iter().map(|sample| model.residual(sample)).collect();
        let errors = residuals.iter().map(|residual| residual.relative_error);
        Ok(Fit {
            rms_relative_error: (errors.clone().map(|error| error * error).sum::<f64>() / residuals.len() as f64)
                .sqrt(),
            worst_relative_error: errors.map(f64::abs).fold(0.0, f64::max),
            model,
            residuals,
        })
    }

    fn residual(&self, sample: &Sample) -> Residual {
        let (count, bytes) = sample.messages();
        let predicted_s = match sample.kind {
            Kind::Add => self.add_s(sample.bytes as f64),
            _ => count * self.message_s(bytes),
        };
        Residual { sample: *sample, predicted_s, relative_error: predicted_s / sample.seconds - 1.0 }
    }
}

fn fit_additions(samples: &[&Sample]) -> Result<f64> {
    let speeds = samples.iter().map(|sample| sample.bytes as f64 / sample.seconds);
    let squares: f64 = speeds.clone().map(|speed| speed * speed).sum();
    if samples.is_empty() {
        return Err(Error::Undetermined { what: "cost of an addition", needed: "a sample of one is" });
    }
    Ok(speeds.sum::<f64>() / squares)
}

fn fit_links(samples: &[&Sample]) -> Result<Vec<Link>> {
    let mut messages: Vec<Message> = samples
        .iter()
        .map(|sample| {
            let (count, bytes) = sample.messages();
            Message { bytes, seconds: sample.seconds / count }
        })
        .collect();
    messages.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    if sizes(&messages) < 2 {
        return Err(Error::Undetermined { what: "latency and bandwidth", needed: "messages of two sizes are" });
    }
    let links = lines(&messages).into_iter().map(|(first, line)| Link {
        from_bytes: if first == 0 { 0 } else { messages[first].bytes.ceil() as u64 },
        latency_s: line.latency_s,
        seconds_per_byte: line.seconds_per_byte,
    });
    Ok(links.collect())
}

/// Sizes among sorted messages.
fn sizes(messages: &[Message]) -> usize {
    messages.chunk_by(|a, b| a.bytes == b.bytes).count()
}

/// The lines of sorted messages, each with the first message that is its own.
fn lines(messages: &[Message]) -> Vec<(usize, Line)> {
    let enough = messages.len() as f64 * GOOD_ENOUGH * GOOD_ENOUGH;
    let whole = vec![(0, Line::through(messages))];
    let (mut least, mut chosen) = (squares(&whole).max(enough), whole);
    // The best lines of the first so many messages: at first one line, then one more every time.
    let ends: Vec<usize> = (1..=messages.len())
        .filter(|&end| end == messages.len() || messages[end - 1].bytes < messages[end].bytes)
        .collect();
    let own = |first: usize, end: usize| {
        let own = &messages[first..end];
        (sizes(own) >= SIZES_OF_A_LINE).then(|| Line::through(own))
    };
    let mut best: Vec<Option<Vec<(usize, Line)>>> =
        ends.iter().map(|&end| own(0, end).map(|line| vec![(0, line)])).collect();
    for n_lines in 2..=MOST_LINES {
        let longer = |&end: &usize| {
            let candidates =
                ends.iter().zip(&best).take_while(|&(&first, _)| first < end).filter_map(|(&first, before)| {
                    let mut lines = before.clone()?;
                    lines.push((first, own(first, end)?));
                    Some(lines)
                });
            candidates.min_by(|a, b| squares(a).total_cmp(&squares(b)))
        };
        best = ends.iter().map(longer).collect();
        let Some(Some(all)) = best.last() else { break };
        let weighed = squares(all).max(enough) * WORTH_A_LINE.powi(n_lines as i32 - 1);
        if weighed < least {
            (least, chosen) = (weighed, all.clone());
        }
    }
    chosen
}

fn squares(lines: &[(usize, Line)]) -> f64 {
    lines.iter().map(|(_, line)| line.squares).sum()
}

/// The line of least squared relative error, neither coefficient below 0.
#[derive(Debug, Clone, Copy)]
struct Line {
    latency_s: f64,
    seconds_per_byte: f64,
    /// Sum of the squared relative errors.
    squares: f64,
}

impl Line {
    fn through(messages: &[Message]) -> Self {
        let sum = |term: &dyn Fn(&Message) -> f64| -> f64 {
            messages.iter().map(|message| term(message) / (message.seconds * message.seconds)).sum()
        };
        let weight = sum(&|_| 1.0);
        let (bytes, seconds) = (sum(&|m| m.bytes) / weight, sum(&|m| m.seconds) / weight);
        let slope = sum(&|m| (m.bytes - bytes) * (m.seconds - seconds)) / sum(&|m| (m.bytes - bytes).powi(2));
        let of = |latency_s: f64, seconds_per_byte: f64| {
            let squares = sum(&|m| (latency_s + m.bytes * seconds_per_byte - m.seconds).powi(2));
            Self { latency_s, seconds_per_byte, squares }
        };
        // The sum of squares is convex: where its minimum has a negative coefficient, the least of the allowed has a zero one.
        let free = of(seconds - slope * bytes, slope);
        if free.latency_s >= 0.0 && free.seconds_per_byte >= 0.0 {
            return free;
        }
        let flat = of(seconds, 0.0);
        let steep = of(0.0, sum(&|m| m.bytes * m.seconds) / sum(&|m| m.bytes * m.bytes));
        if flat.squares < steep.squares { flat } else { steep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost_model::Algorithm;

    fn sample(kind: Kind, machines: usize, bytes: u64, seconds: f64) -> Sample {
        Sample { kind, machines, bytes, seconds }
    }

    /// What `model` says of sizes up to 64 MiB, of two machines and of five, each off by up to `noise`.
    fn samples_of(model: &CostModel, noise: f64) -> Vec<Sample> {
        let mut off = [1.0 + noise, 1.0 - noise, 1.0, 1.0 - noise / 2.0, 1.0 + noise / 2.0].into_iter().cycle();
        let mut samples = vec![];
        for bytes in (2..=26).map(|power| 1_u64 << power) {
            for (kind, machines) in [(Kind::SendReceive, 2), (Kind::Exchange, 5), (Kind::Add, 1)] {
                let seconds = model.residual(&sample(kind, machines, bytes, 1.0)).predicted_s;
                samples.push(sample(kind, machines, bytes, seconds * off.next().unwrap()));
            }
        }
        samples
    }

    fn near(found: f64, expected: f64, tolerance: f64) -> bool {
        (found / expected - 1.0).abs() <= tolerance
    }

    #[test]
    fn exact_samples_give_back_their_model() {
        let model = CostModel::new(30e-6, 1.0 / 3.1e9, 1.0 / 15e9).unwrap();
        let fit = CostModel::fit(&samples_of(&model, 0.0)).unwrap();
        let [link] = *fit.model.links() else { panic!("{:?}", fit.model) };
        assert!(near(link.latency_s, 30e-6, 1e-9) && near(link.seconds_per_byte, 1.0 / 3.1e9, 1e-9), "{link:?}");
        assert!(near(fit.model.add_seconds_per_byte(), 1.0 / 15e9, 1e-12));
        assert!(fit.worst_relative_error < 1e-9 && fit.rms_relative_error <= fit.worst_relative_error);
        assert_eq!(fit.residuals.len(), 75);
    }

    #[test]
    fn noise_neither_moves_the_model_nor_divides_it() {
        let model = CostModel::new(30e-6, 1.0 / 3.1e9, 1.0 / 15e9).unwrap();
        let fit = CostModel::fit(&samples_of(&model, 0.2)).unwrap();
        let [link] = *fit.model.links() else { panic!("{:?}", fit.model) };
        assert!(near(link.latency_s, 30e-6, 0.1) && near(link.seconds_per_byte, 1.0 / 3.1e9, 0.1), "{link:?}");
        assert!((0.1..0.3).contains(&fit.worst_relative_error));
        let seconds = |model: &CostModel| model.seconds(Algorithm::Segments, 144, 40_000_000);
        assert!(near(seconds(&fit.model), seconds(&model), 0.1));
    }

    #[test]
    fn changes_of_protocol_are_found() {
        let link = |from_bytes, latency_s, speed: f64| Link { from_bytes, latency_s, seconds_per_byte: 1.0 / speed };
        let links = [link(0, 60e-6, 1e9), link(4_096, 110e-6, 2e9), link(65_536, 350e-6, 2.8e9)];
        let model = CostModel::with_links(links.to_vec(), 1e-10).unwrap();
        let fit = CostModel::fit(&samples_of(&model, 0.0)).unwrap();
        assert_eq!(fit.model.links().len(), 3, "{:?}", fit.model);
        for (found, expected) in fit.model.links().iter().zip(links) {
            // The segments that the samples exchange lie between the sizes of their messages.
            assert!(
                (0.8..=1.0).contains(&((found.from_bytes + 1) as f64 / (expected.from_bytes + 1) as f64)),
                "{found:?}"
            );
            assert!(near(found.latency_s, expected.latency_s, 1e-6), "{found:?}");
            assert!(near(found.seconds_per_byte, expected.seconds_per_byte, 1e-6), "{found:?}");
        }
    }

    #[test]
    fn no_cost_falls_below_nothing() {
        let add = sample(Kind::Add, 1, 8, 1e-9);
        let fit = |times: &[(u64, f64)]| {
            let sent = times.iter().map(|&(bytes, seconds)| sample(Kind::SendReceive, 2, bytes, seconds));
            CostModel::fit(&sent.chain([add]).collect::<Vec<_>>()).unwrap()
        };
        let faster_with_size = fit(&[(1_000, 3e-6), (2_000, 2e-6)]);
        let [link] = *faster_with_size.model.links() else { panic!() };
        assert!(link.seconds_per_byte == 0.0 && (2e-6..3e-6).contains(&link.latency_s), "{link:?}");
        let steeper_than_proportional = fit(&[(1_000, 1e-6), (2_000, 4e-6)]);
        let [link] = *steeper_than_proportional.model.links() else { panic!() };
        assert!(link.latency_s == 0.0 && (1e-9..2e-9).contains(&link.seconds_per_byte), "{link:?}");
    }

    #[test]
    fn samples_that_determine_nothing_are_refused() {
        let add = sample(Kind::Add, 1, 8, 1e-9);
        let sent = |bytes| sample(Kind::SendReceive, 2, bytes, 1e-6);
        let message = |samples: &[Sample]| CostModel::fit(samples).unwrap_err().to_string();
        let links = "the samples do not determine the latency and bandwidth: messages of two sizes are needed";
        assert_eq!(message(&[]), links);
        assert_eq!(message(&[add]), links);
        assert_eq!(message(&[add, sent(4), sent(4)]), links);
        let additions = "the samples do not determine the cost of an addition: a sample of one is needed";
        assert_eq!(message(&[sent(4), sent(8)]), additions);
        for wrong in [
            sample(Kind::Add, 1, 8, 0.0),
            sample(Kind::Add, 1, 8, f64::NAN),
            sample(Kind::Add, 1, 0, 1.0),
            sample(Kind::Exchange, 1, 8, 1.0),
        ] {
            assert!(matches!(CostModel::fit(&[wrong]), Err(Error::Sample { .. })), "{wrong:?}");
        }
    }
}
