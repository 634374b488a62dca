//! Which kernel the guest runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kernels::{Kernels, KernelsError, NamedKernel};

/// Which kernel the guest runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelChoice {
    /// One that is known by name ([`Kernels`]), stock or built here.
    Named(NamedKernel),
    /// One that the user has built.
    Own(OwnKernel),
    /// The user's tree, which is built first.
    Tree(OwnTree),
}

/// A kernel that the user built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKernel {
    /// The bzImage (`KERNEL=`).
    pub image: PathBuf,
    /// Its modules, `lib/modules/RELEASE` (`MODULES=`); none if everything is built in.
    pub modules: Option<PathBuf>,
    /// The tree it was built in (`KDIR=`), where its configuration is and modules can be built against.
    pub tree: Option<PathBuf>,
}

/// A kernel tree of the user's (`KERNEL_TREE=`). Configured, it is built in place, as it is; otherwise out of tree, with
/// the lab's small configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnTree {
    /// Where the tree is.
    pub dir: PathBuf,
    /// Fragments on top of the small configuration, for a tree without one: names of those of the lab, or paths.
    pub configs: Vec<String>,
}

impl KernelChoice {
    /// A kernel by its name.
    ///
    /// # Errors
    /// There is none of that name, it takes no patches, or something that is to be added cannot be read.
    pub fn named(kernel: NamedKernel) -> Result<Self, KernelsError> {
        Kernels::shipped()?.find(&kernel)?;
        Ok(Self::Named(kernel))
    }

    /// The kernel named by the environment (`KERNEL_TREE=`, or else `KERNEL=`, `MODULES=`, `KDIR=`), if there is one.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        Self::from_variables(super::path_from_env)
    }

    fn from_variables(path: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        if let Some(dir) = path("KERNEL_TREE") {
            return Some(Self::Tree(OwnTree { dir, configs: Vec::new() }));
        }
        Some(Self::Own(OwnKernel { image: path("KERNEL")?, modules: path("MODULES"), tree: path("KDIR") }))
    }

    /// The image of a kernel that no guest module can be built for, as nobody has said which tree it was built in.
    pub(crate) fn without_tree(&self) -> Option<&Path> {
        match self {
            Self::Own(OwnKernel { tree: None, image, .. }) => Some(image),
            Self::Named(_) | Self::Own(_) | Self::Tree(_) => None,
        }
    }

    /// One of Debian's as shipped: those have the fix.
    #[must_use]
    pub fn is_stock(&self) -> bool {
        let Self::Named(named) = self else { return false };
        let stock = |kernels: Kernels| kernels.stock.iter().any(|kernel| kernel.name == named.name);
        Kernels::shipped().is_ok_and(stock)
    }
}

/// Debian 12's, as shipped.
impl Default for KernelChoice {
    fn default() -> Self {
        Self::Named(NamedKernel { name: "6.1".to_owned(), ..NamedKernel::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_an_own_kernel_only_with_an_image() {
        let only_modules = |name: &str| (name == "MODULES").then(|| PathBuf::from("/m"));
        assert_eq!(KernelChoice::from_variables(only_modules), None);
        let both =
            |name: &str| ["KERNEL", "MODULES"].contains(&name).then(|| PathBuf::from(format!("/{name}")));
        let expected = OwnKernel { image: "/KERNEL".into(), modules: Some("/MODULES".into()), tree: None };
        assert_eq!(KernelChoice::from_variables(both), Some(KernelChoice::Own(expected)));
    }

    #[test]
    fn a_tree_goes_before_a_kernel_that_was_built_earlier() {
        let all = |name: &str| Some(PathBuf::from(format!("/{name}")));
        let expected = OwnTree { dir: "/KERNEL_TREE".into(), configs: Vec::new() };
        assert_eq!(KernelChoice::from_variables(all), Some(KernelChoice::Tree(expected)));
    }

    #[test]
    fn the_default_is_the_first_of_the_stock_kernels() {
        let first = Kernels::shipped().unwrap().stock.remove(0).name;
        let KernelChoice::Named(named) = KernelChoice::default() else { panic!("not a named kernel") };
        assert_eq!(named.name, first);
        assert!(KernelChoice::named(named).unwrap().is_stock());
        let built = NamedKernel { name: "6.1-diff-2".into(), ..NamedKernel::default() };
        assert!(!KernelChoice::named(built).unwrap().is_stock());
    }
}
