//! The table as a page: `index.html`, which needs no network and no other file, and whose cells lead to the runs.

use std::fmt::Write as _;

use super::claims::{Claim, Claims, Judgement};
use super::markup::markup;
use super::verdicts::{Cell, Finding, Run, Verdicts};
use super::wording::{bad, count, course, headline, interval, made, ms, remarks, short};

/// The page that `sdmorph report` makes of a run, in its directory.
const REPORT: &str = "report.html";

/// The page.
#[must_use]
pub fn write(verdicts: &Verdicts, claims: &Claims) -> String {
    let (runs, planned) = verdicts.runs();
    let so_far = if runs == planned { String::new() } else { format!(" of {planned}") };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Verdicts: sdmorph</title>\n<style>\n{}</style>\n</head>\n<body>\n<header>\n<h1>Verdicts</h1>\n\
         <p>{runs}{so_far} runs: {} kernels under {} scenarios.</p>\n",
        include_str!("page.css"),
        verdicts.kernels.len(),
        verdicts.scenarios.len()
    );
    let _ =
        writeln!(html, "<p class=\"about\">{}</p>\n</header>\n<main>", markup(&made(verdicts).join(" · ")));
    table(&mut html, verdicts);
    let about: Vec<&Claim> = claims.about(verdicts).collect();
    if !about.is_empty() {
        let _ = writeln!(
            html,
            "<h2>Claim by claim</h2>\n<p class=\"about\">The thread is <q>{}</q>.</p>",
            markup(&claims.thread)
        );
        for claim in about {
            one_claim(&mut html, claim, verdicts);
        }
    }
    html.push_str("<h2>Cell by cell</h2>\n");
    for cell in &verdicts.cells {
        details(&mut html, cell);
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn table(html: &mut String, verdicts: &Verdicts) {
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\"></th>");
    for kernel in &verdicts.kernels {
        let _ = write!(
            html,
            "<th scope=\"col\" title=\"{}\">{}<br><small>{}</small></th>",
            markup(&kernel.title),
            markup(&kernel.name),
            markup(&kernel.release)
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &verdicts.scenarios {
        let _ = write!(
            html,
            "<tr><th scope=\"row\" title=\"{}\">{}</th>",
            markup(&row.purpose),
            markup(&row.name)
        );
        for kernel in &verdicts.kernels {
            match verdicts.cell(&kernel.name, &row.name) {
                Some(cell) => one_cell(html, cell),
                None => html.push_str("<td></td>"),
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str(
        "</tbody></table></div>\n<p class=\"about\">Faults and hangs of the conclusive runs; the interval in which their true \
         part lies with a probability of 95 % (Wilson); how long the removal took, half of the times and 95 % of them at \
         most.</p>\n",
    );
}

/// How a finding looks: not by its colour alone.
fn look(finding: Finding) -> (&'static str, &'static str) {
    match finding {
        Finding::Holds => ("holds", "✓"),
        Finding::Fails => ("fails", "✕"),
        Finding::Open => ("open", "?"),
    }
}

fn one_cell(html: &mut String, cell: &Cell) {
    let summary = &cell.summary;
    let (class, sign) = look(summary.finding());
    let _ = write!(
        html,
        "<td class=\"{class}\"><b><span aria-hidden=\"true\">{sign}</span> <a href=\"#{}\">{}</a></b>",
        anchor(cell),
        markup(&short(cell))
    );
    let interval = interval(&bad(summary));
    if !interval.is_empty() {
        let _ = write!(html, "<small>{interval}</small>");
    }
    if summary.removal_median_ms.is_some() {
        let _ = write!(
            html,
            "<small>removal {}, {}</small>",
            ms(summary.removal_median_ms),
            ms(summary.removal_p95_ms)
        );
    }
    if !summary.warnings.is_empty() {
        html.push_str("<small>with warnings</small>");
    }
    if let Some(run) = cell.example() {
        let _ = write!(html, "<small>{}</small>", links(cell, run));
    }
    html.push_str("</td>");
}

fn links(cell: &Cell, run: &Run) -> String {
    // Names of kernels and scenarios have nothing that would have to be escaped in an address but `+`, which a path may have.
    let place = markup(&cell.place(run).to_string_lossy());
    let page = if run.whole { format!(" <a href=\"{place}/{REPORT}\">page</a>") } else { String::new() };
    format!("<a href=\"{place}/console.log\">log</a>{page} <a href=\"{place}/result.json\">result</a>")
}

fn anchor(cell: &Cell) -> String {
    markup(&format!("{}/{}", cell.kernel, cell.scenario))
}

fn one_claim(html: &mut String, claim: &Claim, verdicts: &Verdicts) {
    let judge = |judgement: Judgement| match judgement {
        Judgement::Holds => ("holds", "✓"),
        Judgement::DoesNotHold => ("fails", "✕"),
        Judgement::Open => ("open", "?"),
    };
    let judgement = claim.judge(verdicts);
    let _ = write!(
        html,
        "<h3>{} {}: {}</h3>\n<blockquote><p>{}</p></blockquote>\n<p class=\"about\">{}; {}.</p>\n<table>\n<thead><tr>\
         <th scope=\"col\">kernel</th><th scope=\"col\">scenario</th><th scope=\"col\">has to be</th>\
         <th scope=\"col\">is</th></tr></thead><tbody>\n",
        judge(judgement).1,
        markup(&claim.title),
        judgement.as_str(),
        markup(claim.says.trim()),
        markup(&claim.who),
        markup(&claim.source)
    );
    for answer in &claim.answers {
        let (class, sign) = judge(answer.judge(verdicts));
        let is = match answer.cell(verdicts) {
            Some(cell) => format!("<a href=\"#{}\">{}</a>", anchor(cell), markup(&short(cell))),
            None => "not in this table".to_owned(),
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\"><b>{sign}</b> {is}</td></tr>",
            markup(&answer.kernel),
            markup(&answer.scenario),
            answer.is.as_str()
        );
    }
    html.push_str("</tbody></table>\n");
}

fn details(html: &mut String, cell: &Cell) {
    let summary = &cell.summary;
    let (_, sign) = look(summary.finding());
    let _ = writeln!(
        html,
        "<h3 id=\"{}\">{sign} {} under {}: {}</h3>",
        anchor(cell),
        markup(&cell.kernel),
        markup(&cell.scenario),
        markup(&short(cell))
    );
    if let Some(headline) = headline(cell) {
        let _ = writeln!(html, "<p><code>{}</code></p>", markup(&headline));
    }
    let _ = writeln!(
        html,
        "<p class=\"about\">removal: median {}, p95 {}; idle callbacks that began on a dead device: {}</p>",
        ms(summary.removal_median_ms),
        ms(summary.removal_p95_ms),
        count(summary.idle_callbacks_on_dead_device)
    );
    if let Some(run) = cell.example() {
        for line in [run.said.means.clone(), course(run)].iter().filter(|line| !line.is_empty()) {
            let _ = writeln!(html, "<p>Run {}, {}: {}</p>", run.run, run.said.outcome.as_str(), markup(line));
        }
    }
    let remarks = remarks(cell);
    if !remarks.is_empty() {
        let lines: String = remarks.iter().map(|line| format!("<li>{}</li>", markup(line))).collect();
        let _ = writeln!(html, "<ul>{lines}</ul>");
    }
    html.push_str("<details><summary>its runs</summary>\n<ul>\n");
    for run in &cell.runs {
        let removal = run.said.removal_ms.map(|value| format!(", removal {}", ms(Some(value))));
        let _ = writeln!(
            html,
            "<li>run {}: {}{} <small>{}</small></li>",
            run.run,
            run.said.outcome.as_str(),
            removal.unwrap_or_default(),
            links(cell, run)
        );
    }
    html.push_str("</ul></details>\n");
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn each_cell_leads_to_its_log_and_its_page() {
        let html = write(&verdicts(), &Claims::shipped().unwrap());
        for part in [
            "<td class=\"fails\"><b><span aria-hidden=\"true\">✕</span> <a href=\"#6.1-none/sd7-idle-race\">3/3 fault, 1 inconclusive</a></b>",
            "<a href=\"cells/6.1-none/sd7-idle-race/1/console.log\">log</a> <a href=\"cells/6.1-none/sd7-idle-race/1/report.html\">page</a>",
            "<h3 id=\"6.1-none/sd7-idle-race\">",
            "the patch &lt;v9&gt; does not apply: hunk 1 &amp; 2 / failed",
            "<p>Run 1, fault: BAR vanished 0.0 ms; link down 5.2 ms</p>",
            "prefers-color-scheme: dark",
        ] {
            assert!(html.contains(part), "no `{part}` in\n{html}");
        }
        // Run 2 is not kept whole: there is no page of it.
        assert!(!html.contains("sd7-idle-race/2/report.html"));
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
        let html = write(&verdicts(), &Claims::shipped().unwrap());
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<script"));
        // As XML, apart from what HTML leaves open.
        let mut xml = html.replace("<!doctype html>\n", "").replace("<br>", "<br/>");
        for line in html.lines().filter(|line| line.starts_with("<meta ")) {
            xml = xml.replace(line, "");
        }
        let document = roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
        let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
        let targets = document.descendants().filter_map(|node| node.attribute("href")?.strip_prefix('#'));
        for target in targets {
            assert!(ids.contains(&target), "{target}");
        }
    }
}
