//! What a record says, in the definitions of the field.
//!
//! Letters: `T` phases, `R[i][j]` accuracy of test `j` after phase `i`.

use super::run::Record;
use super::stream::StreamKind;

/// Numbers of one run, accuracies in `[0, 1]`; `None` where a stream has no such thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Streams without repetition: mean over `j` of `R[T][j]`. `recurring`: mean over all measurements of the mean accuracy
    /// on the contexts seen so far. `agents`: mean over all measurements of the mean over the honest agents' tests.
    pub acc: f64,
    /// Mean over `j < T` of `R[T][j] - R[j][j]` (Lopez-Paz and Ranzato 2017, arXiv:1706.08840).
    pub bwt: Option<f64>,
    /// Mean over `j < T` of `max_i R[i][j] - R[T][j]`, over `i` from `j` on (Chaudhry et al. 2018, arXiv:1801.10112).
    pub forgetting: Option<f64>,
    /// Mean over `j` of `R[j][j]`: how well a phase is learned while it lasts.
    pub learned: Option<f64>,
    /// Mean over `j < T` of the lowest accuracy of `j` at any measurement after its phase (min-ACC, De Lange et al. 2023,
    /// arXiv:2205.13452).
    pub worst: Option<f64>,
    /// Mean over revisits of the steps until 95 % of the accuracy at the end of the last visit; the whole phase where it is
    /// not reached.
    pub recover: Option<f64>,
    /// Mean over all measurements of the mean accuracy on what was seen so far.
    pub online: f64,
    /// Mean over the tests of the accuracy at the end.
    pub last: f64,
}

impl Metrics {
    /// Reads a record.
    pub fn of(kind: StreamKind, record: &Record) -> Self {
        let online = online(record);
        let last = record.matrix.last().map_or(f64::NAN, |row| mean(row.iter().copied()));
        let phases = !matches!(kind, StreamKind::Recurring | StreamKind::Agents);
        Self {
            acc: if phases { last } else { online },
            bwt: phases.then(|| bwt(&record.matrix)),
            forgetting: phases.then(|| forgetting(&record.matrix)),
            learned: phases.then(|| mean(record.matrix.iter().enumerate().map(|(j, row)| row[j]))),
            worst: phases.then(|| worst(record)),
            recover: (kind == StreamKind::Recurring).then(|| recover(record)),
            online,
            last,
        }
    }
}

/// The mean; NaN of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

fn bwt(matrix: &[Vec<f64>]) -> f64 {
    let Some((last, before)) = matrix.split_last() else { return f64::NAN };
    mean(before.iter().enumerate().map(|(j, row)| last[j] - row[j]))
}

fn forgetting(matrix: &[Vec<f64>]) -> f64 {
    let Some((last, before)) = matrix.split_last() else { return f64::NAN };
    mean((0..before.len()).map(|j| matrix[j..].iter().map(|row| row[j]).fold(f64::MIN, f64::max) - last[j]))
}

fn worst(record: &Record) -> f64 {
    let tasks = record.matrix.len().saturating_sub(1);
    mean((0..tasks).map(|j| {
        let after = record.trace.iter().filter(|point| point.phase > j).filter_map(|point| point.accuracy[j]);
        let ends = record.matrix[j..].iter().map(|row| row[j]);
        after.chain(ends).fold(f64::INFINITY, f64::min)
    }))
}

fn online(record: &Record) -> f64 {
    mean(record.trace.iter().map(|point| mean(point.accuracy.iter().flatten().copied())))
}

fn recover(record: &Record) -> f64 {
    let mut steps = Vec::new();
    for (phase, task) in record.schedule.iter().enumerate() {
        let Some(before) = record.schedule[..phase].iter().rposition(|t| t == task) else { continue };
        let wanted = 0.95 * record.matrix[before][*task];
        let mut points = record.trace.iter().filter(|point| point.phase == phase);
        let first = points.clone().next().map_or(0, |point| point.step);
        let end = points.clone().next_back().map_or(0, |point| point.step);
        let reached = points.find(|point| point.accuracy[*task].is_some_and(|accuracy| accuracy >= wanted));
        steps.push((reached.map_or(end, |point| point.step) - first) as f64);
    }
    mean(steps)
}

/// Mean and half the width of its 95 % confidence interval by Student's t; the width is `None` for fewer than two values.
pub fn interval(values: &[f64]) -> (f64, Option<f64>) {
    let centre = mean(values.iter().copied());
    let n = values.len();
    if n < 2 {
        return (centre, None);
    }
    let variance = values.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (n - 1) as f64;
    (centre, Some(t_quantile(n - 1) * (variance / n as f64).sqrt()))
}

/// The 97.5 % quantile of Student's t with `freedom` degrees, from the usual table.
fn t_quantile(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    TABLE.get(freedom - 1).copied().unwrap_or(1.96 + 2.4 / freedom as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continual::run::Point;

    fn record() -> Record {
        let point = |step, phase, accuracy: [Option<f64>; 3]| Point { step, phase, accuracy: accuracy.to_vec() };
        Record {
            matrix: vec![vec![0.9, 0.1, 0.0], vec![0.5, 0.8, 0.2], vec![0.6, 0.4, 1.0]],
            schedule: vec![0, 1, 2],
            trace: vec![
                point(0, 0, [Some(0.1), None, None]),
                point(10, 0, [Some(0.9), None, None]),
                point(20, 1, [Some(0.3), Some(0.5), None]),
                point(30, 2, [Some(0.7), Some(0.2), Some(0.3)]),
            ],
            ..Record::default()
        }
    }

    #[test]
    fn a_matrix_worked_out_by_hand() {
        let metrics = Metrics::of(StreamKind::Strings, &record());
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
        near(metrics.acc, 2.0 / 3.0);
        // (0.6 - 0.9 + 0.4 - 0.8) / 2, and the best of each was its own phase's end.
        near(metrics.bwt.unwrap(), -0.35);
        near(metrics.forgetting.unwrap(), 0.35);
        near(metrics.learned.unwrap(), 0.9);
        // Lowest after its phase: 0.3 of the first, 0.2 of the second.
        near(metrics.worst.unwrap(), 0.25);
        near(metrics.online, (0.1 + 0.9 + 0.4 + 0.4) / 4.0);
        assert_eq!(metrics.recover, None);
    }

    #[test]
    fn forgetting_counts_from_the_best_and_bwt_from_the_phase() {
        let matrix = vec![vec![0.5, 0.0], vec![0.8, 0.0], vec![0.6, 0.0]];
        let matrix: Vec<Vec<f64>> = matrix
            .into_iter()
            .map(|mut row| {
                row.push(0.0);
                row
            })
            .collect();
        assert!((forgetting(&matrix) - 0.1).abs() < 1e-12);
        assert!((bwt(&matrix) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn recovery_is_counted_from_the_revisit() {
        let point = |step, phase, a| Point { step, phase, accuracy: vec![Some(a), Some(0.0)] };
        let record = Record {
            matrix: vec![vec![1.0, 0.0], vec![0.2, 1.0], vec![1.0, 0.0]],
            schedule: vec![0, 1, 0],
            trace: vec![
                point(0, 0, 0.0),
                point(20, 0, 1.0),
                point(20, 1, 0.9),
                point(40, 1, 0.2),
                point(40, 2, 0.2),
                point(50, 2, 0.94),
                point(60, 2, 0.95),
            ],
            ..Record::default()
        };
        assert_eq!(Metrics::of(StreamKind::Recurring, &record).recover, Some(20.0));
    }

    #[test]
    fn the_interval_is_that_of_the_textbook() {
        // Mean 3, standard deviation sqrt(2.5), five values: 2.776 sqrt(2.5 / 5).
        let (centre, half) = interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(centre, 3.0);
        assert!((half.unwrap() - 2.776 * 0.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(interval(&[2.0]), (2.0, None));
    }
}
