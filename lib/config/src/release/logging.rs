//! Where the output of a service goes, as far as this release can put it there.

use userdata::At;

use super::{Release, not_supported};
use crate::compose;
use crate::desired::{LogFiles, Logging};

impl Release {
    pub(super) fn logging(&self, at: &At<'_>, logging: &compose::Logging) -> Option<Logging> {
        let default = LogFiles::default();
        let files = LogFiles {
            max_size: logging.max_size.unwrap_or(default.max_size),
            max_files: logging.max_files.unwrap_or(default.max_files),
        };
        let at = at.get("logging").unwrap_or_else(|| at.clone());
        let taken = match logging.driver.as_ref().map(|driver| driver.value.as_str()) {
            None | Some("file" | "json-file" | "local") => return Some(Logging::File(files)),
            Some("console") => Logging::Console,
            Some("none") => Logging::None,
            Some(other) => {
                let message = not_supported(other, &["file", "json-file", "local", "console", "none"]);
                let driver = at.get("driver").unwrap_or_else(|| at.clone());
                let hint = "'holdfast.logs' sends the logs of all services to a collector";
                self.refuse(&driver, driver.node.mark, &message, hint);
                return None;
            }
        };
        if logging.max_size.is_some() || logging.max_files.is_some() {
            let options = at.get("options").unwrap_or_else(|| at.clone());
            self.refuse(&options, options.key_mark(&at), "only files have a size and a number", "");
            return None;
        }
        Some(taken)
    }
}
