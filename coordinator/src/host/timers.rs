//! The host's clock: one alarm per group, and the rounds of expiry.

use std::ops::Bound;

use super::{Host, NEVER_MS, Phase};
use crate::api::{Now, Outcome};
use crate::limits::{EXPIRY_BACKOFF_MS, EXPIRY_GROUPS_PER_TICK_MAX, WRITES_IN_FLIGHT_MAX};

impl Host {
    /// When to call [`Host::tick`] at the latest, in monotonic milliseconds. May turn out to be early.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let alarm_ms = self.alarms.first().map_or(NEVER_MS, |(alarm_ms, _)| *alarm_ms);
        Some(alarm_ms.min(self.expiry_due_ms)).filter(|deadline_ms| *deadline_ms != NEVER_MS)
    }

    /// Time has passed. Called late it does the same, later; called for nothing it does nothing.
    pub fn tick(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        if self.phase != Phase::Serving {
            return out;
        }
        let due: Vec<String> = self
            .alarms
            .iter()
            .take_while(|(alarm_ms, _)| *alarm_ms <= now.monotonic_ms)
            .map(|(_, name)| name.clone())
            .collect();
        for name in due {
            self.ring(now, &name, &mut out);
        }
        if self.expiry_due_ms <= now.monotonic_ms {
            self.expire_some(now, &mut out);
        }
        self.debug_check();
        out
    }

    fn ring(&mut self, now: Now, name: &str, out: &mut Outcome) {
        let group = self.groups.get_mut(name).expect("alarms are the groups'");
        self.alarms.remove(&(group.alarm_ms, name.to_owned()));
        group.alarm_ms = NEVER_MS;
        if group.classic.is_at_rest() {
            return;
        }
        self.change(now, name, out, |group, config, effects| {
            group.classic.tick(now, config, effects);
            None
        });
    }

    /// Moves the alarm of a group forward if the group needs it earlier. A later one is left: it rings for nothing
    /// once, which is cheaper than moving it with every heartbeat.
    pub(super) fn set_alarm(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let wake_at_ms = group.classic.wake_at_ms();
        if wake_at_ms < group.alarm_ms {
            self.alarms.remove(&(group.alarm_ms, name.to_owned()));
            self.alarms.insert((wake_at_ms, name.to_owned()));
            group.alarm_ms = wake_at_ms;
        }
    }

    fn expire_some(&mut self, now: Now, out: &mut Outcome) {
        let room = WRITES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.len());
        if room < EXPIRY_GROUPS_PER_TICK_MAX {
            // The log is busy with what clients wait for; nobody waits for this.
            self.expiry_due_ms = now.monotonic_ms.saturating_add(EXPIRY_BACKOFF_MS);
            return;
        }
        let after = self.expiry_after.take().map_or(Bound::Unbounded, Bound::Excluded);
        let groups = self.groups.range::<String, _>((after, Bound::Unbounded));
        let names: Vec<String> =
            groups.map(|(name, _)| name.clone()).take(EXPIRY_GROUPS_PER_TICK_MAX).collect();
        for name in &names {
            self.expire_group(now, name, out);
        }
        if names.len() == EXPIRY_GROUPS_PER_TICK_MAX {
            // More groups wait for their turn; the driver comes back at once.
            self.expiry_after = names.into_iter().next_back();
        } else {
            let interval_ms = self.config.offsets_retention_check_interval_ms;
            self.expiry_due_ms = now.monotonic_ms.saturating_add(interval_ms);
        }
    }
}
