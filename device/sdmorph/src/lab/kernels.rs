//! `sdmorph lab kernels`, `sdmorph lab build`, and which kernel the options mean.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use sdmorph_lab::assets::{
    self, KernelChoice, NamedKernel, OwnKernel, OwnTree, Progress, Store, list_kernels,
};

use crate::arguments::{BuildOptions, KernelOptions, KernelsOptions};
use crate::{Failure, output};

/// `--kernel`, else what the environment names, else 6.1.
pub(crate) fn chosen(
    options: &KernelOptions,
    modules: Option<&PathBuf>,
    kdir: Option<&PathBuf>,
) -> Result<KernelChoice, Failure> {
    let KernelOptions { kernel, patch, config } = options;
    let choice = match (kernel, KernelChoice::from_env()) {
        (Some(text), _) => by_name_or_path(text, modules, kdir)?,
        (None, Some(choice)) => choice,
        (None, None) => KernelChoice::default(),
    };
    with(choice, patch, config)
}

pub(crate) fn by_name_or_path(
    text: &str,
    modules: Option<&PathBuf>,
    kdir: Option<&PathBuf>,
) -> Result<KernelChoice, Failure> {
    let path = PathBuf::from(text);
    let unknown = match KernelChoice::named(NamedKernel { name: text.to_owned(), ..NamedKernel::default() }) {
        Ok(choice) => return Ok(choice),
        Err(error) => error,
    };
    if path.is_dir() {
        return Ok(KernelChoice::Tree(OwnTree { dir: path, configs: Vec::new() }));
    }
    if !path.is_file() {
        return Err(Failure::BadInput(anyhow!("{unknown}; or give the path of an image or a tree")));
    }
    Ok(KernelChoice::Own(OwnKernel {
        image: path,
        modules: modules.cloned().or_else(|| assets::path_from_env("MODULES")),
        tree: kdir.cloned().or_else(|| assets::path_from_env("KDIR")),
    }))
}

/// The kernel with patches and fragments of configurations on top of its own, as far as it takes them.
pub(crate) fn with(
    choice: KernelChoice,
    patches: &[PathBuf],
    configs: &[String],
) -> Result<KernelChoice, Failure> {
    let refuse = |why: &str, path: &Path| Err(Failure::BadInput(anyhow!("{}: {why}", path.display())));
    match choice {
        KernelChoice::Named(named) => {
            let (patches, configs) = (patches.to_vec(), configs.to_vec());
            KernelChoice::named(NamedKernel { patches, configs, ..named })
                .map_err(|error| Failure::BadInput(error.into()))
        }
        KernelChoice::Tree(tree) if patches.is_empty() => {
            Ok(KernelChoice::Tree(OwnTree { configs: configs.to_vec(), ..tree }))
        }
        KernelChoice::Tree(tree) => refuse("your own tree is built as it is: apply --patch there", &tree.dir),
        KernelChoice::Own(own) if !patches.is_empty() || !configs.is_empty() => {
            refuse("a kernel that is built already takes neither --patch nor --config", &own.image)
        }
        KernelChoice::Own(own) => Ok(KernelChoice::Own(own)),
    }
}

/// `lab kernels`.
pub(crate) fn list(options: &KernelsOptions) -> Result<(), Failure> {
    let wrap = |error: assets::Error| Failure::Surroundings(error.into());
    let kernels = list_kernels(&Store::open().map_err(wrap)?).map_err(wrap)?;
    if options.json {
        return output::json(&kernels);
    }
    let lines = kernels.iter().map(|kernel| {
        let cached = if kernel.cached { "cached" } else { "not cached" };
        format!("{}\n    {}\n    {}; {cached}\n", kernel.name, kernel.title, kernel.made_of)
    });
    output::print(&lines.collect::<String>())
}

/// `lab build`.
pub(crate) fn build(options: &BuildOptions) -> Result<(), Failure> {
    let BuildOptions { kernel, patch, config, refresh, json } = options;
    let choice = match (kernel, KernelChoice::from_env()) {
        (Some(text), _) => by_name_or_path(text, None, None)?,
        (None, Some(choice @ KernelChoice::Tree(_))) => choice,
        (None, _) => {
            return Err(Failure::BadInput(anyhow!(
                "say which kernel: a name (see `sdmorph lab kernels`), a tree, or KERNEL_TREE="
            )));
        }
    };
    let choice = with(choice, patch, config)?;
    let progress = if *json { Progress::Silent } else { Progress::detect() };
    let wrap = |error: assets::Error| Failure::Surroundings(error.into());
    let kernel = assets::kernel(&choice, *refresh, &Store::open().map_err(wrap)?, progress).map_err(wrap)?;
    if *json {
        return output::json(&kernel);
    }
    output::print(&format!("{}\n", kernel.kernel.image.display()))
}
