//! The kernels that are known by name: `guest-tests/kernels.toml`, with the configurations and patches that it names.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::apt::Suite;
use crate::misreading::{Misreading, find_key, is_word, nearest};

const FILE: &str = "kernels.toml";
const TEXT: &str = include_str!("../../../kernels.toml");

/// Fragments of configurations that come with the lab.
const CONFIGS: &[(&str, &str)] = &[
    ("small.config", include_str!("../../../configs/small.config")),
    ("lockdep.config", include_str!("../../../configs/lockdep.config")),
    ("kasan.config", include_str!("../../../configs/kasan.config")),
];

/// Patches that come with the lab.
const PATCHES: &[(&str, &str)] = &[
    ("none.patch", include_str!("../../../patches/none.patch")),
    ("v3.patch", include_str!("../../../patches/v3.patch")),
    ("idea-1.patch", include_str!("../../../patches/idea-1.patch")),
    ("idea-2.patch", include_str!("../../../patches/idea-2.patch")),
    ("diff-1.patch", include_str!("../../../patches/diff-1.patch")),
    ("diff-2.patch", include_str!("../../../patches/diff-2.patch")),
];

/// Of a patch's name, what becomes part of a kernel's: `uname -v` has room for 64 bytes.
const LONGEST_STEM: usize = 24;

/// Why there is no kernel of a name.
#[derive(Debug, thiserror::Error)]
pub enum KernelsError {
    /// There is no such kernel.
    #[error("there is no kernel `{name}`{hint}; the names are {names}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// ` (did you mean …?)`, or nothing.
        hint: String,
        /// The legal names.
        names: String,
    },
    /// A kernel that is not built here cannot be patched or configured.
    #[error(
        "kernel `{name}` is Debian's, as shipped: it takes no patch and no configuration; what is built is {names}"
    )]
    Shipped {
        /// What was asked for.
        name: String,
        /// The kernels that are built.
        names: String,
    },
    /// A patch or a fragment of a configuration cannot be read.
    #[error("cannot read {path}: {source}{hint}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
        /// ` (did you mean …?)`, or nothing.
        hint: String,
    },
    /// A file says something that is not legal.
    #[error(transparent)]
    Invalid(#[from] Misreading),
}

/// All of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernels {
    /// Debian's, as shipped; the first one is the default.
    pub stock: Vec<StockKernel>,
    /// What kernels are built from.
    #[serde(default)]
    pub source: Vec<KernelSource>,
    /// Those that the lab builds.
    #[serde(default)]
    pub build: Vec<KernelBuild>,
}

/// A kernel of Debian's, as shipped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockKernel {
    /// Its name.
    pub name: String,
    /// In words.
    pub title: String,
    pub(crate) suite: Suite,
    /// The package that depends on the kernel, perhaps with the suite to take it from (`NAME/SUITE`).
    pub package: String,
}

/// The source of kernels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSource {
    /// Its name.
    pub name: String,
    pub(crate) suite: Suite,
    /// The package that has `usr/src/PACKAGE.tar.xz` in it.
    pub package: String,
    /// About how many files a build from nothing compiles.
    pub files: u64,
}

/// A kernel that the lab builds, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelBuild {
    /// Its name.
    pub name: String,
    /// In words.
    pub title: String,
    /// The name of its source.
    pub source: String,
    /// Fragments of its configuration, on top of tinyconfig; later ones win.
    pub config: Vec<String>,
    /// Its patches, in order.
    #[serde(default)]
    pub patches: Vec<String>,
}

/// A kernel by its name, with what the user adds to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedKernel {
    /// The name.
    pub name: String,
    /// Patches, on top of the kernel's own.
    pub patches: Vec<PathBuf>,
    /// Fragments of configurations, on top of the kernel's own: names of those of the lab, or paths.
    pub configs: Vec<String>,
}

impl NamedKernel {
    /// The name, with those of all that is added.
    #[must_use]
    pub fn full_name(&self) -> String {
        let configs = self.configs.iter().map(|config| suffix(config));
        let patches = self.patches.iter().map(|patch| suffix(&patch.to_string_lossy()));
        std::iter::once(self.name.clone()).chain(configs).chain(patches).collect()
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Stock(StockKernel),
    Build(Plan),
}

/// All that a kernel is built of, but the source itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What it is called; the kernel itself says so in `uname -v`.
    pub(crate) name: String,
    pub(crate) source: KernelSource,
    pub(crate) configs: Vec<Text>,
    pub(crate) patches: Vec<Text>,
}

impl Plan {
    /// In words.
    pub(crate) fn made_of(&self) -> String {
        let names =
            |texts: &[Text]| texts.iter().map(|text| text.name.as_str()).collect::<Vec<_>>().join(", ");
        let (source, configs, patches) = (&self.source.package, names(&self.configs), names(&self.patches));
        format!("{source}, {configs}, {}", if patches.is_empty() { "no patches" } else { &patches })
    }
}

/// A file's name and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Kernels {
    /// Those that come with the lab.
    ///
    /// # Errors
    /// The file that the lab was compiled with is not legal.
    pub fn shipped() -> Result<Self, KernelsError> {
        Self::parse(FILE, TEXT)
    }

    /// Reads them. `file` is what errors call the text.
    ///
    /// # Errors
    /// When it is not legal.
    pub fn parse(file: &str, text: &str) -> Result<Self, KernelsError> {
        let kernels: Self = toml::from_str(text).map_err(|error| Misreading::of_toml(file, text, &error))?;
        kernels.check().map_err(|misfit| {
            Misreading::at(file, text, find_key(text, misfit.key, &misfit.value), misfit.message)
        })?;
        Ok(kernels)
    }

    /// What the types alone do not say.
    fn check(&self) -> Result<(), Misfit> {
        if self.stock.is_empty() {
            return Err(Misfit::new("stock", "", "there is no stock kernel, so no default".to_owned()));
        }
        let mut names: Vec<&str> = Vec::new();
        for name in self.names() {
            check_name(name)?;
            if names.contains(&name) {
                return Err(Misfit::new("name", name, format!("there are two kernels called `{name}`")));
            }
            names.push(name);
        }
        for (index, source) in self.source.iter().enumerate() {
            let name = &source.name;
            check_name(name)?;
            if self.source.iter().skip(index + 1).any(|other| other.name == *name) {
                return Err(Misfit::new("name", name, format!("there are two sources called `{name}`")));
            }
            if source.files == 0 {
                let message = format!("the source `{name}` compiles 0 files: no kernel comes of that");
                return Err(Misfit::new("files", "0", message));
            }
        }
        let stock = self.stock.iter().map(|kernel| kernel.package.as_str());
        for package in stock.chain(self.source.iter().map(|source| source.package.as_str())) {
            let mut parts = package.splitn(2, '/');
            if !parts.all(|part| is_word(part, "+-.") && !part.starts_with(['-', '.', '+'])) {
                let message = format!("`{package}` is no name of a package");
                return Err(Misfit::new("package", package, message));
            }
        }
        self.build.iter().try_for_each(|build| self.check_build(build))
    }

    fn check_build(&self, build: &KernelBuild) -> Result<(), Misfit> {
        let KernelBuild { name, source, config, patches, .. } = build;
        if !self.source.iter().any(|known| known.name == *source) {
            let hint = nearest(source, self.source.iter().map(|known| known.name.as_str()));
            let message = format!("kernel `{name}`: there is no [[source]] called `{source}`{hint}");
            return Err(Misfit::new("source", source, message));
        }
        if config.is_empty() {
            let message =
                format!("kernel `{name}`: tinyconfig alone drives nothing; small.config is what there is");
            return Err(Misfit::new("config", "[]", message));
        }
        for (key, words, shipped) in [("config", config, CONFIGS), ("patches", patches, PATCHES)] {
            for word in words {
                if !shipped.iter().any(|(known, _)| known == word) {
                    let hint = nearest(word, shipped.iter().map(|(known, _)| *known));
                    let message = format!("kernel `{name}`: {key}: there is no `{word}`{hint}");
                    return Err(Misfit::new(key, word, message));
                }
            }
        }
        Ok(())
    }

    /// The names of all kernels, stock ones first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let stock = self.stock.iter().map(|kernel| kernel.name.as_str());
        stock.chain(self.build.iter().map(|kernel| kernel.name.as_str()))
    }

    /// A kernel in words; nothing for one that there is not.
    #[must_use]
    pub fn title(&self, name: &str) -> &str {
        let stock = self.stock.iter().map(|kernel| (&kernel.name, &kernel.title));
        let mut all = stock.chain(self.build.iter().map(|kernel| (&kernel.name, &kernel.title)));
        all.find(|(known, _)| *known == name).map_or("", |(_, title)| title)
    }

    /// What is known by a name, with the texts of all that was added to it.
    pub(crate) fn find(&self, named: &NamedKernel) -> Result<Known, KernelsError> {
        let NamedKernel { name, patches, configs } = named;
        if let Some(stock) = self.stock.iter().find(|kernel| kernel.name == *name) {
            if patches.is_empty() && configs.is_empty() {
                return Ok(Known::Stock(stock.clone()));
            }
            let names: Vec<&str> = self.build.iter().map(|kernel| kernel.name.as_str()).collect();
            return Err(KernelsError::Shipped { name: name.clone(), names: names.join(", ") });
        }
        let unknown = || KernelsError::Unknown {
            name: name.clone(),
            hint: nearest(name, self.names()),
            names: self.names().collect::<Vec<_>>().join(", "),
        };
        let build = self.build.iter().find(|kernel| kernel.name == *name).ok_or_else(unknown)?;
        let source = self.source.iter().find(|source| source.name == build.source).ok_or_else(unknown)?;
        let mut plan = Plan {
            name: named.full_name(),
            source: source.clone(),
            configs: shipped(CONFIGS, &build.config),
            patches: shipped(PATCHES, &build.patches),
        };
        for config in configs {
            plan.configs.push(config_text(config)?);
        }
        for path in patches {
            plan.patches.push(read(path, "")?);
        }
        Ok(Known::Build(plan))
    }
}

/// What every kernel is configured with that the user gives as a tree without a configuration.
pub(crate) fn small_config() -> Vec<Text> {
    shipped(CONFIGS, &["small.config".to_owned()])
}

/// One of the lab's fragments (`lockdep.config` or `lockdep`), or a file.
pub(crate) fn config_text(name: &str) -> Result<Text, KernelsError> {
    let known = |(known, _): &&(&str, &str)| *known == name || known.strip_suffix(".config") == Some(name);
    match CONFIGS.iter().find(known) {
        Some((name, text)) => Ok(Text { name: (*name).to_owned(), text: (*text).to_owned() }),
        None => read(Path::new(name), &nearest(name, CONFIGS.iter().map(|(known, _)| *known))),
    }
}

fn shipped(all: &[(&str, &str)], names: &[String]) -> Vec<Text> {
    let found = names.iter().filter_map(|name| all.iter().find(|(known, _)| known == name));
    found.map(|(name, text)| Text { name: (*name).to_owned(), text: (*text).to_owned() }).collect()
}

fn read(path: &Path, hint: &str) -> Result<Text, KernelsError> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok(Text { name, text }),
        Err(source) => Err(KernelsError::Read { path: name, source, hint: hint.to_owned() }),
    }
}

/// `+` and a file's name without its end, of characters that a directory and `uname -v` can have.
fn suffix(file: &str) -> String {
    let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    format!("+{}", stem.chars().map(legal).take(LONGEST_STEM).collect::<String>())
}

/// Something that is not legal: the key to point at, what stands there, and the message.
struct Misfit {
    key: &'static str,
    value: String,
    message: String,
}

impl Misfit {
    fn new(key: &'static str, value: &str, message: String) -> Self {
        Self { key, value: value.to_owned(), message }
    }
}

fn check_name(name: &str) -> Result<(), Misfit> {
    if is_word(name, ".-") && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    let message = format!(
        "`{name}`: a name has lower-case letters, digits, dots and hyphens: it is a directory's name"
    );
    Err(Misfit::new("name", name, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> NamedKernel {
        NamedKernel { name: name.into(), ..NamedKernel::default() }
    }

    fn plan(named: &NamedKernel) -> Plan {
        match Kernels::shipped().unwrap().find(named).unwrap() {
            Known::Build(plan) => plan,
            Known::Stock(stock) => panic!("{} is a stock kernel", stock.name),
        }
    }

    #[test]
    fn the_shipped_kernels_are_the_three_of_debian_and_the_six_proposals() {
        let kernels = Kernels::shipped().unwrap();
        assert_eq!(
            kernels.names().collect::<Vec<_>>(),
            [
                "6.1",
                "6.12",
                "backports",
                "6.1-none",
                "6.1-v3",
                "6.1-idea-1",
                "6.1-idea-2",
                "6.1-diff-1",
                "6.1-diff-2"
            ]
        );
        for build in &kernels.build {
            let plan = plan(&named(&build.name));
            assert_eq!(plan.configs.len(), build.config.len());
            assert_eq!(plan.patches.first().unwrap().name, "none.patch", "{}", build.name);
            assert_eq!(plan.patches.len(), build.patches.len());
        }
    }

    #[test]
    fn every_patch_says_whose_it_is_and_what_came_of_it() {
        for (name, text) in PATCHES {
            for part in ["From: ", "Subject: [PATCH] ", "[PATCH v3]", "SPDX-License-Identifier: GPL-2.0\n"] {
                assert!(text.contains(part), "{name}: {part}");
            }
            if *name != "none.patch" {
                assert!(text.contains("Whose idea it is: ") && text.contains("What came of it: "), "{name}");
            }
        }
    }

    /// The message about the shipped file with one change, which has to point at the changed line.
    fn refusal(from: &str, to: &str) -> String {
        assert!(TEXT.contains(from), "{from}");
        let text = TEXT.replacen(from, to, 1);
        let message = Kernels::parse("k.toml", &text).unwrap_err().to_string();
        let line: usize = message.split(':').nth(1).unwrap().parse().unwrap();
        let shown = text.lines().nth(line - 1).unwrap();
        assert!(to.contains(shown) || shown.contains(to), "{message}\n{shown}");
        message
    }

    #[test]
    fn what_is_not_legal_is_refused_at_its_line_with_the_nearest_word() {
        for (from, to, says) in [
            ("suite = \"bookworm\"", "suite = \"bookwrom\"", "did you mean `bookworm`?"),
            ("package = \"linux-source-6.1\"", "packages = \"linux-source-6.1\"", "did you mean `package`?"),
            ("source = \"6.1\"\nconfig", "source = \"6.2\"\nconfig", "did you mean `6.1`?"),
            ("\"none.patch\", \"v3.patch\"", "\"none.patch\", \"v4.patch\"", "did you mean `v3.patch`?"),
            ("config = [\"small.config\"]", "config = [\"small.conf\"]", "did you mean `small.config`?"),
            ("config = [\"small.config\"]", "config = []", "tinyconfig alone"),
            ("name = \"6.12\"", "name = \"6.1/2\"", "a directory's name"),
            ("name = \"6.1-v3\"", "name = \"6.1-none\"", "two kernels called `6.1-none`"),
            ("files = 1200", "files = 0", "compiles 0 files"),
            ("package = \"linux-source-6.1\"", "package = \"a b\"", "no name of a package"),
            ("package = \"linux-source-6.1\"", "package = \"-o\"", "no name of a package"),
        ] {
            let message = refusal(from, to);
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn without_a_stock_kernel_there_is_no_default() {
        let message = Kernels::parse("k.toml", "stock = []\n").unwrap_err().to_string();
        assert!(message.starts_with("k.toml:1:") && message.contains("no default"), "{message}");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_all() {
        let message = Kernels::shipped().unwrap().find(&named("6.1-diff2")).unwrap_err().to_string();
        assert!(message.contains("did you mean `6.1-diff-2`?") && message.contains("backports"), "{message}");
    }

    #[test]
    fn what_is_added_is_in_the_kernel_s_name() {
        let dir = tempfile::tempdir().unwrap();
        let patch = dir.path().join("my fix of the day, with a long name.patch");
        fs::write(&patch, "text").unwrap();
        let named = NamedKernel {
            name: "6.1-none".into(),
            patches: vec![patch],
            configs: vec!["lockdep".into(), "kasan.config".into()],
        };
        let plan = plan(&named);
        assert_eq!(plan.name, "6.1-none+lockdep+kasan+my-fix-of-the-day--with-");
        assert_eq!(plan.patches.last().unwrap().text, "text");
        assert_eq!(plan.configs.len(), 3);
    }

    #[test]
    fn debian_s_own_kernels_take_no_patch() {
        let named = NamedKernel { patches: vec!["x.patch".into()], ..named("6.1") };
        let message = Kernels::shipped().unwrap().find(&named).unwrap_err().to_string();
        assert!(message.contains("as shipped") && message.contains("6.1-none"), "{message}");
    }

    #[test]
    fn a_fragment_that_is_nowhere_is_named_with_the_nearest() {
        let named = NamedKernel { configs: vec!["lockdpe.config".into()], ..named("6.1-none") };
        let message = Kernels::shipped().unwrap().find(&named).unwrap_err().to_string();
        assert!(message.contains("lockdpe.config") && message.contains("`lockdep.config`?"), "{message}");
    }
}
