//! What a run needs from outside: a QEMU, a kernel with its modules, busybox, guest modules, programs for the guest.
//!
//! Everything is looked for in this order: what the user names (`QEMU=`, `KERNEL_TREE=`, `KERNEL=`, `MODULES=`, `KDIR=`,
//! `BUSYBOX=`), what the system has (QEMU only), the cache ([`Store`]), Debian's archive (`apt`). Kernels are known by
//! name ([`Kernels`]): Debian's, and those that the lab builds (`build`).
//! Once cached, nothing is fetched and apt does not run until a refresh is asked for.
//!
//! Not done: other architectures than amd64; kernels of other distributions (give `KERNEL=`); programs that are not
//! in Debian's archive; removing old versions from the cache.

mod apt;
mod build;
mod choice;
mod cpio;
mod error;
pub(crate) mod guest_module;
mod initramfs;
mod kconfig;
mod kernel;
mod kernels;
mod kmod;
mod programs;
mod progress;
mod qemu;
mod store;
mod toolchain;
pub(crate) mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use apt::{Apt, Suite};
use build::Built;
pub use choice::{KernelChoice, OwnKernel, OwnTree};
pub use error::{Error, ErrorKind, Result};
use guest_module::GuestModule;
pub use initramfs::Contents;
pub(crate) use initramfs::TRACE;
pub use kernel::Kernel;
pub(crate) use kernels::Known;
pub use kernels::{KernelBuild, KernelSource, Kernels, KernelsError, NamedKernel, StockKernel};
pub use programs::{GuestFile, Packages, Source};
pub use progress::{Progress, Step};
pub use qemu::{Accel, Qemu};
pub(crate) use store::sha256_file;
use store::sha256_hex;
pub use store::{Store, StoreLock};
use toolchain::BuildRoot;

/// What a variable of the environment names; empty, it names nothing.
#[must_use]
pub fn path_from_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What the user gives instead of what would be found or fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `QEMU=`: a qemu-system-x86_64.
    pub qemu: Option<OsString>,
    /// `BUSYBOX=`: a static busybox.
    pub busybox: Option<OsString>,
}

impl Overrides {
    /// From the environment; empty values count as absent.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name| path_from_env(name).map(PathBuf::into_os_string);
        Self { qemu: variable("QEMU"), busybox: variable("BUSYBOX") }
    }
}

/// What guests need beside what every guest gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Kernel modules; what they depend on is found.
    pub modules: BTreeSet<String>,
    /// Programs of Debian packages.
    pub packages: Packages,
    /// Programs of the lab's own.
    pub tools: BTreeSet<String>,
    /// Kernel modules of the lab's own.
    pub kernel_modules: BTreeSet<String>,
}

impl Needs {
    /// These and those of another guest.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.modules.extend(other.modules.iter().cloned());
        self.packages = programs::union(self.packages, &other.packages);
        self.tools.extend(other.tools.iter().cloned());
        self.kernel_modules.extend(other.kernel_modules.iter().cloned());
        self
    }
}

/// What to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The kernels, in the order wanted.
    pub kernels: Vec<KernelChoice>,
    /// Build the module that takes the fix out, for each of them.
    pub unfix: bool,
    /// What the guests need beside, on each of the kernels.
    pub needs: Needs,
    /// Ask the archive for newer versions even if everything is cached.
    pub refresh: bool,
    /// The user's own files.
    pub overrides: Overrides,
}

/// A kernel and what was built for it.
#[derive(Debug, Clone, Serialize)]
pub struct GuestKernel {
    /// What it is called: its name in [`Kernels`] with what was added to it, or the path of an own image or tree.
    pub name: String,
    /// What it is, as opposed to others of that name or release: two kernels that have it in common are the same.
    pub content: String,
    /// The kernel.
    #[serde(flatten)]
    pub kernel: Kernel,
    /// The module that takes the fix out, if it was asked for.
    pub unfix: Option<PathBuf>,
    /// The other modules of the lab's own that were asked for, by name.
    pub kernel_modules: BTreeMap<String, PathBuf>,
    /// The programs that were asked for: of packages, with their libraries, from the kernel's own Debian release, or the
    /// newest one that is known for a kernel of the user's own; and the lab's own.
    pub programs: Vec<GuestFile>,
}

/// Everything that was asked for, ready to use: also the summary of `sdmorph lab setup`.
#[derive(Debug, Clone, Serialize)]
pub struct Assets {
    /// The QEMU to run.
    pub qemu: Qemu,
    /// How it will run the guest.
    pub accel: Accel,
    /// The static busybox.
    pub busybox: PathBuf,
    /// One for each kernel of the request, in its order.
    pub kernels: Vec<GuestKernel>,
    /// Where the cache is.
    pub cache: PathBuf,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
}

/// Gets everything a run needs. Blocks, for minutes if the cache is empty; shows its progress.
///
/// # Errors
/// Whatever keeps the request from being fulfilled, with what to do about it: see [`Error`].
pub fn setup(request: &Request, store: &Store, progress: Progress) -> Result<Assets> {
    let started = Instant::now();
    let mut fetcher = Fetcher::open(store, progress, request.refresh)?;
    let qemu = Qemu::obtain(request.overrides.qemu.as_deref(), &mut fetcher)?;
    let busybox = initramfs::obtain_busybox(request.overrides.busybox.as_deref(), &mut fetcher)?;
    let mut kernels = Vec::new();
    for choice in &request.kernels {
        kernels.push(obtain(choice, request, &mut fetcher)?);
    }
    Ok(Assets {
        qemu,
        accel: Accel::detect(),
        busybox,
        kernels,
        cache: store.root().to_path_buf(),
        elapsed_s: started.elapsed().as_secs_f64(),
    })
}

/// Gets a kernel alone: fetches or builds it. Blocks, and shows its progress.
///
/// # Errors
/// Whatever keeps it from being fetched or built: see [`Error`].
pub fn kernel(
    choice: &KernelChoice,
    refresh: bool,
    store: &Store,
    progress: Progress,
) -> Result<GuestKernel> {
    let mut fetcher = Fetcher::open(store, progress, refresh)?;
    let request = Request {
        kernels: Vec::new(),
        unfix: false,
        needs: Needs::default(),
        refresh,
        overrides: Overrides::default(),
    };
    obtain(choice, &request, &mut fetcher)
}

/// Builds a kernel tree of the user's, or what has changed in it. Blocks, and shows its progress.
///
/// # Errors
/// It does not build, or is no tree: see [`Error`].
pub fn build_tree(tree: &OwnTree, store: &Store, progress: Progress) -> Result<OwnKernel> {
    build::obtain_own_tree(tree, store, progress).map(|(kernel, _lock)| kernel)
}

fn obtain(choice: &KernelChoice, request: &Request, fetcher: &mut Fetcher<'_>) -> Result<GuestKernel> {
    match choice {
        KernelChoice::Named(named) => match Kernels::shipped()?.find(named)? {
            Known::Stock(stock) => obtain_stock(&stock, request, fetcher),
            Known::Build(plan) => obtain_built(Built::obtain(plan, fetcher)?, request, fetcher),
        },
        KernelChoice::Own(own) => {
            let lock = match &own.tree {
                Some(tree) => {
                    Some(fetcher.unlocked(|store, progress| build::lock_own_tree(tree, store, progress))?)
                }
                None => None,
            };
            obtain_own(own, lock.as_ref(), own.image.display().to_string(), request, fetcher)
        }
        KernelChoice::Tree(tree) => {
            let (own, lock) =
                fetcher.unlocked(|store, progress| build::obtain_own_tree(tree, store, progress))?;
            obtain_own(&own, Some(&lock), tree.dir.display().to_string(), request, fetcher)
        }
    }
}

fn obtain_stock(stock: &StockKernel, request: &Request, fetcher: &mut Fetcher<'_>) -> Result<GuestKernel> {
    let kernel = Kernel::obtain_stock(stock, &request.needs.modules, fetcher)?;
    let (unfix, kernel_modules) =
        own_modules(request, |module| guest_module::obtain_stock(module, stock, &kernel, fetcher))?;
    let mut programs = programs::obtain(&request.needs.packages, stock.suite, fetcher)?;
    let root = |fetcher: &mut Fetcher<'_>| BuildRoot::prepare(stock, &kernel.release, fetcher).map(Some);
    programs.extend(tools::obtain(&request.needs.tools, root, fetcher)?);
    let content = image_content(&kernel)?;
    Ok(GuestKernel { name: stock.name.clone(), content, kernel, unfix, kernel_modules, programs })
}

fn obtain_built(built: Built, request: &Request, fetcher: &mut Fetcher<'_>) -> Result<GuestKernel> {
    let kernel = built.kernel(&request.needs.modules)?;
    let (unfix, kernel_modules) =
        own_modules(request, |module| guest_module::obtain_built(module, &built, &kernel, fetcher))?;
    let mut programs = programs::obtain(&request.needs.packages, built.suite(), fetcher)?;
    let root = |fetcher: &mut Fetcher<'_>| BuildRoot::of_built(&built, fetcher).map(Some);
    programs.extend(tools::obtain(&request.needs.tools, root, fetcher)?);
    let (name, content) = (built.name().to_owned(), built.version().to_owned());
    Ok(GuestKernel { name, content, kernel, unfix, kernel_modules, programs })
}

/// `lock` is the tree's, if there is one.
fn obtain_own(
    own: &OwnKernel,
    lock: Option<&File>,
    name: String,
    request: &Request,
    fetcher: &mut Fetcher<'_>,
) -> Result<GuestKernel> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    let kernel = Kernel::obtain_own(own, &request.needs.modules, store, progress)?;
    let (unfix, kernel_modules) = own_modules(request, |module| match &own.tree {
        Some(tree) => guest_module::obtain_own(module, tree, lock, &kernel, store, progress),
        None => Err(Error::Unusable(format!(
            "kernel {}: to build the module {} for it, give KDIR=, the tree it was built in",
            kernel.release,
            module.name()
        ))),
    })?;
    let mut programs = programs::obtain(&request.needs.packages, Suite::Trixie, fetcher)?;
    programs.extend(tools::obtain(&request.needs.tools, |_| Ok(None), fetcher)?);
    let content = image_content(&kernel)?;
    Ok(GuestKernel { name, content, kernel, unfix, kernel_modules, programs })
}

/// The lab's own modules: the one that takes the fix out, and the others.
fn own_modules(
    request: &Request,
    mut obtain: impl FnMut(GuestModule) -> Result<PathBuf>,
) -> Result<(Option<PathBuf>, BTreeMap<String, PathBuf>)> {
    let unfix = if request.unfix { Some(obtain(guest_module::find(guest_module::UNFIX)?)?) } else { None };
    let mut others = BTreeMap::new();
    for name in &request.needs.kernel_modules {
        others.insert(name.clone(), obtain(guest_module::find(name)?)?);
    }
    Ok((unfix, others))
}

/// Of a kernel that the lab has not built, the image and the modules are what there is to know it by: a driver may be in
/// either.
fn image_content(kernel: &Kernel) -> Result<String> {
    let mut digests = sha256_file(&kernel.image)?;
    for module in &kernel.modules {
        digests.push_str(&sha256_file(module)?);
    }
    let hash: String = sha256_hex(digests.as_bytes()).chars().take(16).collect();
    Ok(format!("{}-{hash}", kernel.release))
}

/// What a module of `guest-tests/modules` is built of.
pub(crate) fn guest_module_source(name: &str) -> Result<String> {
    guest_module::find(name).map(|module| module.contents())
}

/// One of the kernels that are known by name, for a list of them.
#[derive(Debug, Clone, Serialize)]
pub struct ListedKernel {
    /// Its name.
    pub name: String,
    /// In words.
    pub title: String,
    /// What it is: the package, or the source with configuration and patches.
    pub made_of: String,
    /// It is in the cache: neither fetched nor built when it is asked for.
    pub cached: bool,
}

/// The kernels that are known by name, in the order of the file.
///
/// # Errors
/// The file that the lab was compiled with is not legal.
pub fn list_kernels(store: &Store) -> Result<Vec<ListedKernel>> {
    let kernels = Kernels::shipped()?;
    let mut list = Vec::new();
    for name in kernels.names() {
        let named = NamedKernel { name: name.to_owned(), ..NamedKernel::default() };
        let (made_of, cached) = match kernels.find(&named)? {
            Known::Stock(stock) => {
                let current = store.current(&kernel::stock_key(&stock), Progress::Silent);
                (format!("package {} of {}", stock.package, stock.suite), current.is_some())
            }
            Known::Build(plan) => (plan.made_of(), build::is_cached(&plan, store)),
        };
        let title = kernels.title(name).to_owned();
        list.push(ListedKernel { name: name.to_owned(), title, made_of, cached });
    }
    Ok(list)
}

/// One pass over the request: each suite's lists are read at most once, and only if something is missing.
#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    store: &'a Store,
    progress: Progress,
    refresh: bool,
    apts: BTreeMap<Suite, Apt>,
    lock: Option<StoreLock>,
}

impl<'a> Fetcher<'a> {
    /// With the cache's lock.
    fn open(store: &'a Store, progress: Progress, refresh: bool) -> Result<Self> {
        let lock = Some(store.lock(progress)?);
        Ok(Self { store, progress, refresh, apts: BTreeMap::new(), lock })
    }

    /// Lets others use the cache during `work`, which takes minutes, or waits for another process that takes as long.
    /// Whoever has the cache's lock waits for no other lock: so nobody waits for each other.
    ///
    /// No directory of [`Store::scratch`] may be in use: whoever gets the lock removes it.
    fn unlocked<T>(&mut self, work: impl FnOnce(&Store, Progress) -> Result<T>) -> Result<T> {
        self.lock = None;
        let result = work(self.store, self.progress);
        self.lock = Some(self.store.lock(self.progress)?);
        result
    }
    fn apt(&mut self, suite: Suite) -> Result<&Apt> {
        use std::collections::btree_map::Entry;
        match self.apts.entry(suite) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(Apt::open(self.store, suite, self.progress)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn others_use_the_cache_while_a_kernel_is_built_and_not_before_or_after() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path()).unwrap();
        let file = std::fs::File::create(dir.path().join("lock")).unwrap();
        let is_free = || {
            let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            flock(&file, FlockOperation::Unlock).unwrap();
            free
        };
        let mut fetcher = Fetcher::open(&store, Progress::Silent, false).unwrap();
        assert!(!is_free());
        assert!(fetcher.unlocked(|_, _| Ok(is_free())).unwrap());
        assert!(!is_free());
        let failed = fetcher.unlocked(|_, _| Err::<(), _>(Error::Unusable("no".into())));
        assert!(failed.is_err() && !is_free());
        drop(fetcher);
        assert!(is_free());
    }

    #[test]
    fn every_kernel_is_listed_with_what_it_is_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let list = list_kernels(&Store::at(dir.path()).unwrap()).unwrap();
        let of = |name: &str| list.iter().find(|kernel| kernel.name == name).unwrap();
        assert_eq!(of("6.12").made_of, "package linux-image-amd64 of trixie");
        assert_eq!(of("6.1-v3").made_of, "linux-source-6.1, small.config, none.patch, v3.patch");
        assert!(list.iter().all(|kernel| !kernel.cached && !kernel.title.is_empty()));
    }
}
