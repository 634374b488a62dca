//! The sdmorph command.
fn main() {}
