//! The five revisions of MCP, and every question whose answer depends on the revision.

use std::fmt;

/// A revision of the Model Context Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2024-11-05: `initialize`, HTTP+SSE.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, batches, audio.
    V2025_03_26,
    /// 2025-06-18: version header, elicitation, structured content, no batches.
    V2025_06_18,
    /// 2025-11-25: priming events, tasks, URL elicitation.
    V2025_11_25,
    /// 2026-07-28: stateless; metadata in every request.
    V2026_07_28,
}

/// The two eras: with sessions, and without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// `initialize` and sessions (2024-11-05 to 2025-11-25).
    Legacy,
    /// Stateless, metadata in every request (2026-07-28).
    Modern,
}

impl Version {
    /// Every revision, oldest first.
    pub const ALL: [Self; 5] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];

    /// The newest revision with sessions: what an unknown `initialize` is answered with.
    pub const LEGACY_LATEST: Self = Self::V2025_11_25;

    /// The modern revision.
    pub const MODERN: Self = Self::V2026_07_28;

    /// The revision of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == name)
    }

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Its era.
    #[must_use]
    pub fn era(self) -> Era {
        if self == Self::V2026_07_28 { Era::Modern } else { Era::Legacy }
    }

    /// The revision that answers an `initialize` which asks for `requested` (BRIDGE.md 1b).
    #[must_use]
    pub fn negotiate(requested: &str) -> Self {
        Self::parse(requested).filter(|version| version.era() == Era::Legacy).unwrap_or(Self::LEGACY_LATEST)
    }

    /// Streams open with an empty priming event and may close early with `retry` (2025-11-25 only).
    #[must_use]
    pub fn has_priming(self) -> bool {
        self == Self::V2025_11_25
    }

    /// JSON-RPC batches may be received (2025-03-26 only).
    #[must_use]
    pub fn has_batches(self) -> bool {
        self == Self::V2025_03_26
    }

    /// Requests after `initialize` carry `MCP-Protocol-Version` (from 2025-06-18).
    #[must_use]
    pub fn has_version_header(self) -> bool {
        self >= Self::V2025_06_18
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        assert_eq!(Version::parse("2025-11-26"), None);
    }

    #[test]
    fn initialize_is_negotiated_within_the_legacy_era() {
        assert_eq!(Version::negotiate("2024-11-05"), Version::V2024_11_05);
        assert_eq!(Version::negotiate("2026-07-28"), Version::V2025_11_25);
        assert_eq!(Version::negotiate("1999-01-01"), Version::V2025_11_25);
    }
}
