//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// One thing to change. Displayed as `FILE:LINE:COLUMN: text`, as compilers do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Nothing when the command line is at fault.
    pub(crate) file: Option<PathBuf>,
    /// Line and column, from 1.
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn on_command_line(text: impl Into<String>) -> Self {
        Self { file: None, at: None, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.at) {
            (Some(file), Some((line, column))) => write!(f, "{}:{line}:{column}: {}", file.display(), self.text),
            (Some(file), None) => write!(f, "{}: {}", file.display(), self.text),
            (None, _) => write!(f, "command line: {}", self.text),
        }
    }
}
