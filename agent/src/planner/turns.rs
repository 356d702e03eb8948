//! Services whose new container comes first: which of its two names each has.
//!
//! Only a draft tells whether a container changes. So all is drafted with the names that the containers have, and when some
//! of them change, once more with the other names for those.

use config::Problem;
use plan::{Condition, Replaced, ServiceName};

use super::{Draft, Wanted, draft_as_named};

/// A service with the two names of its containers.
struct Pair<'a> {
    names: [ServiceName; 2],
    service: &'a ServiceName,
    /// Which of them is that of the container there is.
    current: Option<usize>,
}

pub(super) fn draft(wanted: &Wanted<'_>) -> Result<Draft, Vec<Problem>> {
    let pairs: Vec<Pair<'_>> = wanted.desired.turns().map(|pair| Pair::of(pair, wanted)).collect();
    let others = |number: usize, is: &dyn Fn(&Pair<'_>) -> bool| {
        let turned = pairs.iter().filter(|pair| is(pair)).filter(move |pair| pair.current == Some(number));
        turned.map(|pair| pair.service).collect::<Vec<_>>()
    };
    let desired = wanted.desired.in_turn(others(1, &|_| true));
    let kept: Vec<(ServiceName, Replaced)> = pairs.iter().filter_map(|pair| pair.kept(wanted)).collect();
    let leaving: Vec<ServiceName> = kept.iter().map(|(_, replaced)| replaced.service.clone()).collect();
    let mut same = draft_as_named(&Wanted { desired: &desired, ..*wanted }, &leaving)?;
    if pairs.iter().all(|pair| pair.stays(&same, wanted)) {
        same.replaced = kept.into_iter().collect();
        return Ok(same);
    }
    let stays = |pair: &Pair<'_>| pair.stays(&same, wanted);
    let turned = [others(1, &stays), others(0, &|pair| !stays(pair))].concat();
    let desired = wanted.desired.in_turn(turned);
    let mut replaced: Vec<(ServiceName, Replaced)> =
        pairs.iter().filter(|pair| stays(pair)).filter_map(|pair| pair.kept(wanted)).collect();
    for pair in pairs.iter().filter(|pair| !stays(pair)) {
        let Some(current) = pair.current else { continue };
        // Its condition is known when it is drafted.
        let when = Condition::ServiceStarted;
        replaced
            .push((pair.names[1 - current].clone(), Replaced { service: pair.names[current].clone(), when }));
    }
    let leaving: Vec<ServiceName> = replaced.iter().map(|(_, replaced)| replaced.service.clone()).collect();
    let mut draft = draft_as_named(&Wanted { desired: &desired, ..*wanted }, &leaving)?;
    for (name, replaced) in &mut replaced {
        let shim = draft.services.get(name).map(|(bundle, _)| &bundle.shim);
        if shim.is_some_and(|shim| shim.health.is_some() || shim.notify.is_some()) {
            replaced.when = Condition::ServiceHealthy;
        }
    }
    draft.replaced = replaced.into_iter().collect();
    Ok(draft)
}

impl<'a> Pair<'a> {
    /// Of both the one that runs alone is the current one, else that of the last generation.
    fn of((service, other): (&'a ServiceName, ServiceName), wanted: &Wanted<'_>) -> Self {
        let names = [service.clone(), other];
        let only = |is: &dyn Fn(&ServiceName) -> bool| match names.each_ref().map(is) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        };
        let runs = only(&|name| wanted.running.contains(name));
        let planned = only(&|name| wanted.last.is_some_and(|last| last.services.contains_key(name)));
        Self { current: runs.or(planned), names, service }
    }

    /// Whether its container does not change.
    fn stays(&self, draft: &Draft, wanted: &Wanted<'_>) -> bool {
        let (Some(current), Some(last)) = (self.current, wanted.last) else { return true };
        let current = &self.names[current];
        let now = draft.services.get(current).map(|(bundle, _)| &bundle.digest);
        last.services.get(current).is_some_and(|last| Some(&last.digest) == now)
    }

    /// Whose place the current container still takes.
    fn kept(&self, wanted: &Wanted<'_>) -> Option<(ServiceName, Replaced)> {
        let current = &self.names[self.current?];
        let replaced = wanted.last?.services.get(current)?.replaces.clone()?;
        Some((current.clone(), replaced))
    }
}
