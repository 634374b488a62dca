//! `sdmorph ctl`: the control protocol for people.

use std::time::Duration;

use anyhow::{Context, anyhow};
use sdmorph_control::{Client, ClientError, Event, JsonObject, parse_key_values};
use serde_json::Value;

use crate::arguments::CtlOptions;
use crate::serve::places;
use crate::{Failure, output};

/// Runs one command.
pub(crate) fn run(options: &CtlOptions) -> Result<(), Failure> {
    if options.command == "commands" {
        return output::print(&sdmorph_control::usage());
    }
    let arguments = parse_key_values(&options.arguments).map_err(|error| Failure::BadInput(error.into()))?;
    let path = match &options.socket {
        Some(path) => path.clone(),
        None => places::directory().join(places::CONTROL),
    };
    let timeout = Duration::from_secs(options.timeout);
    let mut client = Client::connect(&path, timeout)
        .context("is `sdmorph serve` running? --socket says where")
        .map_err(Failure::Surroundings)?;
    if options.command == "events" {
        return events(&mut client, options, timeout);
    }
    match client.execute(&options.command, arguments) {
        Ok(value) => show(&value, options.json),
        Err(ClientError::Command(error)) => {
            let class = serde_json::to_value(error.class).unwrap_or_default();
            Err(Failure::Failed(anyhow!("{}: {}", class.as_str().unwrap_or("error"), error.desc)))
        }
        Err(error) => Err(Failure::Failed(error.into())),
    }
}

fn show(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return output::print(&format!("{value}\n"));
    }
    // An empty object is QMP's "done"; people see it from the exit code.
    if value.as_object().is_some_and(JsonObject::is_empty) {
        return Ok(());
    }
    output::print(&format!("{value:#}\n"))
}

fn events(client: &mut Client, options: &CtlOptions, timeout: Duration) -> Result<(), Failure> {
    let wait = if options.follow { None } else { Some(timeout) };
    loop {
        match client.next_event(wait) {
            Ok(Some(event)) => show_event(&event, options.json)?,
            // Time is over, or the server has ended: both are how this is meant to end.
            Ok(None) | Err(ClientError::Closed) => return Ok(()),
            Err(error) => return Err(Failure::Failed(error.into())),
        }
    }
}

fn show_event(event: &Event, json: bool) -> Result<(), Failure> {
    if json {
        let line = serde_json::to_string(event).map_err(|error| Failure::Failed(error.into()))?;
        return output::print(&format!("{line}\n"));
    }
    let data =
        if event.data.is_empty() { String::new() } else { Value::from(event.data.clone()).to_string() };
    let Event { name, timestamp, .. } = event;
    output::print(&format!("{}.{:06} {name} {data}\n", timestamp.seconds, timestamp.microseconds))
}
