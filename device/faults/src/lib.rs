//! Fault rules: triggers, actions, counters; pure data and matching
