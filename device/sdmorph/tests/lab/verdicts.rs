//! `sdmorph lab verdicts`, `merge` and `summary`, with a shell script in QEMU's place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Ended, Host, bzimage};

/// A machine that ends at once, and counts its starts.
const ENDS: &str = "echo x >>starts; echo 'no machine' >&2; exit 1";

impl Host {
    /// `lab verdicts` of the host's kernel under the simplest scenario, and more arguments.
    fn verdicts(&self, arguments: &[&str]) -> Ended {
        let kernel = self.path("bzImage");
        let mut all = vec!["verdicts", "--kernels", kernel.to_str().unwrap()];
        all.extend(["--scenarios", "boot-insert-remove", "--out", "out"]);
        all.extend(arguments);
        self.lab(&all)
    }

    fn starts(&self) -> usize {
        fs::read_to_string(self.path("starts")).unwrap_or_default().lines().count()
    }

    fn document(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("out/verdicts.json")).unwrap()).unwrap()
    }
}

fn runs(document: &Value) -> Vec<&Value> {
    let cells = document["cells"].as_array().unwrap();
    cells.iter().flat_map(|cell| cell["runs"].as_array().unwrap()).collect()
}

#[test]
fn guest_that_hangs_costs_its_deadline_and_is_made_again_alone() {
    let host = Host::new("echo x >>starts; exec sleep 1000");
    let lab = host.verdicts(&["--repeat", "2", "--jobs", "2", "--deadline", "1"]);
    assert_eq!(lab.code, Some(3), "{}", lab.stderr);
    assert!(lab.stdout.contains("2 inconclusive"), "{}", lab.stdout);
    let reason = "inconclusive: waited 1 s for the kernel's first line; last console line: (nothing)";
    assert!(lab.stdout.contains(&format!("2 x {reason}")), "{}", lab.stdout);
    // Each of the two at once, and whichever was first made again alone; the other one again, or it knew already.
    assert!((3..=4).contains(&host.starts()), "{}", host.starts());
    assert!(lab.stderr.contains("again, alone"), "{}", lab.stderr);
    let document = host.document();
    let again = runs(&document).iter().filter_map(|run| run["again"].as_array()).flatten().count();
    assert_eq!(again, host.starts() - 2);
    assert!(host.path("out/cells/bzImage/boot-insert-remove/1/console.log").exists());
    assert!(host.left().is_empty(), "{:?}", host.left());
}

#[test]
fn campaign_that_is_interrupted_goes_on_where_it_was() {
    let host = Host::new(&format!("[ -e stop ] && {{ kill -INT $PPID; exec sleep 1000; }}\n{ENDS}"));
    let first = host.verdicts(&["--repeat", "1", "--jobs", "1"]);
    assert_eq!(first.code, Some(3), "{}", first.stderr);
    let before = host.starts();
    let kept = fs::read(host.path("out/cells/bzImage/boot-insert-remove/1/run.json")).unwrap();
    fs::write(host.path("stop"), "").unwrap();
    let second = host.verdicts(&["--repeat", "3", "--jobs", "2"]);
    assert_eq!(second.code, Some(3), "{}", second.stderr);
    assert!(second.stderr.contains("2 runs to make, 1 are there"), "{}", second.stderr);
    assert!(second.stderr.contains("the same command goes on"), "{}", second.stderr);
    assert!(
        second.stderr.contains("interrupted; everything that was started has been ended"),
        "{}",
        second.stderr
    );
    // The table is of what there is.
    assert!(second.stdout.contains("2 runs of 3 are not there yet"), "{}", second.stdout);
    assert_eq!(runs(&host.document()).len(), 1);
    assert!(host.left().is_empty(), "{:?}", host.left());
    fs::remove_file(host.path("stop")).unwrap();
    let third = host.verdicts(&["--repeat", "3", "--jobs", "2"]);
    assert_eq!(third.code, Some(3), "{}", third.stderr);
    assert_eq!(runs(&host.document()).len(), 3);
    // The two that were left, and one of them perhaps again; the first one was not touched.
    assert!((2..=4).contains(&(host.starts() - before)), "{}", host.starts() - before);
    assert_eq!(fs::read(host.path("out/cells/bzImage/boot-insert-remove/1/run.json")).unwrap(), kept);
}

#[test]
fn kernel_that_cannot_be_had_costs_only_its_own_cells() {
    let host = Host::new(ENDS);
    fs::create_dir(host.path("other")).unwrap();
    fs::write(host.path("other/bzImage"), bzimage("6.9.1")).unwrap();
    fs::write(host.path("other/config"), "CONFIG_PM=y\n").unwrap();
    let kernels = format!("{},{}", host.path("other/bzImage").display(), host.path("bzImage").display());
    let lab = host.lab(&[
        "verdicts",
        "--kernels",
        &kernels,
        "--scenarios",
        "boot-insert-remove",
        "--repeat",
        "1",
        "--out",
        "out",
    ]);
    assert_eq!(lab.code, Some(3), "{}", lab.stderr);
    let document = host.document();
    let outcomes: Vec<&str> = runs(&document).iter().map(|run| run["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "inconclusive"]);
    let why = runs(&document)[0]["reason"].as_str().unwrap();
    assert!(why.contains("CONFIG_VMD is not set"), "{why}");
    assert!(lab.stdout.contains("bzImage boot-insert-remove: 1 x not run: "), "{}", lab.stdout);
    let ktap = fs::read_to_string(host.path("out/verdicts.ktap")).unwrap();
    assert!(ktap.contains("  not ok 1 boot-insert-remove # ERROR not run\n"), "{ktap}");
}

#[test]
fn malformed_campaign_is_named_by_line_and_field_before_anything_runs() {
    let host = Host::new(ENDS);
    assert_eq!(host.verdicts(&["--repeat", "2", "--plan", "plan.json"]).code, Some(0));
    assert!(!host.path("out").exists());
    let text = fs::read_to_string(host.path("plan.json")).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(host.path("wrong.json"), text.replacen(from, to, 1)).unwrap();
        let lab = host.lab(&["verdicts", "--campaign", "wrong.json", "--out", "out"]);
        assert_eq!((lab.code, host.path("out").exists()), (Some(2), false), "{}", lab.stderr);
        lab.stderr
    };
    let message = refused("\"run\": 2", "\"run\": \"two\"");
    let line = text[..text.find("\"run\": 2").unwrap()].matches('\n').count() + 1;
    assert!(message.contains(&format!("wrong.json:{line}:")), "{message}");
    assert!(message.contains("(field `run`)"), "{message}");
    let message = refused("\"lab\": \"", "\"lab\": \"9.");
    assert!(message.contains("made for sdmorph 9."), "{message}");
    let message = refused("\"content\": \"", "\"content\": \"0");
    assert!(message.contains("the kernel bzImage is made from something else here"), "{message}");
    let lab = host.lab(&["verdicts", "--campaign", "plan.json", "--shard", "3/2", "--out", "out"]);
    assert_eq!(lab.code, Some(2));
    assert!(lab.stderr.contains("there is no shard 3 of 2"), "{}", lab.stderr);
}

#[test]
fn shards_are_parts_of_the_whole_and_merge_joins_them() {
    let host = Host::new(ENDS);
    assert_eq!(host.verdicts(&["--repeat", "3", "--plan", "plan.json"]).code, Some(0));
    for shard in ["1", "2"] {
        let (part, out) = (format!("{shard}/2"), format!("shard-{shard}"));
        let lab = host.lab(&["verdicts", "--campaign", "plan.json", "--shard", &part, "--out", &out]);
        assert_eq!(lab.code, Some(3), "{}", lab.stderr);
    }
    let made = |out: &str| -> BTreeSet<String> {
        let cell = host.path(out).join("cells/bzImage/boot-insert-remove");
        fs::read_dir(cell).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(made("shard-1"), BTreeSet::from(["1".to_owned(), "3".to_owned()]));
    assert_eq!(made("shard-2"), BTreeSet::from(["2".to_owned()]));
    let merged = host.lab(&["merge", "shard-1", "shard-2", "--out", "out"]);
    assert_eq!(merged.code, Some(3), "{}", merged.stderr);
    assert!(merged.stdout.contains("3 inconclusive"), "{}", merged.stdout);
    assert_eq!(made("out").len(), 3);
    // One shard made anew by somebody else: not the same run.
    fs::remove_dir_all(host.path("shard-2")).unwrap();
    let lab = host.lab(&["verdicts", "--campaign", "plan.json", "--out", "shard-2"]);
    assert_eq!(lab.code, Some(3), "{}", lab.stderr);
    let refused = host.lab(&["merge", "shard-1", "shard-2", "--out", "all"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("run 1 is in shard-1 and in shard-2, and is not the same"),
        "{}",
        refused.stderr
    );
    assert!(!host.path("all/campaign.json").exists());
}

#[test]
fn disk_that_is_full_is_said_and_the_table_is_shown() {
    let host = Host::new(ENDS);
    // A directory where a run wants its own: as good as no place.
    fs::create_dir_all(host.path("out/cells/bzImage")).unwrap();
    fs::write(host.path("out/cells/bzImage/boot-insert-remove"), "").unwrap();
    let lab = host.verdicts(&["--repeat", "1"]);
    assert_eq!(lab.code, Some(3), "{}", lab.stderr);
    assert!(lab.stdout.contains("1 not run"), "{}", lab.stdout);
    assert_eq!(runs(&host.document())[0]["outcome"], "failed");
    assert_eq!(host.starts(), 0);
}

#[test]
fn summary_is_a_mail_and_nobody_has_tested_what_says_nothing() {
    let host = Host::new(ENDS);
    host.verdicts(&["--repeat", "1"]);
    let mail = host.lab(&["summary", "out"]);
    assert_eq!(mail.code, Some(0), "{}", mail.stderr);
    assert!(mail.stdout.contains("\nboot-insert-remove          ?\n"), "{}", mail.stdout);
    assert!(mail.stdout.lines().all(|line| line.chars().count() <= 72), "{}", mail.stdout);
    let refused = host.lab(&["summary", "out", "--tested-by", "A. Tester <a@example.org>"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no kernel of this campaign holds"), "{}", refused.stderr);
    let missing = host.lab(&["summary", "nowhere"]);
    assert!(missing.stderr.contains("nowhere"), "{}", missing.stderr);
}

#[test]
fn results_are_read_from_a_file_as_well() {
    let host = Host::new(ENDS);
    host.verdicts(&["--repeat", "1"]);
    let page = host.lab(&["verdicts", "--render", "out/verdicts.json"]);
    assert_eq!(page.code, Some(0), "{}", page.stderr);
    assert_eq!(page.stdout, fs::read_to_string(host.path("out/verdicts.md")).unwrap());
    let text = fs::read_to_string(host.path("out/verdicts.json")).unwrap();
    fs::write(host.path("cut.json"), &text[..text.len() / 2]).unwrap();
    let refused = host.lab(&["verdicts", "--render", "cut.json"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("cut.json: ") && refused.stderr.contains("line "), "{}", refused.stderr);
    let document: PathBuf = Path::new("out").join("index.html");
    let html = fs::read_to_string(host.dir.path().join(document)).unwrap();
    assert!(html.contains("cells/bzImage/boot-insert-remove/1/console.log"));
}
