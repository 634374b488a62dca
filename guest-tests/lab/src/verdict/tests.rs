//! The judge, held against what real runs left.

use super::*;
use crate::inlining;

const FAULT: &str = include_str!("../../fixtures/fault-6.1.log");
const CLEAN: &str = include_str!("../../fixtures/clean-6.1.log");
const FAULT_RECORD: &str = include_str!("../../fixtures/fault.jsonl");
const CLEAN_RECORD: &str = include_str!("../../fixtures/clean.jsonl");

/// The scenario of the fixtures. The clean one keeps a few reads from the begin and the end of each loop.
pub(crate) fn scenario() -> Scenario {
    let mut scenario = Scenario::load("sd7-idle-race").unwrap();
    assert_eq!(scenario.verdict.clean.dead_reads, 1024);
    scenario.verdict.clean.dead_reads = 8;
    scenario
}

fn judge(variant: Variant, log: &str, record: &str) -> Verdict {
    judge_cut(variant, log, record, &[], None)
}

fn judge_cut(variant: Variant, log: &str, record: &str, unmodelled: &[String], cut: Option<&str>) -> Verdict {
    judge_as(&scenario(), variant, log, record, unmodelled, cut)
}

fn judge_as(
    scenario: &Scenario,
    variant: Variant,
    log: &str,
    record: &str,
    unmodelled: &[String],
    cut: Option<&str>,
) -> Verdict {
    let log = Klog::from_bytes(log.as_bytes());
    let record = Record::parse(record, &scenario.moments).unwrap();
    let evidenced = Evidenced {
        scenario,
        variant,
        module: variant == Variant::WithoutFix,
        log: &log,
        record: &record,
        unmodelled: Some(unmodelled),
        counters: &BTreeMap::new(),
        device_memory_kib: &[],
        host_hashes: &[],
        cut_short: cut,
        modules: &[inlining::tests::rtsx_pci()],
    };
    evidenced.judge()
}

const HASH: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// The clean run with a card image of the hash [`HASH`], counters, and more on the console before the script's end.
fn judge_card(scenario: &Scenario, more: &str, counters: &[(&str, u64)]) -> Verdict {
    let (head, totals) = CLEAN.rsplit_once("<14>").unwrap();
    let text = format!("{head}{more}<14>{totals}");
    let host = HostHash { image: "card".into(), offset: 0, length: 512, sha256: Ok(HASH.into()) };
    let evidenced = Evidenced {
        scenario,
        variant: Variant::WithFix,
        module: false,
        log: &Klog::from_bytes(text.as_bytes()),
        record: &Record::parse(CLEAN_RECORD, &scenario.moments).unwrap(),
        unmodelled: Some(&[]),
        counters: &counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        device_memory_kib: &[100 << 10, 110 << 10, 112 << 10],
        host_hashes: &[host],
        cut_short: None,
        modules: &[],
    };
    evidenced.judge()
}

#[test]
fn a_card_that_guest_and_host_read_alike_is_clean_and_otherwise_not() {
    let line = |hash: &str| format!("<12>[    9.000000] sdmorph-hash card {hash} 0 512\n");
    let verdict = judge_card(&scenario(), &line(HASH), &[("dma-errors", 0), ("accesses", 9)]);
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Clean, None));
    let verdict = judge_card(&scenario(), &line(&HASH.replace('1', "2")), &[]);
    assert_eq!(verdict.disagreements.len(), 1);
    assert!(verdict.reason.unwrap().contains("guest and device disagree: 512 bytes at 0"));
    let verdict = judge_card(&scenario(), "", &[]);
    assert!(verdict.reason.unwrap().contains("printed no hash of 512 bytes at 0"));
    let verdict = judge_card(&scenario(), &line("11"), &[]);
    assert!(verdict.reason.unwrap().contains("not a line of a hash"));
}

#[test]
fn a_process_that_grows_in_the_second_half_is_no_clean_run() {
    let mut scenario = scenario();
    let line = format!("sdmorph-hash card {HASH} 0 512\n");
    scenario.verdict.clean.memory_growth_mib = Some(2);
    assert_eq!(judge_card(&scenario, &line, &[]).outcome, Outcome::Clean);
    scenario.verdict.clean.memory_growth_mib = Some(1);
    let reason = judge_card(&scenario, &line, &[]).reason.unwrap();
    assert_eq!(reason, "the device's process grew by 2 MiB, from 110 to 112 MiB");
}

#[test]
fn counters_are_what_the_scenario_says_and_zero_where_an_error_is_counted() {
    let line = format!("sdmorph-hash card {HASH} 0 512\n");
    let mut scenario = scenario();
    let reason = |scenario: &Scenario, counters: &[(&str, u64)]| {
        judge_card(scenario, &line, counters).reason.unwrap_or_default()
    };
    assert_eq!(reason(&scenario, &[("dma-errors", 2)]), "the device counted 2 dma-errors");
    scenario.verdict.clean.counters.insert("dma-errors".into(), 2);
    assert_eq!(reason(&scenario, &[("dma-errors", 2)]), "");
    assert!(reason(&scenario, &[("dma-errors", 3)]).contains("counted 3 dma-errors, and it should be 2"));
    assert!(reason(&scenario, &[]).contains("no counter dma-errors"));
    let lost = [("dma-errors", 2), ("late-interrupts-lost", 1)];
    assert_eq!(reason(&scenario, &lost), "the device counted 1 late-interrupts-lost");
}

#[test]
fn an_error_line_that_has_to_be_there_is_no_unexpected_one() {
    let hash = format!("sdmorph-hash card {HASH} 0 512\n");
    let error = "<3>[    9.000000] mmc0: card 1234 removed in a write\n";
    let mut scenario = scenario();
    let verdict = judge_card(&scenario, &format!("{error}{hash}"), &[]);
    assert!(verdict.reason.unwrap().contains("removed in a write"));
    scenario.verdict.clean.log.push("mmc0: card * removed in a write".into());
    assert_eq!(judge_card(&scenario, &format!("{error}{hash}"), &[]).outcome, Outcome::Clean);
    assert!(judge_card(&scenario, &hash, &[]).reason.unwrap().contains("never logged"));
}

fn reason(variant: Variant, log: &str, record: &str) -> String {
    let verdict = judge(variant, log, record);
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
    verdict.reason.unwrap()
}

/// The text without the lines that hold `words`.
fn without(text: &str, words: &str) -> String {
    text.lines().filter(|line| !line.contains(words)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_reported_oops_with_its_record_is_a_fault() {
    let verdict = judge(Variant::WithoutFix, FAULT, FAULT_RECORD);
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Fault, None));
    assert_eq!(verdict.disagreements, Vec::<String>::new());
}

#[test]
fn an_inlined_function_is_in_the_chain_only_if_the_module_proves_it() {
    let verdict = judge(Variant::WithoutFix, FAULT, FAULT_RECORD);
    let inlined: Vec<_> =
        verdict.inlined.iter().map(|frame| (frame.function.as_str(), frame.chain_index)).collect();
    assert_eq!(inlined, [("rtsx_pci_write_register", 0)]);
    let elsewhere = FAULT.replace("rtsx_set_l1off_sub+0x3d", "rtsx_set_l1off_sub+0x30");
    let reason = reason(Variant::WithoutFix, &elsewhere, FAULT_RECORD);
    assert!(
        reason.contains("not proven to be inlined into rtsx_set_l1off_sub: rtsx_set_l1off_sub+0x30"),
        "{reason}"
    );
}

#[test]
fn a_function_with_a_frame_of_its_own_needs_no_proof() {
    let (head, tail) = FAULT.split_once("rtsx_set_l1off_sub+0x3d/0x50 [rtsx_pci]\n").unwrap();
    let own = "rtsx_pci_write_register+0x56/0x80 [rtsx_pci]\n";
    let sub = "<4>[    6.432339]  rtsx_set_l1off_sub+0x1d/0x50 [rtsx_pci]\n";
    let verdict = judge(Variant::WithoutFix, &format!("{head}{own}{sub}{tail}"), FAULT_RECORD);
    assert_eq!((verdict.outcome, verdict.inlined), (Outcome::Fault, Vec::new()));
}

#[test]
fn a_guest_time_that_comes_out_too_early_is_no_contradiction_within_bounds() {
    // The guest's line about the link's fall, this much later than it was: all its times come out earlier.
    let late = |time: &str| CLEAN.replace("[    6.727231] pcieport", &format!("[    {time}] pcieport"));
    assert_eq!(judge(Variant::WithFix, &late("6.927231"), CLEAN_RECORD).outcome, Outcome::Clean);
    // The reader gone before .remove's write, and nothing allows for as much: the card's insertion bounds it.
    let gone = CLEAN.replace("[    7.249959] sdmorph-test: reader", "[    6.800000] sdmorph-test: reader");
    assert_ne!(gone, CLEAN);
    let reason = reason(Variant::WithFix, &gone, CLEAN_RECORD);
    assert!(reason.contains("did not come before `reader removed`"), "{reason}");
}

#[test]
fn a_removal_that_did_not_wait_for_the_callback_is_not_clean() {
    // .remove's write, moved to right behind the link's fall.
    let early = CLEAN_RECORD.replace("\"t_ns\":13441727632", "\"t_ns\":13057000000");
    assert_ne!(early, CLEAN_RECORD);
    let reason = reason(Variant::WithFix, CLEAN, &early);
    assert!(reason.contains("`idle callback's last read`"), "{reason}");
    assert!(reason.contains("did not come before `.remove at the BAR"), "{reason}");
}

#[test]
fn equal_times_of_the_device_are_in_the_order_of_its_record() {
    // .remove's write, at the time of the callback's last read.
    let equal = CLEAN_RECORD.replace("\"t_ns\":13441727632", "\"t_ns\":13441378211");
    assert_ne!(equal, CLEAN_RECORD);
    assert_eq!(judge(Variant::WithFix, CLEAN, &equal).outcome, Outcome::Clean);
    let (mut lines, last): (Vec<&str>, _) = (equal.lines().collect(), "\"t_ns\":13441378211");
    let write = lines.iter().rposition(|line| line.contains(last)).unwrap();
    let read = lines.iter().position(|line| line.contains(last)).unwrap();
    assert!(read < write);
    lines.swap(read, write);
    let reason = reason(Variant::WithFix, CLEAN, &(lines.join("\n") + "\n"));
    assert!(reason.contains("did not come before `.remove at the BAR"), "{reason}");
}

#[test]
fn a_removal_after_the_same_provocation_is_clean() {
    let verdict = judge(Variant::WithFix, CLEAN, CLEAN_RECORD);
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Clean, None));
}

#[test]
fn a_provocation_that_did_not_happen_is_inconclusive_and_named() {
    for (words, says) in [
        ("\"rule\",\"name\":\"bar-dies\"", "the rule bar-dies never fired"),
        ("bar-vanished", "never recorded the event bar-vanished"),
        ("\"dir\":\"read\"", "0 reads of the vanished BAR"),
    ] {
        let reason = reason(Variant::WithFix, CLEAN, &without(CLEAN_RECORD, words));
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn an_oops_of_another_kind_or_place_is_not_the_fault() {
    for (from, to, says) in [
        ("51010", "51014", "should end in 010"),
        ("RIP: 0010:ioread32", "RIP: 0010:ioread8", "RIP is ioread8"),
        (
            " rtsx_pci_runtime_idle",
            " ? rtsx_pci_runtime_idle",
            "rtsx_pci_runtime_idle is not in the call chain",
        ),
        ("Workqueue: pm ", "Workqueue: events ", "workqueue pm"),
        ("---[ end trace", "---[ cut", "its end is missing"),
        ("BUG: unable to handle page fault for", "BUG: kernel NULL pointer dereference,", "NullPointer"),
    ] {
        let reason = reason(Variant::WithoutFix, &FAULT.replace(from, to), FAULT_RECORD);
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn an_oops_of_other_work_in_the_same_workqueue_is_not_the_fault() {
    let mut scenario = scenario();
    let mut outcome = |work: &str| {
        let fault = scenario.verdict.fault.as_mut().unwrap();
        fault.oops.as_mut().unwrap().work = Some(work.to_owned());
        let verdict = judge_as(&scenario, Variant::WithoutFix, FAULT, FAULT_RECORD, &[], None);
        (verdict.outcome, verdict.reason.unwrap_or_default())
    };
    assert_eq!(outcome("pm_runtime_work").0, Outcome::Fault);
    assert!(outcome("pciehp_queue_pushbutton_work").1.contains("work pciehp_queue_pushbutton_work"));
}

#[test]
fn a_fault_before_link_down_is_not_the_fault() {
    let reason = reason(Variant::WithoutFix, &without(FAULT, "Link Down"), FAULT_RECORD);
    assert!(reason.contains("did not come before it"), "{reason}");
}

#[test]
fn a_slot_that_was_emptied_before_its_link_fell_logs_no_link_down() {
    let disagreements = |log: &str| judge(Variant::WithFix, log, CLEAN_RECORD).disagreements;
    let silent = without(CLEAN, "Link Down");
    assert_eq!(disagreements(&silent), ["the device's link went down, and the guest did not log it"]);
    let emptied = CLEAN.replace("Slot(8): Link Down", "Slot(8): Card not present");
    assert_ne!(emptied, CLEAN);
    assert_eq!(disagreements(&emptied), Vec::<String>::new());
}

#[test]
fn a_fix_that_was_not_skipped_or_skipped_wrongly_is_inconclusive() {
    let left_in = reason(Variant::WithoutFix, CLEAN, CLEAN_RECORD);
    assert!(left_in.contains("the fix was not skipped"), "{left_in}");
    let taken_out = reason(Variant::WithFix, FAULT, FAULT_RECORD);
    assert!(taken_out.contains("in the run with it"), "{taken_out}");
}

#[test]
fn an_unmodelled_access_spoils_either_verdict() {
    let unmodelled = ["reader bar0 0x20".to_owned()];
    let verdict = judge_cut(Variant::WithFix, CLEAN, CLEAN_RECORD, &unmodelled, None);
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
    assert!(verdict.reason.unwrap().contains("reader bar0 0x20"));
}

#[test]
fn an_unmodelled_access_that_the_scenario_names_does_not_and_another_one_does() {
    let mut scenario = scenario();
    scenario.kernel.stray = vec!["* x reader config 0x52 write".to_owned()];
    let mut accesses = vec!["2 x reader config 0x52 write".to_owned()];
    let verdict = judge_as(&scenario, Variant::WithFix, CLEAN, CLEAN_RECORD, &accesses, None);
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Clean, None));
    accesses.push("1 x reader config 0x52 read".to_owned());
    let verdict = judge_as(&scenario, Variant::WithFix, CLEAN, CLEAN_RECORD, &accesses, None);
    assert!(verdict.reason.unwrap().contains("0x52 read"));
}

#[test]
fn a_deadline_is_the_reason_when_nothing_else_is() {
    let log = CLEAN.split_once("<14>").unwrap().0;
    let verdict =
        judge_cut(Variant::WithFix, log, CLEAN_RECORD, &[], Some("waited 900 s for: the reader removed"));
    assert_eq!(verdict.reason.unwrap(), "waited 900 s for: the reader removed");
}

#[test]
fn sides_that_contradict_each_other_give_no_verdict() {
    let other_register = FAULT_RECORD.replace("000010", "000020").replace("0x10", "0x20");
    let verdict = judge(Variant::WithoutFix, FAULT, &other_register);
    assert_eq!(verdict.disagreements.len(), 1);
    assert!(verdict.reason.unwrap().contains("guest and device disagree"));
}

#[test]
fn an_unexpected_error_line_is_not_clean() {
    let log = format!("{CLEAN}<3>[    8.000000] rtsx_pci 10000:01:00.0: something broke\n");
    let reason = reason(Variant::WithFix, &log, CLEAN_RECORD);
    assert!(reason.contains("something broke"), "{reason}");
}

#[test]
fn a_script_that_counts_other_results_than_it_planned_or_showed_is_not_clean() {
    let totals = |to: &str| {
        let from = "# Totals: pass:8 fail:0 xfail:0 xpass:0 skip:0 error:0";
        assert!(CLEAN.contains(from));
        reason(Variant::WithFix, &CLEAN.replace(from, &format!("# Totals: {to}")), CLEAN_RECORD)
    };
    assert!(totals("pass:5 fail:1 xfail:0 xpass:0 skip:0 error:0").starts_with("1 failed tests"));
    assert!(totals("pass:0 fail:0 xfail:0 xpass:0 skip:8 error:0").contains("everything was skipped"));
    assert!(totals("pass:4 fail:0 xfail:0 xpass:0 skip:1 error:0").contains("planned 8 tests, and ran 5"));
}

#[test]
fn a_failed_guest_test_is_named_with_what_it_saw() {
    let log = CLEAN
        .replace(
            "# placed 16 VMD vectors on CPU 1, pciehp's thread on CPU 0",
            "# no vmd0 in /proc/interrupts",
        )
        .replace("ok 2 - interrupts", "not ok 2 - interrupts");
    let reason = reason(Variant::WithFix, &log, CLEAN_RECORD);
    assert!(reason.contains("interrupts and threads are placed") && reason.contains("no vmd0"), "{reason}");
}

/// Judge a run of another scenario, left by a stock kernel that had lost the fix to the module, or by one on trial.
fn judge_of(
    name: &str,
    variant: Variant,
    log: &str,
    record: &str,
    change: impl Fn(&mut Scenario),
) -> Verdict {
    let mut scenario = Scenario::load(name).unwrap();
    change(&mut scenario);
    let log = Klog::from_bytes(log.as_bytes());
    let record = Record::parse(record, &scenario.moments).unwrap();
    let evidenced = Evidenced {
        scenario: &scenario,
        variant,
        module: variant == Variant::WithoutFix,
        log: &log,
        record: &record,
        unmodelled: Some(&[]),
        counters: &BTreeMap::new(),
        device_memory_kib: &[],
        host_hashes: &[],
        cut_short: None,
        modules: &[],
    };
    evidenced.judge()
}

const BETWEEN: &str = include_str!("../../fixtures/between-fault-6.1.log");
const BETWEEN_RECORD: &str = include_str!("../../fixtures/between-fault.jsonl");
const UNBIND: &str = include_str!("../../fixtures/unbind-fault-6.1.log");
const UNBIND_RECORD: &str = include_str!("../../fixtures/unbind-fault.jsonl");
const HANG: &str = include_str!("../../fixtures/resumes-hang-6.1.log");
const HANG_RECORD: &str = include_str!("../../fixtures/resumes-hang.jsonl");

#[test]
fn a_callback_that_starts_between_put_and_get_faults_on_the_unmapped_bar() {
    let verdict = judge_of("idle-between", Variant::WithoutFix, BETWEEN, BETWEEN_RECORD, |_| ());
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Fault, None));
    assert_eq!(verdict.disagreements, Vec::<String>::new());
}

#[test]
fn a_fault_on_a_device_that_is_there_needs_an_access_there_that_the_device_saw() {
    let verdict = judge_of("idle-unbind", Variant::WithoutFix, UNBIND, UNBIND_RECORD, |_| ());
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Fault, None));
    let other = UNBIND_RECORD.replace("\"offset\":\"0x10\"", "\"offset\":\"0x0\"");
    let verdict = judge_of("idle-unbind", Variant::WithoutFix, UNBIND, &other, |_| ());
    assert_eq!(
        verdict.disagreements,
        ["the guest faulted at page offset 0x10, and the device saw no access there"]
    );
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
}

#[test]
fn a_removal_that_begins_before_the_callback_is_not_the_scenario_s_fault() {
    // The same in another order: the callback's first register comes after all the rest.
    let (moved, rest): (Vec<_>, Vec<_>) =
        UNBIND_RECORD.lines().partition(|line| line.contains("OLT_LED_CTL"));
    let last = moved.last().unwrap();
    let (head, tail) = last.split_once("\"t_ns\":").unwrap();
    let late = format!("{head}\"t_ns\":9{tail}");
    let record = [rest.join("\n"), late].join("\n") + "\n";
    let verdict = judge_of("idle-unbind", Variant::WithoutFix, UNBIND, &record, |_| ());
    let reason = verdict.reason.unwrap();
    assert!(reason.contains("did not come before `removal begins`"), "{reason}");
}

#[test]
fn a_task_that_hangs_where_the_scenario_says_is_a_hang_if_the_device_saw_nothing_of_what_it_would_have_done()
{
    let verdict = judge_of("idle-resumes", Variant::OnTrial, HANG, HANG_RECORD, |_| ());
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Hang, None));
    assert_eq!(verdict.hang, Some(0));
    // .remove's write of BIER, which would not have come if it hung.
    let down = HANG_RECORD.lines().find(|line| line.contains("\"link-down\"")).unwrap();
    let (_, t_ns) = down.split_once("\"t_ns\":").unwrap();
    let written = format!(
        "{{\"absent\":true,\"dir\":\"write\",\"fn\":\"vmd\",\"kind\":\"access\",\"offset\":\"0xfc000018\",\"size\":4,\
         \"space\":\"bar2\",\"value\":\"0x0\",\"t_ns\":{t_ns}\n"
    );
    let verdict =
        judge_of("idle-resumes", Variant::OnTrial, HANG, &format!("{HANG_RECORD}{written}"), |_| ());
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
    assert_eq!(verdict.reason.unwrap(), "`.remove at the BAR` came, and never should have");
}

#[test]
fn a_task_that_is_blocked_on_a_host_without_time_is_no_hang() {
    let reason = |log: &str, record: &str| {
        let verdict = judge_of("idle-resumes", Variant::OnTrial, log, record, |_| ());
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
        verdict.reason.unwrap()
    };
    // The guest says nothing of its own any more.
    let (head, _) = HANG.split_once("<14>[    7.302756] sdmorph-ktap: ok 6").unwrap();
    let silent = reason(head, HANG_RECORD);
    assert!(silent.contains("reported no result after it"), "{silent}");
    assert!(silent.ends_with("(INFO: task kworker/1:0:19 blocked for more than 1 seconds.)"), "{silent}");
    // The idle callback goes on, slowly: 1.3 s after the link's fall, which is at 5.068 for the guest.
    let at = |t_ns: u64| {
        let read = "{\"absent\":true,\"dir\":\"read\",\"fn\":\"vmd\",\"kind\":\"access\",\"offset\":\"0xfc000010\",\
                    \"size\":4,\"space\":\"bar2\",\"value\":\"0xffffffff\"";
        format!("{HANG_RECORD}{read},\"t_ns\":{t_ns}}}\n")
    };
    let slow = reason(HANG, &at(8_022_297_729 + 1_300_000_000));
    assert!(slow.contains("still at work at the device in the slot, 307 ms into the second half"), "{slow}");
    // So does the driver of the drive, if that is what is in the slot by then.
    let drive = at(8_022_297_729 + 1_300_000_000)
        .replace("\"absent\":true,\"dir\":\"read\",\"fn\":\"vmd\"", "\"dir\":\"read\",\"fn\":\"nvme\"")
        .replace("0xfc000010\",\"size\":4,\"space\":\"bar2\"", "0x1c\",\"size\":4,\"space\":\"bar0\"");
    assert_eq!(reason(HANG, &drive), slow);
    // What it did before it came to wait says nothing against it.
    let verdict = judge_of("idle-resumes", Variant::OnTrial, HANG, &at(8_022_297_729 + 900_000_000), |_| ());
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Hang, None));
    // Where nothing is known of the clocks, nothing is known of the time.
    let unknown = reason(&without(&without(HANG, "Link Down"), "drivers bound"), HANG_RECORD);
    assert!(unknown.contains("by the guest's clock"), "{unknown}");
}

#[test]
fn a_task_that_hangs_elsewhere_or_is_not_asked_for_is_no_hang() {
    let reason = |change: &dyn Fn(&mut Scenario), log: &str| {
        let verdict = judge_of("idle-resumes", Variant::OnTrial, log, HANG_RECORD, change);
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
        verdict.reason.unwrap()
    };
    let blocked = |scenario: &mut Scenario, chain: &str| {
        let hang = scenario.verdict.hang.as_mut().unwrap();
        hang.blocked.as_mut().unwrap().chain = vec![chain.to_owned()];
    };
    let other = reason(&|scenario| blocked(scenario, "nvme_remove"), HANG);
    assert!(other.contains("not the scenario's: nvme_remove is not in its call trace"), "{other}");
    let none = reason(&|scenario| scenario.verdict.hang = None, HANG);
    assert!(none.contains("a task hangs, and the scenario has no hang: INFO: task kworker/"), "{none}");
    let cut = reason(&|_| (), HANG.split_once(" </TASK>").unwrap().0);
    assert!(cut.contains("the end of its call trace is missing"), "{cut}");
}

#[test]
fn a_warning_spoils_clean_but_for_a_kernel_on_trial_and_hides_no_fault() {
    let warning = "<4>[    8.000000] WARNING: possible circular locking dependency detected\n";
    let clean = format!("{CLEAN}{warning}");
    let reason = reason(Variant::WithFix, &clean, CLEAN_RECORD);
    assert!(reason.contains("the kernel complained: WARNING: possible circular"), "{reason}");
    assert_eq!(judge(Variant::OnTrial, &clean, CLEAN_RECORD).outcome, Outcome::Clean);
    let (head, tail) = FAULT.split_once("<1>").unwrap();
    let faulted = format!("{head}{warning}<1>{tail}");
    let verdict = judge(Variant::WithoutFix, &faulted, FAULT_RECORD);
    assert_eq!((verdict.outcome, verdict.oops), (Outcome::Fault, Some(1)));
}
