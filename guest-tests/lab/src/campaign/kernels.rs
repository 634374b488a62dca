//! Kernels of a campaign: from a choice to an entry of the plan, and back.

use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::plan::{PlannedKernel, hexadecimal, is_path_component};
use crate::assets::{GuestKernel, KernelChoice, OwnKernel, StockKernel};
use crate::failure::Failure;

/// What the plan says of a kernel. What a stock kernel really is becomes known when it has been fetched: see
/// [`build`].
pub(crate) fn plan(choice: &KernelChoice) -> Result<PlannedKernel, Failure> {
    match choice {
        KernelChoice::Stock(stock) => Ok(PlannedKernel {
            name: stock.name().to_owned(),
            title: format!("Debian's {stock}, as shipped"),
            content: hexadecimal(&Sha256::digest(format!("stock {stock}"))),
            image: None,
            modules: None,
            tree: None,
        }),
        KernelChoice::Own(own) => {
            let image = fs::read(&own.image).map_err(Failure::file("read", &own.image))?;
            let text = |path: &PathBuf| path.to_string_lossy().into_owned();
            let stem =
                own.image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(PlannedKernel {
                name: if is_path_component(&stem) { stem.clone() } else { "own".to_owned() },
                // Not its path: the title is shown to others.
                title: format!("a kernel of the user's own, {stem}"),
                content: hexadecimal(&Sha256::digest(&image)),
                image: Some(text(&own.image)),
                modules: own.modules.as_ref().map(text),
                tree: own.tree.as_ref().map(text),
            })
        }
    }
}

/// The choice that an entry of the plan was made of.
pub(crate) fn choice(planned: &PlannedKernel) -> Result<KernelChoice, Failure> {
    match &planned.image {
        Some(image) => Ok(KernelChoice::Own(OwnKernel {
            image: image.into(),
            modules: planned.modules.as_ref().map(PathBuf::from),
            tree: planned.tree.as_ref().map(PathBuf::from),
        })),
        None => planned.name.parse::<StockKernel>().map(KernelChoice::Stock).map_err(Failure::Options),
    }
}

/// What identifies a kernel that was obtained: runs of two kernels under one name must not meet in a cell.
pub(crate) fn build(kernel: &GuestKernel) -> Result<String, Failure> {
    let image = &kernel.kernel.image;
    let bytes = fs::read(image).map_err(Failure::file("read", image))?;
    Ok(hexadecimal(&Sha256::digest(&bytes)))
}
