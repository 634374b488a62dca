//! `sdmorph lab`.
use crate::Failure;
use crate::arguments::LabOptions;
/// Runs the lab.
pub(crate) fn run(options: &LabOptions) -> Result<(), Failure> {
    match options.command {}
}
