//! Standing still: what is done when there is nothing to boot and rebooting would not help.

use std::thread;
use std::time::Duration;

use crate::console;
use crate::watchdog::Watchdog;

/// How often the reason is said again: whoever connects to the console later sees it, too.
const REPEAT: Duration = Duration::from_secs(60);

/// Says why and waits for a human; the watchdog is kept quiet. Ctrl-alt-del, reset and power cycle try again.
pub(crate) fn stop(reason: &str, watchdog: Option<&Watchdog>) -> ! {
    let pause = watchdog.map_or(REPEAT, Watchdog::interval).min(REPEAT);
    loop {
        console::error(format_args!("boot stopped: {reason}; restart the machine to try again"));
        let mut waited = Duration::ZERO;
        while waited < REPEAT {
            if let Some(watchdog) = watchdog {
                watchdog.pet();
            }
            thread::sleep(pause);
            waited += pause;
        }
    }
}
