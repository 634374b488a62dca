//! What the user sees while something is fetched or built.
//!
//! A bar that is redrawn on a terminal; one plain line when a step starts and one when it ends
//! where stderr is a file or a pipe.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

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
                bar.enable_steady_tick(std::time::Duration::from_millis(200));
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
