//! Where log lines go: standard error, as text or as JSON.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::arguments::{LogFormat, Logging};

/// Starts logging. `--log` wins over `RUST_LOG`; without either, warnings and what a server says of itself.
///
/// # Errors
/// A filter that does not parse.
pub(crate) fn start(options: &Logging) -> anyhow::Result<()> {
    let text = match &options.log {
        Some(text) => text.clone(),
        None => std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
    };
    let filter = EnvFilter::try_new(&text).with_context(|| {
        format!("log filter {text:?}: expected a level (error, warn, info, debug, trace) or target=level,…")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => {
            builder.json().init();
            // Nothing is meant to panic. If something does, the report of it must not break the lines.
            std::panic::set_hook(Box::new(|report| tracing::error!(%report, "a panic")));
        }
    }
    Ok(())
}
