//! The health check: what the service says of it, and for the rest what the image says.

use std::time::Duration;

use config::Service;
use plan::container::{HealthCheck, Notify};

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// Whether the program of `service` says itself that it works.
pub(crate) fn notify(service: &Service) -> Option<Notify> {
    let health = &service.container.health;
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    health.notify.then(|| Notify { watchdog_ms: health.watchdog.map(milliseconds) })
}

/// The check of `service`; none when neither it nor the image has one.
pub(crate) fn check(service: &Service, image: &images::Config) -> Option<HealthCheck> {
    let own = &service.container.health;
    let given = image.healthcheck.clone().unwrap_or_default();
    if own.disable || own.notify {
        return None;
    }
    let test = own.test.clone().or_else(|| given.command())?;
    // Docker's zero: nothing is said.
    let time = |own: Option<Duration>, image: u64, default: Duration| {
        let image = Some(Duration::from_nanos(image));
        let said = |time: &Duration| !time.is_zero();
        let time = own.filter(said).or(image.filter(said)).unwrap_or(default);
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
    };
    let retries = own.retries.filter(|n| *n > 0).or(Some(given.retries).filter(|n| *n > 0));
    Some(HealthCheck {
        test,
        interval_ms: time(own.interval, given.interval, INTERVAL),
        timeout_ms: time(own.timeout, given.timeout, TIMEOUT),
        retries: retries.unwrap_or(RETRIES),
        start_period_ms: time(own.start_period, given.start_period, Duration::from_millis(1)),
        start_interval_ms: time(own.start_interval, given.start_interval, START_INTERVAL),
        restart: own.restart,
    })
}
