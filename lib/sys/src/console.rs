//! What the node says: lines in the kernel log, which reach serial port and screen and never block.
//!
//! Each line begins with `holdfast: `; scripts and tests rely on it. The time is the kernel's own prefix.

use std::fmt::Display;

use crate::kmsg::{self, Level};

/// Says what the node does.
pub fn notice(text: impl Display) {
    kmsg::write(Level::Notice, &format!("holdfast: {text}"));
}

/// Says what failed while the node goes on.
pub fn warning(text: impl Display) {
    kmsg::write(Level::Warning, &format!("holdfast: {text}"));
}

/// Says what failed and somebody has to act on.
pub fn error(text: impl Display) {
    kmsg::write(Level::Error, &format!("holdfast: {text}"));
}

/// An error and its causes, outermost first, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
