//! What the agent says on the node's console.

use std::error::Error;
use std::fmt::{self, Display};

use sys::kmsg::{self, Level};

/// Says what the node does.
pub(crate) fn notice(text: impl Display) {
    kmsg::write(Level::Notice, &format!("holdfast: {text}"));
}

/// Says what failed and is gone without.
pub(crate) fn warning(text: impl Display) {
    kmsg::write(Level::Warning, &format!("holdfast: {text}"));
}

/// Says what failed and needs somebody to act.
pub(crate) fn error(text: impl Display) {
    kmsg::write(Level::Error, &format!("holdfast: {text}"));
}

/// An error and its causes, one after the other.
pub(crate) fn chain(error: &dyn Error) -> impl Display {
    fmt::from_fn(move |f| {
        write!(f, "{error}")?;
        let mut cause = error.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    })
}
