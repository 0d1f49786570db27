//! What the frames of a connection are for, and what that allows its peer. Pure.
//!
//! A connection whose peer has to prove who it is begins before requests: its frames are small, come one at
//! a time, and lead to requests soon or not at all. The proof changes the stage between two frames: what
//! came behind the frame that completed it is measured by what holds from then on.
//!
//! No listener asks for a proof so far, so every connection begins with requests.

use corelane_core::time::Nanos;

use super::{ConnLimits, Principal};

/// What frames mean now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Each is a part of a proof.
    Proof,
    /// Each is a request.
    Requests,
}

impl Stage {
    /// Where somebody stands who is known as this.
    pub(super) fn of(principal: &Principal) -> Self {
        match principal {
            Principal::Unproven => Self::Proof,
            Principal::Anonymous => Self::Requests,
        }
    }

    pub(super) fn frame_bytes_max(self, limits: &ConnLimits) -> u32 {
        match self {
            Self::Proof => limits.proof_bytes_max.min(limits.frame_bytes_max),
            Self::Requests => limits.frame_bytes_max,
        }
    }

    /// The stage may be another after each step of a proof, so no frame is looked at before.
    pub(super) fn in_flight_max(self, limits: &ConnLimits) -> usize {
        match self {
            Self::Proof => 1,
            Self::Requests => limits.in_flight_max,
        }
    }

    /// When the connection must be in another stage.
    pub(super) fn deadline(self, began: Nanos, limits: &ConnLimits) -> Option<Nanos> {
        match self {
            Self::Proof => Some(began + limits.proof),
            Self::Requests => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_proven_is_allowed_little_and_never_more_than_others() {
        for (proof_bytes_max, frame_bytes_max) in [(64, 1000), (1000, 64), (7, 7)] {
            let limits = ConnLimits { proof_bytes_max, frame_bytes_max, ..ConnLimits::default() };
            let (before, after) =
                (Stage::of(&Principal::Unproven), Stage::of(&Principal::Anonymous));
            assert_eq!(before.frame_bytes_max(&limits), proof_bytes_max.min(frame_bytes_max));
            assert_eq!(after.frame_bytes_max(&limits), frame_bytes_max);
            assert_eq!((before.in_flight_max(&limits), after.in_flight_max(&limits)), (1, 64));
            let began = Nanos::secs(5);
            assert_eq!(before.deadline(began, &limits), Some(began + limits.proof));
            assert_eq!(after.deadline(began, &limits), None);
        }
    }
}
