//! The whole device, driven through VMD's regions as a host would, with a clock that stands still until it is moved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod book;
mod calls;
mod cards;
mod chips;
mod drive;
mod function;
mod guest;
mod life;
mod messages;
mod morph;
mod nvme;
mod properties;
mod race;
mod registers;
mod replay;
mod rtd3;
mod rules;
mod slot;
