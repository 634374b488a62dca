// SPDX-License-Identifier: GPL-2.0
/*
 * sdmorph_unfix: run a kernel that has the fix of CVE-2024-35809 as if it had not.
 *
 * The fix is one call: pci_device_remove() waits in pm_runtime_barrier() until
 * runtime power management callbacks of the device have ended. This module
 * redirects pm_runtime_barrier() to a function that does nothing, when, and
 * only when, it is called from pci_device_remove(). All other callers get the
 * barrier. Unloading restores the fix.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/device.h>
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/ptrace.h>
#include <linux/string.h>

#if !defined(CONFIG_X86_64) || !defined(CONFIG_DYNAMIC_FTRACE_WITH_REGS)
#error "sdmorph_unfix needs x86-64 and CONFIG_DYNAMIC_FTRACE_WITH_REGS"
#endif

/* The code of pci_device_remove(): first byte, and first byte after it. */
static unsigned long remove_start __ro_after_init;
static unsigned long remove_end __ro_after_init;

static atomic_t skipped = ATOMIC_INIT(0);

/*
 * Stands in for pm_runtime_barrier(). It runs as an ordinary function called
 * by pci_device_remove(), so that it may print, which the ftrace handler had
 * better not do. The result matters only to kernels where the barrier has one.
 */
static int skip_barrier(struct device *dev)
{
	pr_info("pm_runtime_barrier skipped in pci_device_remove: count %d, device %s\n",
		atomic_inc_return(&skipped), dev_name(dev));
	return 0;
}

static void notrace redirect(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);

	if (regs && parent_ip > remove_start && parent_ip <= remove_end)
		regs->ip = (unsigned long)skip_barrier;
}

/* No FTRACE_OPS_FL_RECURSION: ftrace itself then guards against recursion. */
static struct ftrace_ops ops = {
	.func = redirect,
	.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY,
};

/*
 * pci_device_remove() is static, but it is the remove method of the exported
 * PCI bus type: no search by name is needed, and no version of the kernel has
 * to be told from another. kallsyms gives its size, as "name+offset/size".
 */
static int __init find_pci_device_remove(void)
{
	char symbol[KSYM_SYMBOL_LEN];
	unsigned long start = (unsigned long)pci_bus_type.remove;
	unsigned long offset, size;
	char *numbers;

	if (!start)
		return -ENOENT;
	sprint_symbol(symbol, start);
	numbers = strchr(symbol, '+');
	if (!numbers || sscanf(numbers, "+0x%lx/0x%lx", &offset, &size) != 2)
		return -ENOENT;
	*numbers = '\0';
	if (strcmp(symbol, "pci_device_remove")) {
		pr_err("the PCI bus is removed by %s, not by pci_device_remove\n", symbol);
		return -ENOENT;
	}
	remove_start = start - offset;
	remove_end = remove_start + size;
	return 0;
}

static int __init sdmorph_unfix_init(void)
{
	int err;

	err = find_pci_device_remove();
	if (err) {
		pr_err("cannot find pci_device_remove: %d\n", err);
		return err;
	}
	err = ftrace_set_filter_ip(&ops, (unsigned long)pm_runtime_barrier, 0, 0);
	if (err) {
		pr_err("ftrace cannot hook pm_runtime_barrier: %d\n", err);
		return err;
	}
	err = register_ftrace_function(&ops);
	if (err) {
		pr_err("ftrace refused the hook: %d\n", err);
		ftrace_free_filter(&ops);
		return err;
	}
	pr_info("loaded: the fix of CVE-2024-35809 is out, pm_runtime_barrier does nothing for pci_device_remove\n");
	return 0;
}

static void __exit sdmorph_unfix_exit(void)
{
	/*
	 * Waits for tasks that are in the handler or in skip_barrier(): ftrace
	 * synchronises with RCU tasks for ops that live in a module.
	 */
	unregister_ftrace_function(&ops);
	ftrace_free_filter(&ops);
	pr_info("unloaded: the fix is back, after %d skipped barriers\n",
		atomic_read(&skipped));
}

module_init(sdmorph_unfix_init);
module_exit(sdmorph_unfix_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Takes the pm_runtime_barrier of CVE-2024-35809's fix out of pci_device_remove");
