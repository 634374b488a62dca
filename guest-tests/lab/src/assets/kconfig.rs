//! A kernel's configuration, and what the lab needs to find in it.

use std::collections::HashMap;

/// The value of a tristate option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    BuiltIn,
    Module,
}

/// The options of a `.config` that are `y` or `m`.
#[derive(Debug, Default)]
pub(crate) struct KernelConfig(HashMap<String, Value>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Built in or as a module.
    Enabled,
    /// Needed before, or without, any module.
    BuiltIn,
}

const NEEDS: &[(&str, Need, &str)] = &[
    ("VMD", Need::Enabled, "sdmorph's slot lives behind Intel VMD"),
    ("HOTPLUG_PCI_PCIE", Need::BuiltIn, "the slot is a native PCIe hot-plug slot"),
    ("PCI_MSI", Need::BuiltIn, "VMD remaps MSI-X only"),
    ("MISC_RTSX_PCI", Need::Enabled, "it is the driver of the card reader"),
    ("MMC_REALTEK_PCI", Need::Enabled, "it is the driver of the reader's SD host"),
    ("MMC_BLOCK", Need::Enabled, "it is the block driver of SD cards"),
    ("BLK_DEV_NVME", Need::Enabled, "it is the driver of the card after the switch to SD Express"),
    ("PM", Need::BuiltIn, "the fault is in runtime power management"),
    ("SERIAL_8250_CONSOLE", Need::BuiltIn, "the lab reads the console on ttyS0"),
    ("BLK_DEV_INITRD", Need::BuiltIn, "the guest runs from an initramfs"),
    ("DEVTMPFS", Need::BuiltIn, "the guest has no other /dev"),
    ("BINFMT_ELF", Need::BuiltIn, "the guest runs busybox"),
    ("BINFMT_SCRIPT", Need::BuiltIn, "/init is a shell script"),
];

const OWN_MODULE_NEEDS: &[(&str, Need, &str)] = &[
    ("MODULES", Need::BuiltIn, "the lab's own modules are loaded into it"),
    ("DYNAMIC_FTRACE_WITH_REGS", Need::BuiltIn, "the lab's own modules redirect functions through ftrace"),
];

impl KernelConfig {
    /// Reads the text of a `.config`.
    pub(crate) fn parse(text: &str) -> Self {
        let options = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
            match value {
                "y" => Some((name.to_owned(), Value::BuiltIn)),
                "m" => Some((name.to_owned(), Value::Module)),
                _ => None,
            }
        });
        Self(options.collect())
    }

    /// What is missing to drive the device, one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.missing(NEEDS)
    }

    /// What a kernel that comes without its modules lacks: at most one sentence, as one answer mends it all.
    pub(crate) fn module_problems(&self) -> Vec<String> {
        let modules: Vec<String> = NEEDS
            .iter()
            .filter(|(name, _, _)| self.0.get(*name) == Some(&Value::Module))
            .map(|(name, _, _)| format!("CONFIG_{name}"))
            .collect();
        if modules.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "built as modules: {}; give MODULES=, the directory lib/modules/RELEASE of this kernel",
            modules.join(", ")
        )]
    }

    /// What is missing to load the lab's own modules, one sentence each.
    pub(crate) fn own_module_problems(&self) -> Vec<String> {
        self.missing(OWN_MODULE_NEEDS)
    }

    fn missing(&self, needs: &[(&str, Need, &str)]) -> Vec<String> {
        needs
            .iter()
            .filter_map(|(name, need, why)| match (self.0.get(*name), need) {
                (Some(Value::BuiltIn), _) | (Some(Value::Module), Need::Enabled) => None,
                (Some(Value::Module), Need::BuiltIn) => {
                    Some(format!("CONFIG_{name} is a module and must be built in: {why}"))
                }
                (None, _) => Some(format!("CONFIG_{name} is not set: {why}")),
            })
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn complete() -> String {
        NEEDS.iter().map(|(name, _, _)| format!("CONFIG_{name}=y\n")).collect()
    }

    #[test]
    fn a_complete_configuration_has_no_problems() {
        assert!(KernelConfig::parse(&complete()).problems().is_empty());
        let modular = complete().replace("CONFIG_VMD=y", "CONFIG_VMD=m");
        assert!(KernelConfig::parse(&modular).problems().is_empty());
    }

    #[test]
    fn a_kernel_without_vmd_is_told_what_for() {
        let text = complete().replace("CONFIG_VMD=y", "# CONFIG_VMD is not set");
        assert_eq!(
            KernelConfig::parse(&text).problems(),
            ["CONFIG_VMD is not set: sdmorph's slot lives behind Intel VMD"]
        );
    }

    #[test]
    fn the_console_cannot_be_a_module() {
        let text = complete().replace("SERIAL_8250_CONSOLE=y", "SERIAL_8250_CONSOLE=m");
        let problems = KernelConfig::parse(&text).problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("must be built in"), "{problems:?}");
    }

    #[test]
    fn strings_and_numbers_are_not_tristates() {
        let config = KernelConfig::parse("CONFIG_HZ=250\nCONFIG_CC_VERSION_TEXT=\"y\"\nCONFIG_SMP=y\n");
        assert_eq!(config.0.len(), 1);
        assert_eq!(config.own_module_problems().len(), 2);
    }
}
