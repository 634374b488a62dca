//! What the user sees while something is fetched or built.
//!
//! A bar that is redrawn on a terminal; one plain line when a step starts and one when it ends
//! where stderr is a file or a pipe. A long step that counts says another one from time to time.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Between two lines about how far a step is that counts.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// Where steps are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bars on stderr.
    Bars,
    /// Lines on stderr.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// Bars if stderr is a terminal, else lines.
    #[must_use]
    pub fn detect() -> Self {
        if io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }

    /// Says one line.
    pub fn say(self, message: &str) {
        if self != Self::Silent {
            // Nobody is helped by a set-up that stops because its progress cannot be shown.
            let _ = writeln!(io::stderr(), "[sdmorph] {message}");
        }
    }

    /// Starts a step. `bytes` is its size where it is known beforehand.
    #[must_use]
    pub fn step(self, message: &str, bytes: Option<u64>) -> Step {
        let bar = match self {
            Self::Bars => {
                let bar = ProgressBar::new(bytes.unwrap_or(0));
                let template = if bytes.is_some() {
                    "[sdmorph] {msg} [{bar:30}] {bytes}/{total_bytes} {eta}"
                } else {
                    "[sdmorph] {msg} {spinner} {elapsed}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(message.to_owned());
                bar.enable_steady_tick(Duration::from_millis(200));
                Some(bar)
            }
            Self::Lines => {
                match bytes {
                    Some(bytes) => self.say(&format!("{message} … {}", HumanBytes(bytes))),
                    None => self.say(&format!("{message} …")),
                }
                None
            }
            Self::Silent => None,
        };
        Step { progress: self, message: message.to_owned(), bytes, bar, started: Instant::now() }
    }

    /// Starts a step that counts: so many `units` of about `total`, if that is known.
    #[must_use]
    pub fn count(self, message: &str, units: &'static str, total: Option<u64>) -> Count {
        Count { step: self.step(message, None), units, total, done: 0, said: Instant::now() }
    }
}

/// A step under way that counts.
#[derive(Debug)]
pub struct Count {
    step: Step,
    units: &'static str,
    total: Option<u64>,
    done: u64,
    said: Instant,
}

impl Count {
    /// One more is done.
    pub fn one(&mut self) {
        self.done += 1;
        let text = self.text();
        if let Some(bar) = &self.step.bar {
            bar.set_message(text);
        } else if self.said.elapsed() >= BETWEEN_LINES {
            self.said = Instant::now();
            self.step.progress.say(&format!("{text}, {:.0} s", self.step.started.elapsed().as_secs_f64()));
        }
    }

    fn text(&self) -> String {
        let Self { step, units, total, done, .. } = self;
        match total {
            // The total is a guess.
            Some(total) if done <= total => format!("{}: {done} of about {total} {units}", step.message),
            _ => format!("{}: {done} {units}", step.message),
        }
    }

    /// The step is done: one line stays, with how many there were and the time it took.
    pub fn finish(mut self) {
        self.total = None;
        self.step.message = self.text();
        self.step.finish();
    }
}

/// A step under way. Dropped without [`Step::finish`], it disappears: the error that follows says why.
#[derive(Debug)]
pub struct Step {
    progress: Progress,
    message: String,
    bytes: Option<u64>,
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Step {
    /// How far the step is, in thousandths of its size.
    pub fn permille(&self, permille: u64) {
        if let (Some(bar), Some(bytes)) = (&self.bar, self.bytes) {
            bar.set_position(bytes / 1000 * permille.min(1000));
        }
    }

    /// The step is done: one line stays, with the time it took.
    pub fn finish(mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let size = self.bytes.map(|bytes| format!(" {}", HumanBytes(bytes))).unwrap_or_default();
        self.progress.say(&format!(
            "{}{size}: done in {:.1} s",
            self.message,
            self.started.elapsed().as_secs_f64()
        ));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_counts_says_how_far_it_is_until_the_guess_was_too_low() {
        let mut count = Progress::Silent.count("building x", "files", Some(2));
        count.one();
        assert_eq!(count.text(), "building x: 1 of about 2 files");
        count.one();
        count.one();
        assert_eq!(count.text(), "building x: 3 files");
    }
}
