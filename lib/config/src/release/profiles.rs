//! Which services run: those without a profile, and those of a profile that is active.

use crate::Config;
use crate::compose::Service;

/// The variable of `holdfast.env` that names the active profiles, as it does for compose.
const VARIABLE: &str = "COMPOSE_PROFILES";

/// Whether `service` runs.
pub(super) fn is_active(config: &Config, service: &Service) -> bool {
    let named = config.machine.holdfast.env.get(VARIABLE).map(String::as_str).unwrap_or_default();
    let wanted = |profile: &String| named.split(',').any(|name| name.trim() == profile || name.trim() == "*");
    service.profiles.is_empty() || service.profiles.iter().any(wanted)
}
