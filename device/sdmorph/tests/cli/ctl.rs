//! `sdmorph ctl` against a live server, and without one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, program, sdmorph};

#[test]
fn every_command_there_is_succeeds_and_prints_json_when_asked_to() {
    let rule = r#"rule={"name":"slow","on":{"read":"HAIMR"},"do":{"read-latency":"500us"}}"#;
    let lines: &[&[&str]] = &[
        &["query-version"],
        &["query-commands"],
        &["query-qmp-schema"],
        &["query-status"],
        &["query-status", "path=slot.link-active"],
        &["inject", "do.link=down", "name=pulled"],
        &["record-start", "file=run.jsonl"],
        &["record-dump", "last=3"],
        &["record-dump", "file=dump.jsonl"],
        &["record-stop"],
        &["card-insert", "kind=sd-express"],
        &["card-eject"],
        &["card-insert", "kind=none"],
        &["card-eject"],
        &["card-insert", "kind=sd", "size=8 GiB", "write-protect=true", "serial=7"],
        &["card-corrupt", "what=data-crc", "times=2"],
        &["card-prepare", "kind=sd", "size=8 GiB"],
        &["card-eject"],
        &["link-set", "up=false"],
        &["link-set", "up=true"],
        &["rule-add", rule],
        &["query-rules"],
        &["rule-remove", "name=slow"],
        &["scenario-load", "name=plain", "rules=[]", "replace=true"],
        &["marker", "text=drivers bound"],
        &["quit"],
    ];
    let mut server = Server::start(&[]);
    let commands = server.done(&["query-commands"]).json();
    for command in commands.as_array().unwrap() {
        let name = command["name"].as_str().unwrap();
        let tried = lines.iter().any(|line| line[0] == name);
        // One of these is done by every client; a server without a guest's driver refuses the other.
        let others = ["qmp_capabilities", "over-current"];
        assert!(tried || others.contains(&name), "{name} is not tried here");
    }
    for line in lines {
        let run = server.done(&[&["--json"], *line].concat());
        assert!(run.out.ends_with('\n') && run.out.lines().count() == 1, "{line:?}: {:?}", run.out);
        run.json();
        assert_eq!(run.err, "");
    }
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn commands_change_the_device_that_query_status_shows() {
    let server = Server::start(&[]);
    let status = || server.done(&["query-status"]).json();
    assert_eq!(status()["card"], Value::Null);
    assert_eq!(server.done(&["card-insert", "kind=sd-express"]).out, "", "people need no empty object");
    assert_eq!(status()["card"], json!("sd-express"));
    server.done(&["card-eject"]);
    assert_eq!(status()["card"], Value::Null);
}

#[test]
fn card_has_the_image_it_is_given_until_it_is_ejected() {
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("card.img");
    std::fs::File::create(&path).unwrap().set_len(4 << 30).unwrap();
    let image = format!("image={}", path.display());
    server.done(&["card-insert", "kind=sd", &image]);
    let medium = server.done(&["query-status"]).json()["medium"].clone();
    assert_eq!((&medium["format"], &medium["size_bytes"]), (&json!("raw"), &json!(4u64 << 30)));
    assert_eq!(medium["path"], json!(path));
    // Another server's card is kept from it.
    let other = Server::start(&[]);
    other.ctl(&["card-insert", "kind=sd", &image]).fails_with(1, &["card.img is in use"]);
    server.done(&["card-eject"]);
    assert_eq!(server.done(&["query-status"]).json()["medium"], Value::Null);
    other.done(&["card-insert", "kind=sd", &image, "read-only=true"]);
}

#[test]
fn server_with_a_directory_for_images_takes_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("images"), dir.path().join("secret.img"));
    std::fs::create_dir(&inside).unwrap();
    for path in [&outside, &inside.join("card.img")] {
        std::fs::File::create(path).unwrap().set_len(4 << 30).unwrap();
    }
    std::os::unix::fs::symlink(&outside, inside.join("link.img")).unwrap();
    let server = Server::start(&["--images", inside.to_str().unwrap()]);
    for name in [outside.to_str().unwrap(), "../secret.img", "link.img"] {
        let image = format!("image={name}");
        server.ctl(&["card-insert", "kind=sd", &image]).fails_with(1, &["secret.img is not in", "--images"]);
    }
    server.ctl(&["card-insert", "kind=sd", "image=none.img"]).fails_with(1, &["cannot find", "none.img"]);
    server.done(&["card-insert", "kind=sd", "image=card.img"]);
}

#[test]
fn trace_of_latencies_is_read_by_the_server_from_its_directory_only() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("images");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(dir.path().join("secret"), "1us\n").unwrap();
    std::fs::write(inside.join("board"), "850ns\n90us # the first after L1\n").unwrap();
    std::fs::write(inside.join("wrong"), "850ns\n90 us soon\n").unwrap();
    let server = Server::start(&["--images", inside.to_str().unwrap()]);
    let add = |file: &str| {
        let latency = json!({ "read-latency": { "trace-file": file } });
        let rule = json!({ "name": "slow", "on": { "read": "HAIMR" }, "do": latency });
        server.ctl(&["rule-add", &format!("rule={rule}")])
    };
    let wrong = &["rule \"slow\": do.read-latency.trace-file: ", "wrong:2: \"90 us soon\" is not a duration"];
    add("wrong").fails_with(1, wrong);
    add("../secret").fails_with(1, &["secret is not in", "--images"]);
    add("none").fails_with(1, &["cannot find", "none"]);
    add("board").fails_with(0, &[]);
    let rules = server.done(&["query-rules"]).json();
    assert_eq!(rules[0]["rule"]["do"]["read-latency"]["trace-ns"], json!([850, 90_000]));
    server.done(&["inject", "do.read-latency.trace-file=board"]);
    let latency = &server.done(&["query-status"]).json()["faults"]["read-latency"];
    assert_eq!(*latency, json!({ "trace-ns": [850, 90_000] }));
    let rules = json!([{ "name": "slow", "on": { "start": true }, "do": [{ "read-latency": { "trace-file": "/" } }] }]);
    let load = server.ctl(&["scenario-load", "name=s", &format!("rules={rules}")]);
    load.fails_with(1, &["do[0].read-latency.trace-file: / is not in"]);
    // What is refused for its length has no file read.
    let actions = json!(vec![json!({ "read-latency": { "trace-file": "none" } }); 1000]);
    let inject = server.ctl(&["inject", &format!("do={actions}")]);
    inject.fails_with(1, &["rule \"injected\": do: 1000 actions are above the limit of 16 a rule"]);
    let rule = json!({ "name": "slow", "on": { "start": true }, "do": actions });
    let rule = server.ctl(&["rule-add", &format!("rule={rule}")]);
    rule.fails_with(1, &["rule \"slow\": do: 1000 actions are above the limit of 16 a rule"]);
    let rule = json!({ "do": { "read-latency": { "trace-file": "none" } } });
    let rules = json!(vec![rule; 4097]);
    let load = json!({ "execute": "scenario-load", "arguments": { "name": "s", "rules": rules } });
    let mut control = BufReader::new(UnixStream::connect(server.control()).unwrap());
    write!(control.get_mut(), "{}\n{load}\n", json!({ "execute": "qmp_capabilities" })).unwrap();
    // The greeting, and the replies.
    let mut replies =
        control.lines().take(3).map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let refused = replies.find_map(|reply| Some(reply["error"]["desc"].as_str()?.to_owned()));
    assert_eq!(refused.unwrap(), "there are too many rules; the limit is 4096");
}

#[test]
fn arguments_of_a_card_that_do_not_go_together_are_refused_by_name() {
    let server = Server::start(&[]);
    for (arguments, why) in [
        (&["card-insert", "kind=none", "size=1 GiB"][..], "'size' is for a card"),
        (&["card-insert", "kind=sd", "size=1 GiB", "image=x"], "'size' is for a card in memory"),
        (&["card-insert", "kind=sd", "format=raw"], "'format' is for an image"),
        (&["card-insert", "kind=sd", "read-only=true"], "'read-only' is for an image"),
        (
            &["card-insert", "kind=sd", "image=/no/such/file"],
            "cannot open /no/such/file for writing: No such file",
        ),
        (&["card-insert", "kind=sd", "size=0"], "no SD card is like this"),
        (&["card-corrupt", "what=heal"], "there is no card in the reader"),
        (&["card-corrupt", "what=heal", "times=2"], "heal stands alone, without \"times\""),
        (&["card-corrupt", "what=busy"], "card-corrupt.duration: is needed with busy, such as \"500ms\""),
        (&["card-corrupt", "what=busy", "duration=5 years"], "\"5 years\" is not a duration"),
        (&["card-corrupt", "what=bad-blocks"], "card-corrupt.first: is needed with bad-blocks"),
        (&["over-current"], "no driver has set the reader to look for"),
    ] {
        server.ctl(arguments).fails_with(1, &[why]);
    }
    assert_eq!(server.done(&["query-status"]).json()["card"], Value::Null);
}

#[test]
fn refused_command_ends_with_1_class_and_description() {
    let server = Server::start(&[]);
    server.ctl(&["card-eject"]).fails_with(1, &["GenericError: there is no card"]);
    server.ctl(&["card-insrt"]).fails_with(1, &["CommandNotFound: ", "card-insert"]);
    server.ctl(&["card-insert", "kind=sdexpress"]).fails_with(1, &["GenericError: ", "'sd-express'"]);
    server.ctl(&["card-insert", "colour=red"]).fails_with(1, &["GenericError: ", "colour"]);
    let rule = r#"rule={"name":"x","on":{"read":"HAIMRR"},"do":{"bar":"vanish"}}"#;
    server.ctl(&["rule-add", rule]).fails_with(1, &["HAIMRR", "HAIMR"]);
    let rule = r#"rule={"name":"x","on":{"read":"HAIMR"},"do":{"read-latency":"-1ms"}}"#;
    server.ctl(&["rule-add", rule]).fails_with(1, &["negative"]);
    assert_eq!(server.done(&["query-rules"]).json(), json!([]));
}

#[test]
fn injected_actions_are_done_at_once_and_recorded_by_name() {
    let server = Server::start(&[]);
    let link = || server.done(&["query-status", "path=slot.link-active"]).json();
    assert_eq!(link(), json!(true));
    server.done(&["inject", r#"do=[{"bar": "vanish"}, {"link": "down"}]"#, "name=pulled"]);
    assert_eq!(link(), json!(false));
    assert_eq!(server.done(&["query-rules"]).json(), json!([]), "no rule is left behind");
    let entries = server.done(&["record-dump"]).json();
    let hit = entries.as_array().unwrap().iter().find(|entry| entry["kind"] == "rule").unwrap().clone();
    assert_eq!((&hit["name"], &hit["hit"]), (&json!("pulled"), &json!(1)));
    assert_eq!(hit["actions"], json!([{"bar": "vanish"}, {"link": "down"}]));
    server.done(&["inject", "do.link=up"]);
    assert_eq!(link(), json!(true));
}

#[test]
fn injection_that_is_wrong_is_refused_with_the_field_and_the_nearest_word() {
    let server = Server::start(&[]);
    for (arguments, words) in [
        (&["inject", "do.lnik=down"][..], &["do", "\"lnik\"", "\"link\""][..]),
        (&["inject", "do.link=dwon"], &["do.link", "\"dwon\"", "\"down\""]),
        (&["inject", "do.stuck-busy=HAIMRR"], &["HAIMRR", "HAIMR"]),
        (&["inject", "do.wire=drop"], &["do.wire", "message"]),
        (&["inject", "do=[]"], &["do"]),
        (&["inject", "do=down"], &["'do'", "expected object or array of objects"]),
        (&["inject", "do.link=down", "name=Not A Name"], &["Not A Name"]),
        (&["query-status", "path=slot.link"], &["'path'", "'link'", "link-active"]),
        (&["query-status", "path=reader.BIRP"], &["'BIRP'", "'BIPR'"]),
        (&["record-dump", "last=5000"], &["'last'", "1000", "'file'"]),
        (&["record-stop"], &["no record is being written", "record-start"]),
    ] {
        server.ctl(arguments).fails_with(1, words);
    }
    assert_eq!(server.done(&["query-status", "path=slot.link-active"]).json(), json!(true));
    assert_eq!(server.done(&["record-dump"]).json(), json!([]), "nothing was done");
}

#[test]
fn watch_prints_the_value_then_what_changes_and_events_and_ends_with_the_server() {
    let mut server = Server::start(&[]);
    let mut watcher = program(server.dir.path())
        .args(["ctl", "watch", "slot.link-active"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "true");
    server.done(&["link-set", "up=false"]);
    let (mut event, mut change) = (false, false);
    while !(event && change) {
        let line = lines.next().unwrap();
        event |= line.contains(" LINK_DOWN ");
        change |= line == "slot.link-active: true -> false";
    }
    assert_eq!(server.quit(), Some(0));
    assert_eq!(watcher.wait().unwrap().code(), Some(0));
}

#[test]
fn unknown_event_is_refused_with_the_nearest_one() {
    sdmorph(&["ctl", "events", "LINK_DWON"]).fails_with(2, &["'LINK_DWON'", "'LINK_DOWN'"]);
}

#[test]
fn bash_completes_commands_arguments_and_the_names_of_a_server_s_rules() {
    let server = Server::start(&[]);
    let rule = r#"rule={"name":"bar-dies","on":{"read":"HAIMR"},"do":{"bar":"vanish"}}"#;
    server.done(&["rule-add", rule]);
    let script = sdmorph(&["completions", "bash"]).out;
    let path = server.path("completion.bash");
    std::fs::write(&path, script).unwrap();
    let complete = |line: &str| {
        let mut shell = program(server.dir.path());
        let exe = shell.get_program().to_owned();
        let bash = format!(
            "source {}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(); COMP_CWORD=0; \
             _sdmorph_ctl \"$0\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display()
        );
        shell = std::process::Command::new("bash");
        shell.env("XDG_RUNTIME_DIR", server.dir.path()).arg("-c").arg(bash).arg(exe);
        crate::server::run(&mut shell).out
    };
    assert_eq!(complete("sdmorph ctl card-ej"), "card-eject\n");
    assert_eq!(complete("sdmorph ctl card-insert kind=sd-"), "sd-express\n");
    assert_eq!(complete("sdmorph ctl rule-remove name="), "bar-dies\n");
    assert_eq!(complete("sdmorph ctl watch reader.HAI"), "reader.HAIMR\n");
}

#[test]
fn words_that_are_no_arguments_end_with_2_before_anything_is_sent() {
    sdmorph(&["ctl", "card-insert", "sd-express"]).fails_with(2, &["key=value"]);
    sdmorph(&["ctl"]).fails_with(2, &["Usage"]);
    sdmorph(&["ctl", "--timeout", "soon", "query-status"]).fails_with(2, &["--timeout"]);
}

#[test]
fn without_a_server_it_ends_with_3_and_a_hint() {
    let run = sdmorph(&["ctl", "query-status"]);
    run.fails_with(3, &["sdmorph serve", "--socket", "control.sock", "no such socket"]);
    assert_eq!(run.err.matches("os error").count(), 1, "said once: {}", run.err);
}

#[test]
fn commands_lists_everything_without_a_server() {
    let run = sdmorph(&["ctl", "commands"]);
    assert_eq!(run.code, 0);
    for name in ["card-insert", "query-status", "rule-add", "scenario-load", "quit"] {
        assert!(run.out.contains(name), "{name}");
    }
}

#[test]
fn events_come_as_they_happen_and_end_with_the_server() {
    let mut server = Server::start(&[]);
    let mut follower = program(server.dir.path())
        .args(["ctl", "--json", "events", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, received) = channel();
    let out = BufReader::new(follower.stdout.take().unwrap());
    let reading = std::thread::spawn(move || out.lines().try_for_each(|line| lines.send(line.unwrap())));
    // A card goes in and out until the follower, which may still be starting, tells of it.
    let event = loop {
        server.done(&["card-insert", "kind=none"]);
        server.done(&["card-eject"]);
        match received.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => break serde_json::from_str::<Value>(&line).unwrap(),
            Err(RecvTimeoutError::Timeout) => assert_eq!(follower.try_wait().unwrap(), None),
            Err(RecvTimeoutError::Disconnected) => panic!("the follower has ended"),
        }
    };
    let name = event["event"].as_str().unwrap();
    assert!(["CARD_INSERTED", "CARD_EJECTED"].contains(&name), "{event}");
    assert!(event["timestamp"]["seconds"].is_number() && event["data"].is_object(), "{event}");
    assert_eq!(server.quit(), Some(0));
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    // An error is that of the receiver, which is still there.
    reading.join().unwrap().unwrap();
}

#[test]
fn events_without_follow_end_when_the_time_is_over() {
    let server = Server::start(&[]);
    let run = server.done(&["--timeout", "1", "events"]);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
}
