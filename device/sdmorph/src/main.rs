//! The `sdmorph` command: arguments, logging and wiring, nothing else.
//!
//! | Exit code | Meaning |
//! |---|---|
//! | 0 | done; for `lab`: every verdict is the expected one |
//! | 1 | the thing asked for failed: an error reply, a verdict that is not the expected one |
//! | 2 | bad input: a wrong flag, a scenario or rule that does not parse |
//! | 3 | the surroundings failed: no QEMU, no kernel, a socket that cannot be made, an inconclusive run |
//!
//! `lab bisect` has the codes that `git bisect run` knows, and no other: 0, 1, 125.

mod arguments;
mod ctl;
mod lab;
mod logging;
mod output;
mod registers;
mod replay;
mod report;
mod scenario_list;
mod scenario_rules;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use sdmorph_lab::bisect::Mark;

/// What a command ends with when it does not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit code 1.
    Failed(anyhow::Error),
    /// Exit code 2.
    BadInput(anyhow::Error),
    /// Exit code 3.
    Surroundings(anyhow::Error),
    /// An exit code whose reason has been shown already.
    Shown(u8),
}

fn main() -> ExitCode {
    let bisecting = lab::bisect::is_asked_for(std::env::args_os());
    let wrong = |code| if bisecting { ExitCode::from(Mark::Skip.exit_code()) } else { code };
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. There is nowhere to say that they could not be printed.
            let _ = error.print();
            let right = error.exit_code() == 0;
            return if right { ExitCode::SUCCESS } else { wrong(ExitCode::from(2)) };
        }
    };
    if let Err(error) = logging::start(&arguments.logging) {
        return wrong(exit(Failure::BadInput(error)));
    }
    let result = match arguments.command {
        Command::Serve(options) => serve::run(&options),
        Command::Ctl(options) => ctl::run(&options),
        Command::Lab(options) => lab::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Complete { line } => ctl::complete::run(&line),
        Command::Registers(options) => registers::run(&options),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sdmorph", &mut script);
            let dynamic = ctl::complete::script(shell);
            output::print(&format!("{}{dynamic}", String::from_utf8_lossy(&script)))
        }
    };
    result.map_or_else(exit, |()| ExitCode::SUCCESS)
}

// The one place besides clap that writes to the terminal on failure.
#[allow(clippy::print_stderr)]
fn exit(failure: Failure) -> ExitCode {
    let (code, error) = match failure {
        Failure::Failed(error) => (1, error),
        Failure::BadInput(error) => (2, error),
        Failure::Surroundings(error) => (3, error),
        Failure::Shown(code) => return ExitCode::from(code),
    };
    eprintln!("sdmorph: {}", explain(&error));
    ExitCode::from(code)
}

/// The error and its causes, without those that it quotes already.
fn explain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        said if said.contains(&cause) => text,
        said => format!("{said}: {cause}"),
    })
}
