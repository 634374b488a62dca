// SPDX-License-Identifier: GPL-2.0
/*
 * sdmorph_race: who ran when while a PCI driver is removed, and one order of it.
 *
 * Notes. The functions that a removal and runtime power management meet in are
 * hooked by ftrace. Each call that is about the card reader is noted, with the
 * kernel's log clock, in an array: nothing is printed at the time, which would
 * change what is watched. debugfs sdmorph_race/notes has the notes.
 *
 * Steps. With step= one of several orders of things is made certain. Whoever is
 * to come second is held until the other side has done its part, or until the
 * other side waits for the one that is held. Nothing depends on how long
 * anything takes. What is held runs on with the kernel's own code.
 *
 *   running      the idle callback runs in a worker, and has written the first
 *                of its registers, when the removal begins
 *   requested    an idle notification is requested between the driver core's
 *                put and the bus's get; pm_runtime_work() has been called for
 *                it, and has not begun, when the removal goes on
 *   between      the same, but the idle callback is running by then
 *   autosuspend  an autosuspend timer that was armed before the removal expires
 *                in .remove, if it is still armed there
 *   resumes      not rtsx_pci, but a driver of this module's own is bound (by
 *                driver_override); its idle callback resumes its device
 *
 * The module stays until the machine is turned off: a task may be held in it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/ftrace.h>
#include <linux/hrtimer.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#if !defined(CONFIG_X86_64) || !defined(CONFIG_DYNAMIC_FTRACE_WITH_REGS)
#error "sdmorph_race needs x86-64 and CONFIG_DYNAMIC_FTRACE_WITH_REGS"
#endif

#define READER_VENDOR	0x10ec
#define READER_CLASS	0xff0000
/* BAR 0 of the reader, as rtsx_pci.h names it. */
#define RTSX_BIPR	0x14
#define RTSX_BIER	0x18

/* The callback is held between its first register and its second. */
#define HOLD_AT_REGISTER	2
/* No step takes that long: it only ends a run that has gone wrong. */
#define PATIENCE_S	60
/* Longer than any run: the timer expires when the module says so. */
#define AUTOSUSPEND_MS	600000

enum step { NOTES, RUNNING, REQUESTED, BETWEEN, AUTOSUSPEND, RESUMES };

static const char * const step_names[] = {
	[NOTES] = "notes",	[RUNNING] = "running",
	[REQUESTED] = "requested",	[BETWEEN] = "between",
	[AUTOSUSPEND] = "autosuspend",	[RESUMES] = "resumes",
};

static char *step_name = "notes";
module_param_named(step, step_name, charp, 0444);
MODULE_PARM_DESC(step, "notes (default), running, requested, between, autosuspend or resumes");

static enum step step __ro_after_init;
/* The reader. The reference to it is kept: hooks compare with it. */
static struct pci_dev *reader __ro_after_init;
static struct device *dev __ro_after_init;

/* Notes. */

struct note {
	u64 ns;
	unsigned long from;	/* the caller, or 0 */
	const char *what;
	int value;
	bool has_value;
	unsigned int cpu;
	pid_t pid;
	char comm[TASK_COMM_LEN];
};

static struct note notes[512];
static atomic_t notes_taken = ATOMIC_INIT(0);

static notrace void note_all(const char *what, unsigned long from, bool has_value, int value)
{
	int index = atomic_inc_return(&notes_taken) - 1;
	struct note *note;

	if (index >= ARRAY_SIZE(notes))
		return;
	note = &notes[index];
	note->ns = local_clock();
	note->from = from;
	note->value = value;
	note->has_value = has_value;
	note->cpu = raw_smp_processor_id();
	note->pid = current->pid;
	memcpy(note->comm, current->comm, sizeof(note->comm));
	/* Complete only now. */
	smp_store_release(&note->what, what);
}

static void note(const char *what)
{
	note_all(what, 0, false, 0);
}

static void note_value(const char *what, int value)
{
	note_all(what, 0, true, value);
}

static int notes_show(struct seq_file *file, void *unused)
{
	int taken = min_t(int, atomic_read(&notes_taken), ARRAY_SIZE(notes));
	int i;

	for (i = 0; i < taken; i++) {
		const char *what = smp_load_acquire(&notes[i].what);
		u32 ns;
		u64 s;

		if (!what)
			continue;
		s = div_u64_rem(notes[i].ns, NSEC_PER_SEC, &ns);
		seq_printf(file, "%llu.%06u cpu=%u pid=%d what=%s", s, ns / 1000,
			   notes[i].cpu, notes[i].pid, what);
		if (notes[i].from)
			seq_printf(file, " from=%ps", (void *)notes[i].from);
		if (notes[i].has_value)
			seq_printf(file, " value=%d", notes[i].value);
		seq_printf(file, " task=%.*s\n", TASK_COMM_LEN, notes[i].comm);
	}
	if (atomic_read(&notes_taken) > taken)
		seq_printf(file, "lost %d\n", atomic_read(&notes_taken) - taken);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(notes);

/* 1 if the kernel has died of something. A shell cannot read the sysctl without a process that does it. */
static int faulted_show(struct seq_file *file, void *unused)
{
	seq_printf(file, "%d\n", test_taint(TAINT_DIE));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(faulted);

/* Holding one side until the other has come. */

static DECLARE_WAIT_QUEUE_HEAD(steps);
/* Who removes the driver, from device_release_driver_internal() on. */
static struct task_struct *remover;
static bool wanted;		/* the next of its kind is to be held */
static bool held;		/* somebody is, or was */
static bool work_cancelled;	/* the remover cancels, and waits for, the work */
static bool unmapped;		/* .remove has unmapped the BAR */
static bool done;		/* who was held has come to the end of it */
static bool expired;		/* the autosuspend timer's function was called */

/* The remover waits for the one that is held, or will never wait for it. */
static const char *reason_to_go_on(void)
{
	if (READ_ONCE(unmapped))
		return "held-until-unmapped";
	if (READ_ONCE(work_cancelled))
		return "held-until-work-cancelled";
	/* rpm_resume() and pm_runtime_barrier() wait there for a callback. */
	if (READ_ONCE(remover) && waitqueue_active(&dev->power.wait_queue))
		return "held-until-waited-for";
	return NULL;
}

static void hold(void)
{
	unsigned long until = jiffies + PATIENCE_S * HZ;
	const char *reason;

	note("held");
	WRITE_ONCE(held, true);
	wake_up_all(&steps);
	/* The power lock's wait queue cannot be asked to tell: look at it. */
	while (!(reason = reason_to_go_on()) && time_before(jiffies, until))
		usleep_range(50, 100);
	note(reason ?: "gave-up");
}

static int await(bool *flag)
{
	if (wait_event_timeout(steps, READ_ONCE(*flag), PATIENCE_S * HZ))
		return 0;
	note("gave-up");
	return -ETIMEDOUT;
}

static void request_here(void *result)
{
	*(int *)result = pm_request_idle(dev);
}

/*
 * Requests an idle notification from another CPU: the work is queued to the CPU
 * that asks, and a worker that spins there would keep the remover's own work
 * items, which .remove waits for, from being run.
 */
static int request_idle(void)
{
	unsigned int cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	int result = 0;

	if (cpu >= nr_cpu_ids || smp_call_function_single(cpu, request_here, &result, 1))
		request_here(&result);
	note_value("idle-requested", result);
	return result;
}

static int hold_next(void)
{
	int result;

	WRITE_ONCE(work_cancelled, false);
	WRITE_ONCE(wanted, true);
	result = request_idle();
	return result ?: await(&held);
}

/* Hooks that stand in for a function, and call it. */

struct hook {
	const char *name;
	void *target;
	void *instead;
};

static void (*bus_remove)(struct device *dev) __ro_after_init;
static void (*driver_remove)(struct pci_dev *pdev) __ro_after_init;
static int (*driver_idle)(struct device *dev) __ro_after_init;
static void (*pm_work)(struct work_struct *work) __ro_after_init;
struct rtsx_pcr;
static int (*write_register)(struct rtsx_pcr *pcr, u16 addr, u8 mask, u8 data) __ro_after_init;

/* Each hook does something after the call: a jump to the function instead of the call would be hooked again. */

static void hooked_bus_remove(struct device *device)
{
	if (device != dev) {
		bus_remove(device);
		barrier();
		asm volatile("");
		return;
	}
	note("bus-remove-begins");
	if (step == REQUESTED || step == BETWEEN)
		hold_next();
	bus_remove(device);
	note("bus-remove-ends");
}

/* Time goes by until the autosuspend timer expires, if nobody has stopped it. */
static void let_timer_expire(void)
{
	ktime_t now = ktime_get();
	bool armed;

	spin_lock_irq(&dev->power.lock);
	armed = dev->power.timer_expires;
	if (armed) {
		dev->power.autosuspend_delay = 0;
		dev->power.timer_expires = 1;
	}
	spin_unlock_irq(&dev->power.lock);
	if (!armed) {
		note("timer-was-stopped");
		return;
	}
	hrtimer_start(&dev->power.suspend_timer, now, HRTIMER_MODE_ABS);
	if (await(&expired))
		return;
	/* It has been called; this waits for its end. */
	hrtimer_cancel(&dev->power.suspend_timer);
	note(dev->power.request_pending ? "timer-requested" : "timer-refused");
}

static void hooked_driver_remove(struct pci_dev *pdev)
{
	bool mine = pdev == reader;

	if (mine)
		note("remove-begins");
	if (mine && step == AUTOSUSPEND)
		let_timer_expire();
	driver_remove(pdev);
	asm volatile("");
	if (mine)
		note("remove-ends");
}

/* .remove has just unmapped the BAR, and is about to free what else it has. */
static void hooked_release_regions(struct pci_dev *pdev)
{
	unsigned long until = jiffies + PATIENCE_S * HZ;

	if (pdev == reader && current == READ_ONCE(remover)) {
		/*
		 * The BAR's translation may stay in TLBs until the kernel has
		 * unmapped enough of other things. This is that moment.
		 */
		vm_unmap_aliases();
		note("unmapped");
		WRITE_ONCE(unmapped, true);
		/* So that the one who was held meets the unmapped BAR, and not freed memory. */
		while (READ_ONCE(held) && !READ_ONCE(done) && !test_taint(TAINT_DIE) &&
		       time_before(jiffies, until))
			usleep_range(50, 100);
	}
	pci_release_regions(pdev);
	asm volatile("");
}

/* The worker that runs the idle callback, and how many registers it has written. */
static struct task_struct *callback;
static unsigned int registers;

static int hooked_driver_idle(struct device *device)
{
	bool worker = current->flags & PF_WQ_WORKER;
	int result;

	if (device != dev) {
		result = driver_idle(device);
		/* No tail call: the call has to come from this module, or it is redirected again. */
		asm volatile("" : "+r" (result));
		return result;
	}
	note("idle-begins");
	/* The remover itself may run it, too: nobody would go on then. */
	if (worker && (step == RUNNING || step == BETWEEN) && xchg(&wanted, false)) {
		registers = 0;
		WRITE_ONCE(callback, current);
	}
	result = driver_idle(device);
	note_value("idle-ends", result);
	if (current == READ_ONCE(callback)) {
		WRITE_ONCE(callback, NULL);
		WRITE_ONCE(done, true);
	}
	return result;
}

static int hooked_write_register(struct rtsx_pcr *pcr, u16 addr, u8 mask, u8 data)
{
	int result;

	if (current == READ_ONCE(callback) && ++registers == HOLD_AT_REGISTER)
		hold();
	result = write_register(pcr, addr, mask, data);
	asm volatile("" : "+r"(result));
	return result;
}

static void hooked_pm_work(struct work_struct *work)
{
	bool mine = work == &dev->power.work;
	bool hold_it = mine && step == REQUESTED && xchg(&wanted, false);

	if (mine)
		note("work-begins");
	if (hold_it)
		hold();
	pm_work(work);
	asm volatile("");
	if (mine)
		note("work-ends");
	if (hold_it)
		WRITE_ONCE(done, true);
}

static struct hook hooks[] = {
	{ .name = "pm_runtime_work", .instead = hooked_pm_work },
	{ .name = "the bus's remove", .instead = hooked_bus_remove },
	{ .name = "the driver's remove", .instead = hooked_driver_remove },
	{ .name = "the driver's runtime_idle", .instead = hooked_driver_idle },
	{ .name = "pci_release_regions", .instead = hooked_release_regions },
	{ .name = "rtsx_pci_write_register", .instead = hooked_write_register },
};

enum { PM_WORK, BUS_REMOVE, DRIVER_REMOVE, DRIVER_IDLE, RELEASE_REGIONS, WRITE_REGISTER };

static void __init find_targets(void)
{
	struct pci_driver *driver;

	hooks[PM_WORK].target = pm_work = dev->power.work.func;
	hooks[BUS_REMOVE].target = bus_remove = pci_bus_type.remove;
	if (!dev->driver)
		return;
	driver = to_pci_driver(dev->driver);
	hooks[DRIVER_REMOVE].target = driver_remove = driver->remove;
	if (driver->driver.pm)
		hooks[DRIVER_IDLE].target = driver_idle = driver->driver.pm->runtime_idle;
	hooks[RELEASE_REGIONS].target = pci_release_regions;
	/* The reference that this takes keeps rtsx_pci loaded. */
	hooks[WRITE_REGISTER].target = write_register = __symbol_get("rtsx_pci_write_register");
}

/* ftrace tells where the call of it is: at the function's beginning, or behind an ENDBR64. */
static notrace bool is_at(unsigned long ip, void *function)
{
	return function && ip - (unsigned long)function <= 4;
}

static void notrace redirect(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);
	int i;

	if (!regs || within_module(parent_ip, THIS_MODULE))
		return;
	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		if (is_at(ip, hooks[i].target))
			regs->ip = (unsigned long)hooks[i].instead;
}

/* One for all: to change the kernel's code takes as long for one function as for ten. */
static struct ftrace_ops hook_ops = {
	.func = redirect,
	.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY,
};

static int __init hook_functions(void)
{
	int i, err;

	find_targets();
	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (!hooks[i].target)
			continue;
		err = ftrace_set_filter_ip(&hook_ops, (unsigned long)hooks[i].target, 0, 0);
		if (err) {
			pr_err("ftrace cannot hook %s: %d\n", hooks[i].name, err);
			goto fail;
		}
	}
	err = register_ftrace_function(&hook_ops);
	if (!err)
		return 0;
	pr_err("ftrace refused the hooks: %d\n", err);
fail:
	ftrace_free_filter(&hook_ops);
	return err;
}

/* Functions that are noted when they are called. */

enum about { DEVICE, DEVICE_IN_REMOVAL, WORK, TIMER, RELEASE };

struct watch {
	void *function;
	const char *what;
	enum about about;
};

static struct watch watches[] = {
	{ pm_runtime_barrier, "barrier", DEVICE },
	{ __pm_runtime_resume, "resume", DEVICE_IN_REMOVAL },
	{ __pm_runtime_idle, "idle", DEVICE_IN_REMOVAL },
	{ __pm_runtime_use_autosuspend, "use-autosuspend", DEVICE_IN_REMOVAL },
	{ cancel_work_sync, "work-cancelled", WORK },
	{ NULL, "timer-expires", TIMER },
	/* Nobody exports it. What is none of the others is this. */
	{ NULL, "release-begins", RELEASE },
};

#define WATCHED_TIMER	5
#define WATCHED_RELEASE	6
static char release[] __initdata = "device_release_driver_internal";

static void notrace watch_call(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);
	void *argument = regs ? (void *)regs->di : NULL;
	int i;

	for (i = 0; i < WATCHED_RELEASE; i++)
		if (is_at(ip, watches[i].function))
			break;
	switch (watches[i].about) {
	case DEVICE:
		if (argument != dev)
			return;
		break;
	case DEVICE_IN_REMOVAL:
		if (argument != dev || current != READ_ONCE(remover))
			return;
		break;
	case WORK:
		if (argument != &dev->power.work)
			return;
		if (current == READ_ONCE(remover))
			WRITE_ONCE(work_cancelled, true);
		break;
	case TIMER:
		if (argument != &dev->power.suspend_timer)
			return;
		WRITE_ONCE(expired, true);
		break;
	case RELEASE:
		if (argument != dev)
			return;
		WRITE_ONCE(remover, current);
		break;
	}
	note_all(watches[i].what, parent_ip, false, 0);
	if (watches[i].about == TIMER)
		wake_up_all(&steps);
}

static struct ftrace_ops watch_ops = {
	.func = watch_call,
	.flags = FTRACE_OPS_FL_SAVE_REGS,
};

static int __init watch_functions(void)
{
	int i, err;

	watches[WATCHED_TIMER].function = dev->power.suspend_timer.function;
	err = ftrace_set_filter(&watch_ops, release, strlen(release), 0);
	for (i = 0; i < WATCHED_RELEASE && !err; i++)
		err = ftrace_set_filter_ip(&watch_ops, (unsigned long)watches[i].function, 0, 0);
	err = err ?: register_ftrace_function(&watch_ops);
	if (err) {
		pr_err("ftrace refused to watch: %d\n", err);
		ftrace_free_filter(&watch_ops);
	}
	return err;
}

/* Between the driver core's get and put, and after all. */
static int tell(struct notifier_block *block, unsigned long action, void *device)
{
	if (device == dev && action == BUS_NOTIFY_UNBIND_DRIVER)
		note("unbind");
	if (device == dev && action == BUS_NOTIFY_UNBOUND_DRIVER)
		note("unbound");
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = tell };

/* The driver whose idle callback resumes its device. */

static void __iomem *bar;

static int resumes_idle(struct device *device)
{
	/* The device sees that the callback runs. It is pulled once this is noted: the BAR is not read after that. */
	ioread32(bar + RTSX_BIPR);
	note("idle-begins");
	note_value("idle-resumes", pm_runtime_get_sync(device));
	pm_runtime_put_noidle(device);
	note("idle-ends");
	return -EBUSY;
}

static int resumes_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int err = pci_enable_device(pdev);

	if (err)
		return err;
	bar = pci_iomap(pdev, 0, 0);
	if (!bar) {
		pci_disable_device(pdev);
		return -ENOMEM;
	}
	/* As rtsx_pci does it, but nobody is told: the test says when. */
	pm_runtime_allow(&pdev->dev);
	pm_runtime_put_noidle(&pdev->dev);
	return 0;
}

static void resumes_remove(struct pci_dev *pdev)
{
	note("remove-begins");
	pm_runtime_get_noresume(&pdev->dev);
	pm_runtime_forbid(&pdev->dev);
	iowrite32(0, bar + RTSX_BIER);
	pci_iounmap(pdev, bar);
	pci_disable_device(pdev);
	note("remove-ends");
}

static const struct dev_pm_ops resumes_pm_ops = {
	.runtime_idle = resumes_idle,
};

static struct pci_driver resumes_driver = {
	.name = "sdmorph_resumes",
	.probe = resumes_probe,
	.remove = resumes_remove,
	.driver.pm = &resumes_pm_ops,
};

/* debugfs. */

/* As a driver does that autosuspends: the timer runs from here on. */
static int arm_timer(void)
{
	pm_runtime_get_noresume(dev);
	pm_runtime_set_autosuspend_delay(dev, AUTOSUSPEND_MS);
	pm_runtime_use_autosuspend(dev);
	pm_runtime_mark_last_busy(dev);
	pm_runtime_put_noidle(dev);
	pm_runtime_autosuspend(dev);
	note_value("timer-armed", dev->power.timer_expires != 0);
	return dev->power.timer_expires ? 0 : -EAGAIN;
}

static ssize_t do_write(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	char word[16] = "";
	int err;

	if (size >= sizeof(word) || copy_from_user(word, from, size))
		return -EINVAL;
	if (sysfs_streq(word, "idle"))
		err = step == RUNNING ? hold_next() : request_idle();
	else if (sysfs_streq(word, "arm"))
		err = arm_timer();
	else
		err = -EINVAL;
	return err ?: size;
}

static const struct file_operations do_fops = {
	.owner = THIS_MODULE,
	.write = do_write,
};

static int __init find_reader(void)
{
	struct pci_dev *pdev = NULL;

	while ((pdev = pci_get_device(READER_VENDOR, PCI_ANY_ID, pdev))) {
		if (pdev->class >> 8 << 8 == READER_CLASS) {
			reader = pdev;
			dev = &pdev->dev;
			return 0;
		}
	}
	pr_err("there is no card reader\n");
	return -ENODEV;
}

static int __init sdmorph_race_init(void)
{
	struct dentry *dir;
	int err;

	err = match_string(step_names, ARRAY_SIZE(step_names), step_name);
	if (err < 0) {
		pr_err("there is no step %s\n", step_name);
		return err;
	}
	step = err;
	err = find_reader();
	if (err)
		return err;
	if (step != NOTES && step != RESUMES && !dev->driver) {
		pr_err("no driver is bound to %s\n", pci_name(reader));
		return -ENODEV;
	}
	if (step == RESUMES) {
		err = pci_register_driver(&resumes_driver);
		if (err)
			return err;
	}
	err = hook_functions();
	if (err)
		goto fail;
	err = watch_functions();
	if (err) {
		unregister_ftrace_function(&hook_ops);
		ftrace_free_filter(&hook_ops);
		goto fail;
	}
	bus_register_notifier(&pci_bus_type, &notifier);
	dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("notes", 0444, dir, NULL, &notes_fops);
	debugfs_create_file("faulted", 0444, dir, NULL, &faulted_fops);
	debugfs_create_file("do", 0200, dir, NULL, &do_fops);
	pr_info("loaded: step %s for %s\n", step_name, pci_name(reader));
	return 0;
fail:
	if (step == RESUMES)
		pci_unregister_driver(&resumes_driver);
	return err;
}

module_init(sdmorph_race_init);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Notes who runs when while a PCI driver is removed, and makes one order of it certain");
