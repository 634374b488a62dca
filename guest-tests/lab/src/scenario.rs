//! Scenario files: what is provoked, in which guest, and what has to be seen for which verdict.
//!
//! A scenario is TOML. The rules in it are the device's: they are handed on unread, and the device refuses what it
//! does not know. Everything else is checked here, and an error names file, line, column, field and the nearest
//! word that would have been legal.
//!
//! Here is what a file can say, of the device in `device`; `reading` is how it is read, `wrong_rule` how a rule that the
//! device refuses is found in it again, `trace_files` what else a rule may want read, `shipped` what comes with the lab.

mod device;
mod reading;
mod shipped;
mod since;
mod trace_files;
mod wrong_rule;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::assets::Needs;
use crate::image::ImageFormat;
use crate::oops::OopsKind;

pub use device::{Aspm, Device, Slot, VendorSettings};
pub use reading::ScenarioError;
pub use shipped::{SHIPPED, SHIPPED_TESTS};
pub use since::Since;
pub use trace_files::TraceFiles;

/// What a card's size is a multiple of.
const BLOCK_BYTES: u64 = 512;

/// A scenario, as read from its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name without `.toml`. Not in the file.
    #[serde(skip)]
    pub name: String,
    /// The file itself.
    #[serde(skip)]
    pub source: Source,
    /// What it provokes and why, for people.
    pub purpose: String,
    /// Wall time for one run in seconds, from the start of QEMU to the verdict.
    pub deadline_s: u64,
    /// Where the bug was reported.
    pub origin: Origin,
    /// What the device is.
    #[serde(default)]
    pub device: Device,
    /// The virtual machine and what runs in it.
    pub guest: Guest,
    /// The verdicts that mean success.
    pub expect: Expect,
    /// What the kernel may say, and how it may be built.
    #[serde(default)]
    pub kernel: Kernel,
    /// The device's fault rules, unread.
    #[serde(default, rename = "rule")]
    pub rules: Vec<toml::Table>,
    /// Card images that the host makes for each run.
    #[serde(default, rename = "image")]
    pub images: Vec<Image>,
    /// Ranges of them that guest and host have to read alike.
    #[serde(default, rename = "check")]
    pub checks: Vec<Check>,
    /// What has to be seen for each verdict.
    pub verdict: Criteria,
    /// The moments that the report shows, in this order.
    #[serde(default, rename = "time")]
    pub moments: Vec<Moment>,
}

/// A scenario's file, for errors that are found later.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// What errors call it.
    pub file: String,
    /// All of it.
    pub text: String,
    /// Where the files are that its rules name; `None` if it comes with the lab.
    pub directory: Option<PathBuf>,
}

/// Where the bug was reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The title of the mailing list thread; or `none: ` and why there is none.
    pub thread: String,
    /// The CVE number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cve: Option<String>,
    /// The mainline commit that fixed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

impl Origin {
    /// Why there is no report, if there is none.
    pub fn unreported(&self) -> Option<&str> {
        self.thread.strip_prefix("none: ")
    }
}

/// The virtual machine and what runs in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// The test script's file name.
    pub test: String,
    /// Virtual CPUs, 1 to 64.
    pub vcpus: u32,
    /// Memory, in QEMU's spelling: `512M`, `1G`.
    pub memory: String,
    /// Words to add to the kernel's command line; preempt=full is in every guest's.
    #[serde(default)]
    pub append: Vec<String>,
    /// OEM strings of the machine's SMBIOS (type 11), which some of the kernel's drivers know machines by.
    #[serde(default)]
    pub oem_strings: Vec<String>,
    /// Kernel modules to load after the device's drivers; what they depend on is found.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Programs to put into the guest, by the Debian package that they come in.
    #[serde(default)]
    pub packages: BTreeMap<String, Vec<String>>,
    /// Programs of the lab's own to put into the guest.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Kernel modules of the lab's own to put into the guest, for the script to load.
    #[serde(default)]
    pub kernel_modules: Vec<String>,
    /// Trace the kernel, whether or not the command line asks for it.
    #[serde(default)]
    pub trace: bool,
}

impl Guest {
    /// The memory in MiB; `None` if it is misspelt or zero.
    pub fn memory_mib(&self) -> Option<u32> {
        let (number, unit_mib) = match self.memory.strip_suffix('G') {
            Some(number) => (number, 1024),
            None => (self.memory.strip_suffix('M')?, 1),
        };
        number.parse::<u32>().ok()?.checked_mul(unit_mib).filter(|mib| *mib > 0)
    }

    /// The test's name: its script's file name without `.sh`.
    pub fn test_name(&self) -> &str {
        self.test.strip_suffix(".sh").unwrap_or(&self.test)
    }

    /// What QEMU's command line says of the machine that is not in every guest's.
    pub fn qemu_arguments(&self) -> Vec<String> {
        // A comma ends a value, unless there are two.
        let smbios = |text: &String| format!("type=11,value={}", text.replace(',', ",,"));
        self.oem_strings.iter().flat_map(|text| ["-smbios".to_owned(), smbios(text)]).collect()
    }

    /// What has to be fetched for it.
    pub fn needs(&self) -> Needs {
        let packages = self.packages.iter();
        Needs {
            modules: self.modules.iter().cloned().collect(),
            packages: packages
                .map(|(package, programs)| (package.clone(), programs.iter().cloned().collect()))
                .collect(),
            tools: self.tools.iter().cloned().collect(),
            kernel_modules: self.kernel_modules.iter().cloned().collect(),
        }
    }
}

/// A card image that the host makes for each run: all zeros, or a file system with files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// Its size: `64M`, `8G`.
    pub size: String,
    /// How it is written.
    #[serde(default)]
    pub format: ImageFormat,
    /// Text files in its root directory, by name. With any, it has a FAT file system; a raw image only.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

impl Image {
    /// Its size; `None` if it is misspelt, zero, or no whole number of blocks.
    pub fn size_bytes(&self) -> Option<u64> {
        bytes(&self.size).filter(|bytes| *bytes > 0 && bytes % BLOCK_BYTES == 0)
    }
}

/// A range of an image that guest and host have to read alike, when the run is over.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The image's name.
    pub image: String,
    /// Its first byte: a number, or one with K, M, G or T.
    #[serde(default = "zero")]
    pub offset: String,
    /// How many bytes.
    pub length: String,
}

impl Check {
    /// Offset and length in bytes; `None` if one of them is misspelt, or nothing is in it.
    pub fn range(&self) -> Option<(u64, u64)> {
        let (offset, length) = (bytes(&self.offset)?, bytes(&self.length)?);
        offset.checked_add(length).filter(|_| length > 0).map(|_| (offset, length))
    }
}

fn zero() -> String {
    "0".to_owned()
}

/// A number of bytes, or of KiB, MiB, GiB or TiB with the unit's first letter.
fn bytes(text: &str) -> Option<u64> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
    let (digits, bits) = unit.unwrap_or((text, 0));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << bits)
}

/// The verdicts that mean success.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// On a kernel without the fix; a scenario that has nothing to do with it is not run on one.
    #[serde(default)]
    pub without_fix: Option<Expected>,
    /// On a kernel with it.
    pub with_fix: Expected,
}

/// A verdict that means success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// The fault of the scenario.
    Fault,
    /// A task that hangs, as the scenario says.
    Hang,
    /// The provocation, and no fault.
    Clean,
    /// Any of them: the scenario is there to be counted.
    Any,
}

/// What the kernel may say, and how it may be built.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Lines of level error or worse, outside of an oops, that belong to the provocation; `*` stands for any text.
    #[serde(default)]
    pub expected_errors: Vec<String>,
    /// The first release that has what the scenario needs, such as `6.8`; older kernels are not run.
    #[serde(default)]
    pub since: Option<Since>,
    /// Accesses to registers that the device does not model, which a kernel does by mistake, as the device's state lists
    /// them; `*` stands for any text.
    #[serde(default)]
    pub stray: Vec<String>,
    /// What the guest module logs when it has taken the fix out; checked in both variants.
    #[serde(default)]
    pub fix_skipped: Option<String>,
    /// Functions of the oops's `chain` that may lack a frame of their own, as it is built.
    #[serde(default)]
    pub inlined: Vec<Inlined>,
}

/// What has to be seen for each verdict.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criteria {
    /// For `fault`; a scenario without it has no fault to find.
    #[serde(default)]
    pub fault: Option<Evidence>,
    /// For `hang`; without it no task may hang.
    #[serde(default)]
    pub hang: Option<Evidence>,
    /// For `clean`.
    pub clean: Evidence,
}

/// What has to be seen for one verdict, on both sides.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What the verdict says about the kernel, for people.
    #[serde(default)]
    pub means: String,
    /// Lines of the guest's console; `*` stands for any text. They are expected, whatever their level.
    #[serde(default)]
    pub log: Vec<String>,
    /// Counters of the device's state, and what they have to be.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Events in the device's record.
    #[serde(default)]
    pub events: Vec<String>,
    /// Rules that were hit, in the device's record.
    #[serde(default)]
    pub rules: Vec<String>,
    /// The least number of reads of a BAR that was gone.
    #[serde(default)]
    pub dead_reads: usize,
    /// Moments of `[[time]]` by name, each of which came before the next one.
    #[serde(default)]
    pub order: Vec<String>,
    /// Moments of `[[time]]` by name, none of which came.
    #[serde(default)]
    pub never: Vec<String>,
    /// The task that hangs.
    #[serde(default)]
    pub blocked: Option<BlockedPattern>,
    /// The oops.
    #[serde(default)]
    pub oops: Option<OopsPattern>,
    /// Results of the guest's script that may be `not ok`, by their description.
    #[serde(default)]
    pub may_fail: Vec<String>,
    /// The most MiB by which the device's process may grow in the second half of the script's results.
    #[serde(default)]
    pub memory_growth_mib: Option<u64>,
}

/// The oops that is looked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OopsPattern {
    /// Its kind.
    pub kind: OopsKind,
    /// The last digits of the address, hexadecimal.
    #[serde(default)]
    pub address_ends: Option<String>,
    /// The function that faulted.
    #[serde(default)]
    pub rip: Option<String>,
    /// Functions among its callers, from the inside out; others may stand between them.
    #[serde(default)]
    pub chain: Vec<String>,
    /// The workqueue.
    #[serde(default)]
    pub workqueue: Option<String>,
    /// The function that the workqueue ran.
    #[serde(default)]
    pub work: Option<String>,
    /// A console line that has to come before it.
    #[serde(default)]
    pub after: Option<String>,
}

/// The task that hangs, that is looked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockedPattern {
    /// Its name; `*` stands for any text.
    #[serde(default = "any_text")]
    pub task: String,
    /// Functions among those that it waits in, from the inside out; others may stand between them.
    pub chain: Vec<String>,
}

fn any_text() -> String {
    "*".to_owned()
}

/// A function that compilers may have put into its caller; the module that was loaded has to prove it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inlined {
    /// The function of `chain`.
    pub function: String,
    /// Its caller, whose frame then is its own.
    pub into: String,
    /// What `into` calls itself if `function` is inlined, and would not call otherwise.
    pub calls: Vec<String>,
}

/// A moment that the report shows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// What people call it.
    pub name: String,
    /// The first time that this happened.
    #[serde(default)]
    pub first: Option<Happening>,
    /// The last time that this happened.
    #[serde(default)]
    pub last: Option<Happening>,
}

/// Something that happens in the device's record or on the guest's console. Exactly one of all but `after`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Happening {
    /// An event of the device.
    #[serde(default)]
    pub event: Option<String>,
    /// A read of this register.
    #[serde(default)]
    pub read: Option<String>,
    /// A write of this register.
    #[serde(default)]
    pub write: Option<String>,
    /// A read of a BAR that was gone, by the offset in its page.
    #[serde(default)]
    pub dead_read: Option<u64>,
    /// A write to a BAR that was gone, by the offset in its page.
    #[serde(default)]
    pub dead_write: Option<u64>,
    /// A line of the guest's console; `*` stands for any text.
    #[serde(default)]
    pub log: Option<String>,
    /// A note of the module sdmorph_race, by what it is of.
    #[serde(default)]
    pub note: Option<String>,
    /// Only after this event of the device.
    #[serde(default)]
    pub after: Option<String>,
}
