//! Fragments of a kernel's configuration, as kselftest's `config` files are: merged, and looked for in what comes of them.

use std::collections::BTreeMap;

use crate::assets::error::{Error, Result};
use crate::assets::kernels::Text;

/// What a fragment asks for: options by name, without `CONFIG_`, and their values as they stand in the file; `n` if unset.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted(BTreeMap<String, Entry>);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    value: String,
    /// Where it is asked for: `small.config:12`.
    place: String,
}

impl Wanted {
    /// Merges fragments: of several lines about an option the last one wins.
    pub(super) fn merge(fragments: &[Text]) -> Result<Self> {
        let mut wanted = BTreeMap::new();
        for Text { name, text } in fragments {
            for (index, line) in text.lines().enumerate() {
                let place = format!("{name}:{}", index + 1);
                match parse(line) {
                    Line::Nothing => {}
                    Line::Option(option, value) => {
                        wanted.insert(option.to_owned(), Entry { value: value.to_owned(), place });
                    }
                    Line::Wrong => {
                        return Err(Error::Unusable(format!(
                            "{place}: `{line}` is neither CONFIG_NAME=VALUE nor `# CONFIG_NAME is not set`"
                        )));
                    }
                }
            }
        }
        Ok(Self(wanted))
    }

    /// As lines of a `.config`.
    pub(super) fn text(&self) -> String {
        let line = |(name, option): (&String, &Entry)| match option.value.as_str() {
            "n" => format!("# CONFIG_{name} is not set\n"),
            value => format!("CONFIG_{name}={value}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// What a kernel's `.config` has otherwise, one sentence each: an option that does not exist, or depends on another.
    pub(super) fn missing_in(&self, config: &str) -> Vec<String> {
        let lines = config.lines().filter_map(|line| match parse(line) {
            Line::Option(name, value) => Some((name, value)),
            Line::Nothing | Line::Wrong => None,
        });
        let has: BTreeMap<&str, &str> = lines.collect();
        let differs = |(name, option): (&String, &Entry)| {
            let is = has.get(name.as_str()).copied().unwrap_or("n");
            (is != option.value).then(|| {
                format!(
                    "{}: CONFIG_{name}={} was asked for, and it is {is}: something that it depends on is missing, or \
                     something else needs it",
                    option.place, option.value
                )
            })
        };
        self.0.iter().filter_map(differs).collect()
    }
}

enum Line<'a> {
    Nothing,
    Option(&'a str, &'a str),
    Wrong,
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    let option = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='));
    let unset = line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"));
    let legal = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match (option, unset) {
        (Some((name, value)), _) if legal(name) && !value.is_empty() => Line::Option(name, value),
        (None, Some(name)) if legal(name) => Line::Option(name, "n"),
        (None, _) if line.is_empty() || line.starts_with('#') => Line::Nothing,
        _ => Line::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> Text {
        Text { name: name.into(), text: text.into() }
    }

    #[test]
    fn a_later_fragment_wins() {
        let merged = Wanted::merge(&[
            text("a", "# A comment.\nCONFIG_A=y\nCONFIG_B=m\n\nCONFIG_S=\"x=y\"\n"),
            text("b", "# CONFIG_A is not set\nCONFIG_B=y\n"),
        ])
        .unwrap();
        assert_eq!(merged.text(), "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_S=\"x=y\"\n");
    }

    #[test]
    fn what_is_no_option_is_refused_at_its_line() {
        for wrong in ["CONFIG_A", "CONFIG_A=", "A=y", "CONFIG_A B=y"] {
            let refusal = Wanted::merge(&[text("mine.config", &format!("CONFIG_X=y\n{wrong}\n"))]);
            let message = refusal.unwrap_err().to_string();
            assert!(message.starts_with("mine.config:2: "), "{message}");
        }
    }

    #[test]
    fn an_option_that_did_not_come_true_is_named_with_its_place() {
        let wanted =
            Wanted::merge(&[text("s", "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_D=y\n")])
                .unwrap();
        let problems = wanted.missing_in("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n# CONFIG_D is not set\n");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("s:2: CONFIG_B=n was asked for, and it is y"), "{problems:?}");
        assert!(problems[1].contains("CONFIG_C=m") && problems[2].contains("CONFIG_D=y"), "{problems:?}");
        assert!(wanted.missing_in("CONFIG_A=y\nCONFIG_C=m\nCONFIG_D=y\n").is_empty());
    }

    #[test]
    fn the_lab_s_fragments_are_legal() {
        for name in ["small", "lockdep", "kasan"] {
            let fragment = crate::assets::kernels::config_text(name).unwrap();
            assert!(!Wanted::merge(&[fragment]).unwrap().0.is_empty(), "{name}");
        }
    }
}
