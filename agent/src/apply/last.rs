//! What comes when services have started: the swap file, for which a new state must have grown; telling somebody; the
//! last line of the boot; what becomes of the machine. What fails here is said on the console alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config::{Delay, PowerMode, PowerState, Swap};
use plan::paths;
use sd_notify::NotifyState;
use serde::Deserialize;

use super::phone_home::Call;
use super::{Instance, Wanted, storage};
use crate::file::cannot;
use crate::{console, tell};

/// How long services may take to start until the boot counts as done without them, unless `power_state` says another
/// time.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(250);

/// The mark of a boot whose last line was said: an agent that is started again does not repeat it.
const SAID: &str = "/run/holdfast/boot-done";

/// The mark of an instance whose `power_state` has been done.
const POWER_STATE: &str = "power-state";

/// What is still to be done.
#[derive(Debug)]
struct Last {
    generation: Option<u64>,
    swap: Option<Swap>,
    call: Option<Call>,
    message: Option<String>,
    power_state: Option<PowerState>,
    instance: Instance,
    datasource: &'static str,
    version: String,
}

/// Does the rest of a boot in a thread of its own, once its services have started: nobody waits for it.
pub(crate) fn after_start(wanted: &Wanted<'_>, instance: &Instance, generation: Option<u64>) {
    let machine = &wanted.config.machine;
    let last = Last {
        generation,
        swap: machine.swap.clone(),
        call: machine.phone_home.clone().map(|home| Call {
            home,
            hostname: wanted.hostname.to_owned(),
            fqdn: wanted.full_name(),
            id: wanted.meta.instance_id.clone(),
        }),
        message: machine.final_message.clone(),
        power_state: machine.power_state.clone().filter(|state| state.condition),
        instance: instance.clone(),
        datasource: wanted.datasource.name(),
        version: wanted.host.os_version.clone(),
    };
    let thread = thread::Builder::new().name("last".to_owned()).spawn(move || last.run());
    if let Err(error) = thread {
        console::error(format_args!("cannot do what comes last: {error}"));
    }
}

impl Last {
    fn run(&self) {
        let limit = self.power_state.as_ref().map(|state| Duration::from_secs(state.timeout_s.into()));
        wait_for_services(self.generation, limit.unwrap_or(START_LIMIT));
        if let Some(swap) = &self.swap {
            storage::set_up_swap(swap);
        }
        if let Some(call) = &self.call {
            call.make(&self.instance);
        }
        if !Path::new(SAID).exists() {
            self.say_message();
        }
        if let Some(state) = &self.power_state
            && self.instance.has_yet_to(POWER_STATE)
        {
            self.power(state);
        }
    }

    fn say_message(&self) {
        if let Some(message) = &self.message {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let facts = [
                ("uptime", uptime()),
                ("timestamp", rfc_2822(now.as_secs())),
                ("datasource", self.datasource.to_owned()),
                ("version", self.version.clone()),
            ];
            fill_in(message, &facts).lines().for_each(console::notice);
        }
        if let Err(error) = fs::write(SAID, "").map_err(cannot("write", Path::new(SAID))) {
            console::warning(console::chain(&error));
        }
    }

    /// Noted before it is done: a machine that powers off at every boot could never be used again.
    fn power(&self, state: &PowerState) {
        if let Err(error) = self.instance.done(POWER_STATE) {
            console::error(format_args!("config power_state: not done: {}", console::chain(&error)));
            return;
        }
        let word = match state.mode {
            PowerMode::Poweroff => "poweroff",
            PowerMode::Reboot => "reboot",
            PowerMode::Halt => "halt",
        };
        if let Some(message) = &state.message {
            message.lines().for_each(console::notice);
        }
        if let Delay::Minutes(minutes) = state.delay {
            console::notice(format_args!("config power_state: {word} in {minutes} min"));
            thread::sleep(Duration::from_secs(60 * u64::from(minutes)));
        }
        tell(&[NotifyState::Custom(&format!("X_HOLDFAST_SHUTDOWN={word}"))]);
    }
}

/// As much of PID 1's status as counts here.
#[derive(Debug, Deserialize)]
struct Status {
    generation: Option<u64>,
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    state: String,
}

impl Status {
    /// Whether everything of a generation has started, or has ended.
    fn has_started(&self, generation: Option<u64>) -> bool {
        let settled = |service: &Service| {
            matches!(
                service.state.as_str(),
                "running" | "healthy" | "unhealthy" | "exited" | "failed" | "backing-off"
            )
        };
        generation.is_none_or(|number| self.generation == Some(number)) && self.services.values().all(settled)
    }
}

fn wait_for_services(generation: Option<u64>, limit: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        let status = plan::read_json::<Status>(Path::new(paths::STATUS));
        if status.is_ok_and(|status| status.has_started(generation)) {
            return;
        }
        thread::sleep(POLL);
    }
}

/// Replaces `$UPTIME` and `{{uptime}}`, and so on.
fn fill_in(text: &str, facts: &[(&str, String)]) -> String {
    let mut text = text.to_owned();
    for (name, value) in facts {
        let upper = name.to_uppercase();
        for form in [
            format!("${upper}"),
            format!("${{{upper}}}"),
            format!("{{{{{name}}}}}"),
            format!("{{{{ {name} }}}}"),
        ] {
            text = text.replace(&form, value);
        }
    }
    text
}

/// Seconds since the boot, as the kernel writes them.
fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// A time in UTC as mails have it: `Wed, 25 Nov 2026 13:40:59 +0000`.
fn rfc_2822(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (mut day, time) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS[(day % 7) as usize];
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} +0000", day + 1, MONTHS[month])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_filled_in() {
        let facts = [("uptime", "3.2".to_owned()), ("version", "1.0".to_owned())];
        let text = "up $UPTIME, ${UPTIME}, {{uptime}}, {{ uptime }}; $VERSION $OTHER";
        assert_eq!(fill_in(text, &facts), "up 3.2, 3.2, 3.2, 3.2; 1.0 $OTHER");
    }

    #[test]
    fn times_are_those_of_mails() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_700_000_000, "Tue, 14 Nov 2023 22:13:20 +0000"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 +0000"),
        ] {
            assert_eq!(rfc_2822(seconds), expected);
        }
    }

    #[test]
    fn a_boot_is_done_when_its_services_have_started() {
        let status = |state: &str| Status {
            generation: Some(2),
            services: BTreeMap::from([("web".to_owned(), Service { state: state.to_owned() })]),
        };
        assert!(status("running").has_started(Some(2)) && status("exited").has_started(None));
        assert!(!status("starting").has_started(Some(2)) && !status("running").has_started(Some(3)));
    }
}
