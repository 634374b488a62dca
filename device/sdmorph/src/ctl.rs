//! `sdmorph ctl`: the control protocol for people.

// A command's answer is what standard output is for.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::Context;
use sdmorph_control::{Client, ClientError, Event, JsonObject, parse_key_values};
use serde_json::Value;

use crate::Failure;
use crate::arguments::CtlOptions;
use crate::serve::places;

/// Runs one command.
pub(crate) fn run(options: &CtlOptions) -> Result<(), Failure> {
    if options.command == "commands" {
        print!("{}", sdmorph_control::usage());
        return Ok(());
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
        Ok(value) => show(&value, options.json).map_err(Failure::Failed),
        Err(error) => Err(Failure::Failed(error.into())),
    }
}

fn show(value: &Value, json: bool) -> anyhow::Result<()> {
    // An empty object is QMP's "done"; people see it from the exit code.
    if json {
        println!("{value}");
    } else if value.as_object().is_none_or(|fields| !fields.is_empty()) {
        println!("{}", serde_json::to_string_pretty(value)?);
    }
    Ok(())
}

fn events(client: &mut Client, options: &CtlOptions, timeout: Duration) -> Result<(), Failure> {
    let wait = if options.follow { None } else { Some(timeout) };
    loop {
        match client.next_event(wait) {
            Ok(Some(event)) => show_event(&event, options.json).map_err(Failure::Failed)?,
            // Time is over, or the server has ended: both are how this is meant to end.
            Ok(None) | Err(ClientError::Closed) => return Ok(()),
            Err(error) => return Err(Failure::Failed(error.into())),
        }
    }
}

fn show_event(event: &Event, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(event)?);
        return Ok(());
    }
    let data =
        if event.data == JsonObject::new() { String::new() } else { serde_json::to_string(&event.data)? };
    println!("{}.{:06} {} {data}", event.timestamp.seconds, event.timestamp.microseconds, event.name);
    Ok(())
}
