//! One grade of several votes.

use crate::hosted::VoteRule;

/// What one call came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Vote {
    /// A grade.
    Score(u8),
    /// It answered, but not with a grade.
    Invalid(String),
    /// It did not answer.
    Failed(String),
}

impl Vote {
    /// The grade.
    pub(super) fn score(&self) -> Option<u8> {
        match self {
            Self::Score(score) => Some(*score),
            Self::Invalid(_) | Self::Failed(_) => None,
        }
    }
}

/// The grade of all votes, or why there is none: half of them or more are no grades, they are further apart than `spread`, or no
/// grade has a majority where one is asked for.
pub(super) fn count(votes: &[Vote], rule: VoteRule, spread: u8) -> Result<f64, String> {
    let mut scores: Vec<u8> = votes.iter().filter_map(Vote::score).collect();
    scores.sort_unstable();
    if scores.len() * 2 <= votes.len() {
        let why = votes.iter().find_map(|vote| match vote {
            Vote::Invalid(why) | Vote::Failed(why) => Some(why.as_str()),
            Vote::Score(_) => None,
        });
        let (missing, all) = (votes.len() - scores.len(), votes.len());
        return Err(format!("{missing} of {all} votes are no grades: {}", why.unwrap_or("there are none")));
    }
    let shown = || scores.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    match rule {
        VoteRule::Median => {
            if scores[scores.len() - 1] - scores[0] > spread {
                return Err(format!("the votes disagree: {}", shown()));
            }
            let (low, high) = (scores[(scores.len() - 1) / 2], scores[scores.len() / 2]);
            Ok((f64::from(low) + f64::from(high)) / 2.0)
        }
        VoteRule::Majority => {
            let has_majority = |score: &u8| scores.iter().filter(|other| *other == score).count() * 2 > votes.len();
            let chosen = scores.iter().copied().find(has_majority);
            chosen.map(f64::from).ok_or_else(|| format!("no grade has a majority: {}", shown()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: VoteRule, votes: &[Option<u8>], expected: Option<f64>) {
        let cast: Vec<Vote> =
            votes.iter().map(|vote| vote.map_or_else(|| Vote::Invalid("bad".into()), Vote::Score)).collect();
        assert_eq!(count(&cast, rule, 3).ok(), expected, "{rule:?} {votes:?}");
    }

    #[test]
    fn votes_are_counted_or_there_is_no_grade() {
        use VoteRule::{Majority, Median};
        check(Median, &[Some(7), Some(9), Some(8)], Some(8.0));
        check(Median, &[Some(7), Some(8)], Some(7.5));
        check(Median, &[Some(7), None, Some(8)], Some(7.5));
        check(Median, &[Some(7), None, None], None);
        check(Median, &[Some(7), None], None);
        check(Median, &[Some(2), Some(9), Some(9)], None);
        check(Median, &[Some(6), Some(9), Some(9)], Some(9.0));
        check(Median, &[Some(4)], Some(4.0));
        check(Majority, &[Some(2), Some(9), Some(9)], Some(9.0));
        check(Majority, &[Some(2), Some(5), Some(9)], None);
        check(Majority, &[Some(9), None, Some(9), Some(1)], None);
        check(Majority, &[Some(9), None, Some(9)], Some(9.0));
    }
}
