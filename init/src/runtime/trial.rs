//! The gate's judgement, carried out: a boot that is good is written down, one on trial that is not goes back.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use sys::kmsg::Level;

use super::{Helper, Runtime, now};
use crate::gate::{self, Change, esp};
use crate::shutdown::Kind;

/// How long the image may take to be given up until the machine reboots without that: the boot loader then counts
/// its tries down as for any other failure.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(20);

impl Runtime {
    /// What the gate judges by.
    pub(super) fn facts(&self, now: Duration) -> gate::Facts {
        gate::Facts {
            now,
            settings: self.supervisor.gate(),
            steady_since: self.supervisor.steady_since(),
            failed_since: self.supervisor.failed_since(),
            agent: self.supervisor.agent_since(),
        }
    }

    /// Lets the gate judge, and does what follows.
    pub(super) fn look_at_gate(&mut self) {
        if self.shutdown.is_none() {
            let slots = self.recorder.slots().zip(self.booted.disk.as_ref().map(|disk| disk.slot));
            match self.gate.judge(&self.facts(now()), slots) {
                None => {}
                Some(Change::Passed) => self.bless(),
                Some(Change::Missed) => {
                    self.missed("this boot is no trial of a new version: it goes on");
                    self.recorder.forgive();
                }
                Some(Change::FallBack) => self.fall_back(),
            }
        }
        if self.reboot_at.is_some_and(|at| at <= now()) {
            self.reboot_at = None;
            self.begin_shutdown(Kind::Reboot);
        }
    }

    fn bless(&mut self) {
        self.status.changed();
        self.recorder.note("the gate is reached");
        let Some(disk) = self.booted.disk.clone() else { return };
        let slot = OsString::from(disk.slot.to_string());
        let args = [slot, disk.recorder.unwrap_or_default().into(), disk.esp.unwrap_or_default().into()];
        let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
        self.help(Helper::Bless, esp::BLESS, &args);
    }

    /// Says why the gate was missed, and what follows.
    fn missed(&mut self, consequence: &str) {
        let services = self.supervisor.not_steady();
        let why = if services.is_empty() { "the agent does not run".to_owned() } else { services };
        self.say(Level::Error, &format!("this boot is not good: {why}; {consequence}"));
        self.status.changed();
    }

    /// Makes the boot loader choose the other slot, and reboots. The boot stays counted as failed.
    fn fall_back(&mut self) {
        self.missed("going back to the other version");
        self.milestone("fallback");
        let esp = self.booted.disk.as_ref().and_then(|disk| disk.esp.clone()).unwrap_or_default();
        let started = self.help(Helper::GiveUp, esp::GIVE_UP, &[esp.as_os_str()]);
        self.reboot_at = Some(if started { now() + GIVE_UP_LIMIT } else { now() });
    }
}
