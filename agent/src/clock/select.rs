//! Which of several servers to believe: those that most of them agree with (Marzullo's algorithm, RFC 5905, section
//! 11.2.1). Pure.
//!
//! Each server says when it is and how much it may be wrong, so each one is an interval in which the truth lies if the
//! server is right. A majority whose intervals have a point in common is believed; the others are false. Servers of
//! which no majority agrees are not believed at all, because nobody can tell which one is wrong.

use std::time::Duration;

use super::STEP;
use super::packet::Sample;

/// More than this and a server's time is of no use (RFC 5905, MAXDIST, is 1 s; ours also travels over slow links).
const MOST_ERROR: Duration = Duration::from_millis(1500);

/// Servers are never taken to be more exact than this, since paths are not the same in both directions.
const LEAST_ERROR: Duration = Duration::from_millis(5);

/// What a majority agrees on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreement {
    /// Nanoseconds that our clock is behind.
    pub(super) offset: i64,
    /// How much that may be wrong.
    pub(super) error: Duration,
    /// Which of the samples agree, the most exact one first.
    pub(super) believed: Vec<usize>,
}

/// Finds the majority among the samples, one a server. `voters` is how many servers there are altogether: one that is
/// there but gave no sample this time agrees with nobody.
pub(super) fn select(samples: &[Sample], voters: usize) -> Option<Agreement> {
    let mut edges = Vec::new();
    let mut intervals = Vec::new();
    for (number, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.error < MOST_ERROR) {
        let error = i64::try_from(sample.error.max(LEAST_ERROR).as_nanos()).unwrap_or(i64::MAX);
        let interval = (sample.offset.saturating_sub(error), sample.offset.saturating_add(error));
        intervals.push((number, interval, error));
        edges.extend([(interval.0, 1_i32), (interval.1, -1)]);
    }
    // Where one interval ends and another one begins at the same point, both hold it.
    edges.sort_by_key(|(at, change)| (*at, -change));
    let (mut inside, mut most, mut regions) = (0, 0, Vec::new());
    for pair in edges.windows(2) {
        let [(at, change), (end, _)] = pair else { continue };
        inside += change;
        if inside > most {
            (most, regions) = (inside, Vec::new());
        }
        if inside == most && *change > 0 {
            regions.push((*at, *end));
        }
    }
    let (low, high) = (regions.first()?.0, regions.last()?.1);
    let is_majority = usize::try_from(most).is_ok_and(|most| most * 2 > voters.max(samples.len()));
    // One server that is in two majorities is too inexact to say which one is right; that matters when they are far
    // apart.
    if !is_majority || (regions.len() > 1 && high.abs_diff(low) > STEP.unsigned_abs()) {
        return None;
    }
    let mut believed: Vec<_> =
        intervals.into_iter().filter(|(_, interval, _)| interval.0 <= high && interval.1 >= low).collect();
    believed.sort_by_key(|(_, _, error)| *error);
    let offset =
        weighted(believed.iter().filter_map(|(n, _, error)| Some((samples.get(*n)?.offset, *error))));
    Some(Agreement {
        offset: offset.clamp(low, high),
        error: Duration::from_nanos(high.abs_diff(low) / 2),
        believed: believed.into_iter().map(|(number, ..)| number).collect(),
    })
}

/// The mean, where a server that may be half as wrong counts twice.
fn weighted(offsets: impl Iterator<Item = (i64, i64)> + Clone) -> i64 {
    // From the first one on, since offsets may be decades and differ by milliseconds.
    let Some((base, _)) = offsets.clone().next() else { return 0 };
    let (mut sum, mut weights) = (0_i128, 0_i128);
    for (offset, error) in offsets {
        let weight = (1 << 50) / i128::from(error.max(1));
        sum += (i128::from(offset) - i128::from(base)) * weight;
        weights += weight;
    }
    let mean = i64::try_from(sum / weights.max(1)).unwrap_or_default();
    base.saturating_add(mean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLISECOND: i64 = 1_000_000;

    /// Samples of (offset, error) in milliseconds.
    fn samples(list: &[(i64, u64)]) -> Vec<Sample> {
        let sample = |(offset, error): &(i64, u64)| Sample {
            offset: offset * MILLISECOND,
            delay: Duration::from_millis(error * 2),
            error: Duration::from_millis(*error),
        };
        list.iter().map(sample).collect()
    }

    #[test]
    fn who_is_believed() {
        type Case = (&'static [(i64, u64)], usize, Option<&'static [usize]>);
        // Samples, number of voters, who is believed.
        let cases: [Case; 14] = [
            (&[], 0, None),
            (&[(1000, 10)], 1, Some(&[0])),
            // Two that agree, two that do not.
            (&[(0, 20), (15, 10)], 2, Some(&[1, 0])),
            (&[(0, 10), (3_600_000, 10)], 2, None),
            // One false, at either end, and one that is close but does not reach.
            (&[(0, 10), (5, 10), (3_600_000, 1)], 3, Some(&[0, 1])),
            (&[(-3_600_000, 1), (0, 10), (5, 11)], 3, Some(&[1, 2])),
            (&[(0, 10), (5, 10), (60, 10)], 3, Some(&[0, 1])),
            // Two false ones that agree are a majority of three, but not of four.
            (&[(0, 10), (3_600_000, 10), (3_600_001, 11)], 3, Some(&[1, 2])),
            (&[(0, 10), (1, 11), (3_600_000, 10), (3_600_001, 11)], 4, None),
            // A lonely one of three is not believed.
            (&[(0, 10)], 3, None),
            // One that may be wrong by seconds says nothing.
            (&[(0, 2000)], 1, None),
            // Who is exact decides, unless an inexact one could side with either.
            (&[(-3, 10), (100, 120), (3, 10)], 3, Some(&[0, 2, 1])),
            (&[(0, 10), (150, 400), (300, 10)], 3, None),
            // A server that is exact to nothing is given some milliseconds.
            (&[(0, 0), (8, 0), (900, 0)], 3, Some(&[0, 1])),
        ];
        for (list, voters, expected) in cases {
            let believed = select(&samples(list), voters).map(|agreement| agreement.believed);
            assert_eq!(believed.as_deref(), expected, "{list:?} of {voters}");
        }
    }

    #[test]
    fn the_more_exact_one_counts_more() {
        let agreement = select(&samples(&[(0, 10), (15, 20)]), 2).unwrap();
        assert_eq!(agreement.offset, 5 * MILLISECOND);
        assert_eq!(agreement.error, Duration::from_micros(7500));
    }

    proptest! {
        #[test]
        fn a_minority_of_liars_moves_nothing_out_of_what_the_honest_say(
            truth in -(1_i64 << 60)..1 << 60,
            honest in prop::collection::vec((-100_i64..100, 0_u64..50), 3..6),
            liars in prop::collection::vec((any::<i64>(), 0_u64..1400), 0..3),
        ) {
            let lie = |(offset, error): &(i64, u64)|
                Sample { offset: *offset, delay: Duration::ZERO, error: Duration::from_millis(*error) };
            let mut all: Vec<Sample> = honest.iter().map(|(wrong, more)| Sample {
                offset: truth + wrong * MILLISECOND,
                delay: Duration::ZERO,
                error: Duration::from_millis(wrong.unsigned_abs() + more),
            }).collect();
            all.extend(liars.iter().map(lie));
            let agreement = select(&all, all.len()).unwrap();
            // It lies within an honest server's interval of at most 150 ms on both sides, or a step from it.
            let wrong = agreement.offset.abs_diff(truth);
            prop_assert!(wrong <= 428_000_000, "wrong by {wrong} ns");
        }
    }
}
