//! Whether a run is launched again.

use crate::process::Ending;

/// A launch that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) ending: Ending,
    /// Step of the last checkpoint that there was then.
    pub(crate) checkpoint: Option<u64>,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The run is done, or was asked to end.
    Done,
    Relaunch,
    /// It would be of no use, for this reason.
    GiveUp(&'static str),
}

/// What follows from the launches so far, of which `restarts` may be repeated.
pub(crate) fn decide(launches: &[Launch], restarts: u32) -> Decision {
    let Some((last, before)) = launches.split_last() else { return Decision::Relaunch };
    match last.ending {
        ending if ending.is_wanted() => return Decision::Done,
        Ending::Exit(2) => return Decision::GiveUp("the request itself is wrong"),
        Ending::Exit(_) if before.last() == Some(last) => {
            return Decision::GiveUp("it failed the same way before, and there is no new checkpoint since");
        }
        Ending::Exit(_) | Ending::Signal(_) | Ending::Stalled => {}
    }
    if before.len() < restarts as usize { Decision::Relaunch } else { Decision::GiveUp("no restarts are left") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(launches: &[(Ending, Option<u64>)], restarts: u32) -> Decision {
        let launches: Vec<_> = launches.iter().map(|&(ending, checkpoint)| Launch { ending, checkpoint }).collect();
        decide(&launches, restarts)
    }

    fn is_refused(decision: Decision, why: &str) -> bool {
        matches!(decision, Decision::GiveUp(reason) if reason.contains(why))
    }

    #[test]
    fn what_is_over_or_was_asked_to_end_is_left_alone() {
        for code in [0, 130, 143] {
            assert_eq!(after(&[(Ending::of(Some(code), None), Some(4))], 3), Decision::Done, "{code}");
        }
        assert_eq!(after(&[(Ending::of(None, Some(15)), None)], 3), Decision::Done);
        assert_eq!(after(&[(Ending::Signal(9), None), (Ending::Exit(0), Some(4))], 3), Decision::Done);
    }

    #[test]
    fn deaths_and_failures_are_gone_on_from_while_restarts_last() {
        for ending in [Ending::Signal(9), Ending::Signal(11), Ending::Exit(1), Ending::Exit(70), Ending::Stalled] {
            assert_eq!(after(&[(ending, None)], 1), Decision::Relaunch);
            assert!(is_refused(after(&[(ending, None)], 0), "restarts"));
        }
        let killed = (Ending::Signal(9), None);
        assert_eq!(after(&[killed; 3], 3), Decision::Relaunch);
        assert!(is_refused(after(&[killed; 4], 3), "restarts"));
    }

    #[test]
    fn a_failure_that_comes_again_is_not_looped() {
        let failed = |checkpoint| (Ending::Exit(1), checkpoint);
        assert!(is_refused(after(&[failed(None); 2], 9), "same way"));
        assert!(is_refused(after(&[failed(Some(2)), failed(Some(2))], 9), "same way"));
        assert_eq!(after(&[failed(None), failed(Some(2))], 9), Decision::Relaunch);
        assert_eq!(after(&[failed(Some(2)), (Ending::Exit(70), Some(2))], 9), Decision::Relaunch);
        assert!(is_refused(after(&[(Ending::Exit(2), None)], 9), "request"));
    }

    #[test]
    fn endings_keep_their_exit_codes() {
        for code in [0, 1, 2, 70, 137, 255] {
            assert_eq!(Ending::of(Some(code), None).code(), code as u8);
        }
        assert_eq!(Ending::of(None, Some(9)), Ending::of(Some(137), None));
        assert_eq!((Ending::of(None, Some(11)).code(), Ending::Stalled.code()), (139, 137));
    }
}
