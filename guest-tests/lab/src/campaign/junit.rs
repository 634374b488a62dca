//! The table as JUnit XML, as the schemas in use have it: that of Apache Ant's task, and Jenkins' (xunit plugin,
//! junit-10.xsd). A kernel is a test suite, a scenario is its test case.
//!
//! A fault or a hang is a `failure`; a cell that says nothing is an `error`: what was not tested has not passed.

use std::fmt::Write as _;

use super::markup::markup;
use super::verdicts::{Cell, Finding, Verdicts};
use super::wording::{bad, headline, interval, made, ms, remarks, short};

/// The document.
#[must_use]
pub fn write(verdicts: &Verdicts) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for (id, kernel) in verdicts.kernels.iter().enumerate() {
        let cells: Vec<&Cell> = verdicts.cells.iter().filter(|cell| cell.kernel == kernel.name).collect();
        let count = |finding: Finding| cells.iter().filter(|cell| cell.summary.finding() == finding).count();
        let wall_s: f64 = cells.iter().map(|cell| wall_s(cell)).sum();
        // Both schemas want a time without a zone and some host's name; a real one is nobody's business.
        let _ = writeln!(
            xml,
            "  <testsuite id=\"{id}\" name=\"{name}\" package=\"sdmorph\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
             time=\"{wall_s:.3}\" timestamp=\"{}\" hostname=\"localhost\">\n    <properties>",
            cells.len(),
            count(Finding::Fails),
            count(Finding::Open),
            if verdicts.began.is_empty() {
                "1970-01-01T00:00:00"
            } else {
                verdicts.began.trim_end_matches('Z')
            },
            name = markup(&kernel.name),
        );
        for (name, value) in
            [("title", &kernel.title), ("release", &kernel.release), ("made", &made(verdicts).join("; "))]
        {
            let _ = writeln!(xml, "      <property name=\"{name}\" value=\"{}\"/>", markup(value));
        }
        xml.push_str("    </properties>\n");
        for cell in cells {
            test_case(&mut xml, cell);
        }
        xml.push_str("    <system-out/>\n    <system-err/>\n  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn wall_s(cell: &Cell) -> f64 {
    cell.runs.iter().map(|run| run.said.wall_s).sum()
}

fn test_case(xml: &mut String, cell: &Cell) {
    let summary = &cell.summary;
    let _ = write!(
        xml,
        "    <testcase name=\"{}\" classname=\"sdmorph.{}\" time=\"{:.3}\"",
        markup(&cell.scenario),
        markup(&cell.kernel),
        wall_s(cell)
    );
    let (element, kind) = match summary.finding() {
        Finding::Holds if remarks(cell).is_empty() => {
            xml.push_str("/>\n");
            return;
        }
        Finding::Holds => {
            let said = remarks(cell).join("\n");
            let _ = writeln!(xml, ">\n      <system-out>{}</system-out>\n    </testcase>", markup(&said));
            return;
        }
        Finding::Fails if summary.hangs > 0 => ("failure", "hang"),
        Finding::Fails => ("failure", "fault"),
        Finding::Open => ("error", "open"),
    };
    let message = match headline(cell) {
        Some(headline) => format!("{}: {headline}", short(cell)),
        None => short(cell),
    };
    let _ = writeln!(xml, ">\n      <{element} type=\"{kind}\" message=\"{}\">", markup(&message));
    let mut lines = remarks(cell);
    if summary.faults.runs > 0 {
        lines.push(format!("faults and hangs: {} of runs, at 95 %", interval(&bad(summary))));
    }
    if summary.removal_median_ms.is_some() {
        let (median, p95) = (ms(summary.removal_median_ms), ms(summary.removal_p95_ms));
        lines.push(format!("removal: median {median}, p95 {p95}"));
    }
    lines.extend(cell.runs.iter().map(|run| {
        let place = cell.place(run);
        format!("run {}: {}: {}/console.log", run.run, run.said.outcome.as_str(), place.display())
    }));
    for line in lines {
        let _ = writeln!(xml, "{}", markup(&line));
    }
    let _ = writeln!(xml, "      </{element}>\n    </testcase>");
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn the_document_is_well_formed_and_its_counts_are_those_of_its_cases() {
        let xml = write(&verdicts());
        let document = roxmltree::Document::parse(&xml).unwrap();
        let suites: Vec<_> = document.root_element().children().filter(|node| node.is_element()).collect();
        assert_eq!(suites.len(), 2);
        for suite in &suites {
            let inside: Vec<&str> = suite
                .children()
                .filter(|node| node.is_element())
                .map(|node| node.tag_name().name())
                .collect();
            assert_eq!(inside, ["properties", "testcase", "testcase", "system-out", "system-err"]);
            let count =
                |name: &str| suite.descendants().filter(|node| node.has_tag_name(name)).count().to_string();
            assert_eq!(suite.attribute("tests"), Some(count("testcase").as_str()));
            assert_eq!(suite.attribute("failures"), Some(count("failure").as_str()));
            assert_eq!(suite.attribute("errors"), Some(count("error").as_str()));
            for name in ["id", "name", "package", "time", "timestamp", "hostname"] {
                assert!(suite.attribute(name).is_some_and(|value| !value.is_empty()), "{name}");
            }
        }
        assert_eq!(suites[0].attribute("timestamp"), Some("2026-11-26T18:35:45"));
        let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
        assert!(failure.attribute("message").unwrap().contains("BUG: unable to handle page fault"));
        assert!(failure.text().unwrap().contains("cells/6.1-none/sd7-idle-race/2/console.log"));
        let error = document.descendants().find(|node| node.has_tag_name("error")).unwrap();
        assert!(error.text().unwrap().contains("the patch <v9> does not apply: hunk 1 & 2"));
    }
}
