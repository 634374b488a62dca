//! When rules match, hit, wait and are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod actions;
mod bench;
mod guards;
mod matching;
mod messages;
mod set;
mod triggers;
