//! Which ids of the node are whose: a range for each service, that follows from the names alone. No file says which service
//! has which, and none is needed: the same names have the same ranges on every node and at every boot.

use std::collections::{BTreeMap, BTreeSet};

use plan::ServiceName;
use plan::container::IdRange;
use sha2::{Digest, Sha256};

/// Ranges above the node's own ids whose ids are positive numbers, also where a program takes them for signed ones.
const RANGES: u32 = (1 << 31) / IdRange::COUNT - 1;

/// A range for each service. A name's digest says which; where two names have the same, the one that comes later in order has
/// the next free one.
pub fn ranges<'a>(names: impl IntoIterator<Item = &'a ServiceName>) -> BTreeMap<&'a ServiceName, IdRange> {
    let names: BTreeSet<&ServiceName> = names.into_iter().collect();
    let mut taken = BTreeSet::new();
    let range = |name| {
        let first = wish(name);
        let mut all = (0..RANGES).map(|step| (first + step) % RANGES);
        // There are more ranges than a node has processes.
        let number = all.find(|number| taken.insert(*number)).unwrap_or(first);
        (name, IdRange { first: (number + 1) * IdRange::COUNT })
    };
    names.into_iter().map(range).collect()
}

/// The number of the range that a name has when no other name has it.
fn wish(name: &ServiceName) -> u32 {
    let digest = Sha256::digest(name.as_str());
    digest.iter().take(4).fold(0, |number: u32, byte| number << 8 | u32::from(*byte)) % RANGES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<ServiceName> {
        (0..count).map(|n| ServiceName::new(format!("service-{n}")).expect("a name")).collect()
    }

    #[test]
    fn ranges_are_distinct_and_none_holds_an_id_of_the_node() {
        // More than enough for names to wish for the same one.
        let names = names(3000);
        let ranges = ranges(&names);
        let firsts: BTreeSet<u32> = ranges.values().map(|range| range.first).collect();
        assert_eq!(firsts.len(), names.len());
        for first in firsts {
            assert!(first % IdRange::COUNT == 0 && first >= IdRange::COUNT, "{first}");
            assert!(i32::try_from(first + (IdRange::COUNT - 1)).is_ok(), "{first}");
        }
    }

    #[test]
    fn a_range_is_the_name_s_whatever_other_services_there_are() {
        let names = names(20);
        let (all, alone) = (ranges(&names), ranges(&names[7..8]));
        assert_eq!(all[&names[7]], alone[&names[7]]);
        assert_eq!(all, ranges(names.iter().rev()));
    }

    #[test]
    fn who_wishes_for_the_same_range_gets_the_next_one() {
        let names = names(3000);
        let mut wishes: BTreeMap<u32, Vec<&ServiceName>> = BTreeMap::new();
        for name in &names {
            wishes.entry(wish(name)).or_default().push(name);
        }
        let mut pair = wishes.into_values().find(|names| names.len() > 1).expect("two names with one wish");
        pair.sort();
        let ranges = ranges(pair[..2].iter().copied());
        assert_eq!(ranges[pair[0]].first + IdRange::COUNT, ranges[pair[1]].first);
    }
}
