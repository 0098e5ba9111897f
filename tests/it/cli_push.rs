//! `push`, run as a user runs it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use s3layers::{Algorithm, Hasher};

use crate::support::bucket::abort_multiparts;
use crate::support::program::{
    MIB, Running, Served, User, digest, events, interrupted_after, noise, printed_commands, stderr,
};
use crate::support::tcp_proxy::{Direction, TcpProxy};

/// A push that talks to people, stopped by a signal. What it said.
fn stopped(mut push: Child, proxy: &TcpProxy) -> String {
    proxy.wait_until_paused(Direction::Up);
    kill_process(Pid::from_child(&push), Signal::TERM).unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(push.stderr.take().unwrap());
    while !said.contains("interrupted: saving progress") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    proxy.resume();
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(push.wait().unwrap().code(), Some(1), "{said}");
    said
}

/// Many bytes, quickly made.
fn large(mib: usize) -> Vec<u8> {
    let piece = noise(MIB);
    let numbered = |number: usize| {
        let mut piece = piece.clone();
        piece[..8].copy_from_slice(&number.to_le_bytes());
        piece
    };
    (0..mib).flat_map(numbered).collect()
}

#[test]
fn printed_command_sends_no_byte_of_200_mib_again() {
    let (_store, proxy, user) = Served::behind_proxy();
    let layer = large(200);
    let file = user.file("layer.tar", &layer);
    proxy.pause_after(Direction::Up, 40 * MIB as u64);
    let push = user
        .command(&["push", &file, "--name", "x"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = stopped(push, &proxy);
    let commands = printed_commands(&said);
    assert_eq!(commands.len(), 1, "{said}");
    let first = proxy.forwarded(Direction::Up);
    assert!(
        first > 40 * MIB as u64 && first < 190 * MIB as u64,
        "{first} bytes went up"
    );

    let pasted = user.shell(&commands[0]).output().unwrap();
    assert!(pasted.status.success(), "{}", stderr(&pasted));
    let printed = String::from_utf8(pasted.stdout).unwrap();
    assert_eq!(printed, format!("{}\n", digest(&layer)));
    // On the wire, heads of requests and documents included.
    let sent = proxy.forwarded(Direction::Up);
    let beyond = sent.checked_sub(layer.len() as u64).unwrap();
    assert!(beyond < 200_000, "{beyond} bytes more than the layer has");
    assert!(user.pulled(&digest(&layer)) == layer);
}

#[test]
fn printed_commands_resume_several_files() {
    let (_store, proxy, user) = Served::behind_proxy();
    let layers = [large(48), noise(40 * MIB + 5), noise(100)];
    let names = ["a layer's bytes", "two", "three"];
    for (name, layer) in names.iter().zip(&layers) {
        user.file(name, layer);
    }
    proxy.pause_after(Direction::Up, 20 * MIB as u64);
    let push = user
        .command(&["push", names[0], names[1], names[2], "--name", "x"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = stopped(push, &proxy);
    let commands = printed_commands(&said);
    assert_eq!(commands.len(), 3, "{said}");
    for name in names {
        let wants = format!("error: {name} was not pushed");
        assert!(said.contains(&wants), "{said}");
    }
    assert!(said.contains("3 of 3 files were not pushed"), "{said}");
    let mut printed: Vec<String> = commands
        .iter()
        .map(|command| {
            let pasted = user.shell(command).output().unwrap();
            assert!(pasted.status.success(), "{command}: {}", stderr(&pasted));
            String::from_utf8(pasted.stdout)
                .unwrap()
                .trim_end()
                .to_owned()
        })
        .collect();
    printed.sort();
    let mut want: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    want.sort();
    assert_eq!(printed, want);
    let all: usize = layers.iter().map(Vec::len).sum();
    let beyond = proxy
        .forwarded(Direction::Up)
        .checked_sub(all as u64)
        .unwrap();
    assert!(beyond < 200_000, "{beyond} bytes more than the layers have");
}

#[test]
fn push_is_stopped_while_its_last_parts_are_sent() {
    let (_store, proxy, user) = Served::behind_proxy();
    // All of it is taken at once, for so many parts may be under way.
    let layer = large(40);
    let file = user.file("layer", &layer);
    proxy.pause_after(Direction::Up, 10 * MIB as u64);
    let mut push = Running::start(&user, &["push", &file, "--name", "x"]);
    let whole_parts = 32 * MIB;
    push.until(|said| said["event"] == "progress" && said["offset"] == whole_parts);
    proxy.wait_until_paused(Direction::Up);
    push.signal(Signal::TERM);
    push.next_event("stopping");
    proxy.resume();
    let kept = push.next_event("kept");
    assert_eq!(kept["offset"], whole_parts);
    assert_eq!(push.code(), Some(1));
    user.fails(1, &["pull", &digest(&layer)]);
    let pasted = user
        .shell(kept["resume"].as_str().unwrap())
        .output()
        .unwrap();
    assert!(pasted.status.success(), "{}", stderr(&pasted));
    let beyond = proxy.forwarded(Direction::Up) - layer.len() as u64;
    assert!(beyond < 200_000, "{beyond} bytes more than the layer has");
}

#[test]
fn several_files_are_printed_in_their_order_and_one_that_fails_stops_no_other() {
    let user = User::new();
    // The first one takes longest.
    let layers = [noise(20 * MIB), noise(1000), noise(0), noise(7)];
    for (number, layer) in layers.iter().enumerate() {
        user.file(&format!("layer {number}"), layer);
    }
    let line = |number: usize| format!("{}  layer {number}\n", digest(&layers[number]));
    let files = ["layer 0", "layer 1", "layer 2", "layer 3"];
    let all = [&["push", "--name", "x"][..], &files].concat();
    let printed = String::from_utf8(user.ok(&all)).unwrap();
    assert_eq!(printed, (0..4).map(line).collect::<String>());
    for layer in &layers {
        assert!(user.pulled(&digest(layer)) == *layer);
    }

    let user = User::new();
    user.file("layer 1", &layers[1]);
    user.file("layer 3", &layers[3]);
    fs::create_dir(user.path("layer 2")).unwrap();
    let output = user.run(&all);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, [line(1), line(3)].concat());
    for want in [
        "error: layer 0 was not pushed",
        "cannot open layer 0",
        "layer 2 is a folder",
        "error: 2 of 4 files were not pushed",
    ] {
        assert!(said.contains(want), "{want}: {said}");
    }
}

#[test]
fn events_of_several_files_say_which_one() {
    let user = User::new();
    user.file("one", b"one");
    user.file("two", b"two");
    let mut stored: Vec<_> = user
        .events(&["push", "one", "two", "--name", "x"])
        .into_iter()
        .filter(|event| event["event"] == "stored")
        .map(|event| (event["file"].to_string(), event["digest"].to_string()))
        .collect();
    stored.sort();
    let want = ["one", "two"].map(|name| {
        let digest = digest(name.as_bytes());
        (format!("\"{name}\""), format!("\"{digest}\""))
    });
    assert_eq!(stored, want);
    // What each has cost is its own; the requests are known of all together.
    user.file("large", &noise(100_000));
    let pushed = user.events(&["push", "one", "large", "--name", "y"]);
    let event_of = |kind: &str| pushed.iter().find(|event| event["event"] == kind).unwrap();
    assert_eq!(event_of("exists")["file"], "one");
    let stored = event_of("stored");
    assert_eq!(stored["sent"], 100_000, "{stored}");
    assert!(stored["seconds"].as_f64().unwrap() > 0.0, "{stored}");
    assert_eq!(stored["requests"], serde_json::Value::Null, "{stored}");
    let done = pushed.last().unwrap();
    assert_eq!(
        (&done["event"], &done["files"]),
        (&"done".into(), &2.into())
    );
    assert!(done["requests"].as_u64().unwrap() > 2, "{done}");
    let failed = user.run(&["--json", "push", "one", "none", "--name", "x"]);
    assert_eq!(failed.status.code(), Some(1));
    let errors: Vec<_> = events(&failed.stdout)
        .into_iter()
        .filter(|event| event["event"] == "error")
        .collect();
    assert_eq!(errors[0]["message"], "none was not pushed");
    assert_eq!(errors[1]["message"], "1 of 2 files were not pushed");
}

#[test]
fn options_for_one_file_are_refused_for_two() {
    let user = User::new();
    let (a, b) = (user.file("a", b"a"), user.file("b", b"b"));
    let id = digest(b"a");
    let uuid = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
    for (arguments, want) in [
        (
            &["push", &a, &b, "--name", "x", "--id", &id][..],
            "--id is for one file",
        ),
        (
            &["push", &a, &b, "--name", "x", "--resume", uuid],
            "--resume is for one file",
        ),
        (&["push", "-", &b, "-", "--name", "x"], "- is given twice"),
        (&["push", "--name", "x"], "<FILE>"),
    ] {
        let said = user.fails(2, arguments);
        assert!(said.contains(want), "{arguments:?}: {said}");
    }
    // Nothing was opened for that.
    assert!(!user.path("data").exists());
}

#[test]
fn pipe_is_pushed_with_files() {
    let user = User::new();
    user.file("file", b"of a file");
    let mut push = user
        .command(&["push", "file", "-", "--name", "x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    push.stdin.take().unwrap().write_all(b"of a pipe").unwrap();
    let output = push.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let want = [(b"of a file", "file"), (b"of a pipe", "-")]
        .map(|(bytes, name)| format!("{}  {name}\n", digest(bytes)));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), want.concat());
}

#[test]
fn unreadable_file_is_named() {
    let user = User::new();
    // It opens, but its first bytes cannot be read.
    let said = user.fails(1, &["push", "/proc/self/mem", "--name", "x"]);
    assert!(said.contains("cannot read /proc/self/mem"), "{said}");
    let file = user.file("secret", b"bytes");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything.
    if fs::File::open(&file).is_err() {
        let said = user.fails(1, &["push", &file, "--name", "x"]);
        assert!(
            said.contains("cannot open") && said.contains("denied"),
            "{said}"
        );
    }
}

#[test]
fn name_of_a_file_moves_no_cursor() {
    let user = User::new();
    let said = user.fails(1, &["push", "a\u{1b}[2Jb", "--name", "x"]);
    assert!(said.contains("a\\u{1b}[2Jb"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn failure_to_print_a_digest_is_an_error() {
    let user = User::new();
    let file = user.file("layer", b"bytes");
    for files in [&[&file][..], &[&file, &file]] {
        let mut arguments = vec!["push", "--name", "x"];
        arguments.extend(files.iter().map(|file| file.as_str()));
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = user.command(&arguments).stdout(full).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
    }
}

#[test]
fn stopped_push_sends_no_byte_again() {
    let (_store, user) = Served::with_user();
    let layer = noise(20 * MIB + 12_345);
    let taken = 17 * MIB + 7;
    for signal in [Signal::TERM, Signal::INT] {
        let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
        let uuid = push.next_event("started")["uuid"]
            .as_str()
            .unwrap()
            .to_owned();
        push.feed(&layer[..taken]);
        push.until(|said| said["offset"] == taken);
        push.signal(signal);
        let kept = push.next_event("kept");
        assert_eq!(kept["offset"], taken);
        let resume = kept["resume"].as_str().unwrap();
        let end = format!("push - --name x --resume {uuid}");
        assert!(resume.ends_with(&end), "{resume}");
        assert_eq!(push.code(), Some(1));

        // The whole layer again, on standard input.
        let mut push = Running::start(&user, &["push", "-", "--name", "x", "--resume", &uuid]);
        assert_eq!(push.next_event("started")["offset"], taken);
        push.feed(&layer);
        push.stdin = None;
        let stored = push.next_event("stored");
        assert_eq!(stored["digest"], digest(&layer));
        // The tail of the interrupted part is read from the store and sent as a part of it.
        let unsent = layer.len() - 16 * MIB;
        assert!(
            stored["bytes_sent"].as_u64().unwrap() < (unsent + 10_000) as u64,
            "{stored}"
        );
        assert_eq!(push.code(), Some(0));
    }
    assert!(user.pulled(&digest(&layer)) == layer);
}

#[test]
fn file_that_no_upload_can_hold_is_refused_before_it_is_read() {
    let (_store, user) = Served::with_user();
    let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
    let uuid = push.next_event("started")["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    push.signal(Signal::TERM);
    push.next_event("kept");
    let file = user.file("layer", b"");
    let sparse = fs::OpenOptions::new().write(true).open(&file).unwrap();
    let size = 600 << 30;
    sparse.set_len(size).unwrap();
    for resume in [&[][..], &["--resume", uuid.as_str()]] {
        let arguments = [&["push", file.as_str(), "--name", "x"][..], resume].concat();
        let said = user.fails(1, &arguments);
        for part in [
            "644,245,094,400 bytes",
            // A thousand parts each of 16 and 32 MiB, the others of 64 MiB.
            "587,202,560,000",
            "--part-size",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn killed_push_is_resumed_from_its_record() {
    let mut store = Served::start(&[]);
    let user = User::of(&store);
    let layer = noise(40 * MIB);
    let file = user.file("layer", &layer);
    let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
    let uuid = push.next_event("started")["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    push.feed(&layer[..33 * MIB]);
    store.holds_parts(2);
    push.signal(Signal::KILL);
    assert_eq!(push.code(), None);

    let resumed = user.events(&["push", &file, "--name", "x", "--resume", &uuid]);
    let stored = resumed.last().unwrap();
    assert_eq!(stored["digest"], digest(&layer));
    // A kill costs what was not recorded: 128 MiB at most, and never more than all of it.
    let sent = stored["bytes_sent"].as_u64().unwrap();
    assert!(sent < (40 * MIB + 10_000) as u64, "{stored}");
    assert!(
        stored["bytes_received"].as_u64().unwrap() < 10_000,
        "{stored}"
    );
    assert!(user.pulled(&digest(&layer)) == layer);
    // It is finished now.
    let gone = user.fails(1, &["push", &file, "--name", "x", "--resume", &uuid]);
    assert!(gone.contains(&uuid) && gone.contains("unknown"), "{gone}");

    store.running.signal(Signal::TERM);
    store.running.next_event("stopped");
    assert_eq!(store.running.code(), Some(0));
}

#[test]
fn file_that_is_stored_is_not_sent_again() {
    let (_store, proxy, user) = Served::behind_proxy();
    let layer = noise(20 * MIB);
    let file = user.file("layer", &layer);
    user.ok(&["push", &file, "--name", "x"]);
    let first = proxy.forwarded(Direction::Up);
    for name in ["x", "y"] {
        let output = user.run(&["push", &file, "--name", name]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("already stored"),
            "{}",
            stderr(&output)
        );
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed, format!("{}\n", digest(&layer)));
        assert_eq!(user.events(&["ls", name])[0]["digest"], digest(&layer));
    }
    let sent = proxy.forwarded(Direction::Up) - first;
    assert!(sent < 100_000, "{sent} bytes were sent for a stored layer");
    assert_eq!(user.events(&["uploads"]).len(), 0);
}

#[test]
fn wrong_id_of_a_file_sends_nothing() {
    let (_store, user) = Served::with_user();
    let layer = noise(1000);
    let file = user.file("layer", &layer);
    let wrong = digest(b"other bytes");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for wrong in [&wrong, &sha512] {
        let said = user.fails(1, &["push", &file, "--name", "x", "--id", wrong]);
        assert!(
            said.contains("digest mismatch") && said.contains(wrong),
            "{said}"
        );
        assert!(!said.contains("--resume"), "{said}");
        assert_eq!(user.events(&["uploads"]).len(), 0);
    }
    assert!(
        user.fails(1, &["push", &file, "--name", "x", "--id", &wrong])
            .contains(&digest(&layer))
    );
    user.fails(1, &["pull", &digest(&layer)]);
}

/// Pushes what a pipe has.
fn piped(user: &User, arguments: &[&str], bytes: &[u8]) -> Output {
    let mut push = user
        .command(&["push", "-", "--name", "x"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    push.stdin.take().unwrap().write_all(bytes).unwrap();
    push.wait_with_output().unwrap()
}

#[test]
fn wrong_id_of_a_pipe_leaves_nothing() {
    let (_store, user) = Served::with_user();
    let layer = noise(17 * MIB);
    let wrong = digest(b"other bytes");
    for _ in 0..2 {
        let output = piped(&user, &["--id", &wrong], &layer);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&wrong) && said.contains(&digest(&layer)),
            "{said}"
        );
        // A resume could not make it right, and the id is not taken.
        assert!(
            !said.contains("--resume") && said.contains("were removed"),
            "{said}"
        );
        assert_eq!(user.events(&["uploads"]).len(), 0);
    }
    user.fails(1, &["pull", &digest(&layer)]);
}

#[test]
fn pipe_without_a_writer_stops_no_other_file_and_no_signal() {
    let user = User::new();
    let file = user.file("layer", &noise(2000));
    let pipe = user.path("pipe").to_str().unwrap().to_owned();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let mut push = Running::start(&user, &["push", &pipe, &file, "--name", "x"]);
    push.next_event("stored");
    push.signal(Signal::TERM);
    assert_eq!(push.code(), Some(1));
}

/// The producer of a resumed push ends early.
#[test]
fn upload_stays_whose_input_ended_early() {
    let user = User::new();
    let layer = noise(3000);
    let id = digest(&layer);
    let uuid = interrupted_after(&user, &["--name", "x", "--id", &id], &layer[..1000]);
    for (bytes, code) in [(2000, 1), (3000, 0)] {
        let output = piped(&user, &["--id", &id, "--resume", &uuid], &layer[..bytes]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        if code == 1 {
            assert!(
                said.contains("ended early") && said.contains("--resume"),
                "{said}"
            );
        }
    }
    assert!(user.pulled(&id) == layer);
}

/// The upload says which id it was begun with; sending the rest would not make that right.
#[test]
fn file_of_another_id_than_that_of_the_upload_is_not_sent() {
    let user = User::new();
    let layer = noise(3000);
    let file = user.file("layer", &layer);
    let sha512 = |bytes: &[u8]| {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(bytes);
        hasher.digest().to_string()
    };
    let tar_sum = format!("tarsum.v1+sha256:{}", "0".repeat(64));
    for wrong in [digest(b"other bytes"), sha512(b"other bytes"), tar_sum] {
        let uuid = interrupted_after(&user, &["--name", "x", "--id", &wrong], &layer[..1000]);
        let resume = ["push", &file, "--name", "x", "--resume", &uuid];
        let said = user.fails(1, &resume);
        let begun = format!("upload {uuid} was begun with --id {wrong}");
        assert!(said.contains(&begun), "{said}");
        assert!(said.contains(&format!(" cancel {uuid}")), "{said}");
        assert!(!said.contains("right --id"), "{said}");
        assert_eq!(user.events(&["uploads"])[0]["offset"], 1000);
        user.ok(&["cancel", &uuid]);
    }
    let uuid = interrupted_after(
        &user,
        &["--name", "x", "--id", &sha512(&layer)],
        &layer[..1000],
    );
    let resume = ["push", &file, "--name", "x", "--resume", &uuid];
    let resumed = user.events(&resume);
    assert_eq!(resumed[0]["offset"], 1000);
    assert!(user.pulled(&sha512(&layer)) == layer);
}

#[test]
fn other_input_does_not_spoil_an_upload() {
    let user = User::new();
    let layer = noise(2000);
    let uuid = interrupted_after(&user, &["--name", "x"], &layer[..1000]);
    let resume = |input: &str| ["push", input, "--name", "x", "--resume", &uuid].map(str::to_owned);
    let other = user.file("other", &layer[1..]);
    let short = user.file("short", &layer[..10]);
    for (input, want) in [
        (&other, "does not begin with the 1,000 bytes"),
        (&short, "expected the whole layer"),
    ] {
        let arguments = resume(input);
        let said = user.fails(1, &arguments.each_ref().map(String::as_str));
        assert!(said.contains(want), "{said}");
        assert!(said.contains("resume it with its own file"), "{said}");
        assert!(said.contains("push it without --resume"), "{said}");
        // The same command would fail again.
        assert_eq!(printed_commands(&said), [""; 0], "{said}");
    }
    let mut piped = Running::start(&user, &["push", "-", "--name", "x", "--resume", &uuid]);
    piped.feed(&layer[1..]);
    piped.stdin = None;
    let error = piped.next_event("error");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("does not begin"),
        "{error}"
    );
    assert_eq!(piped.code(), Some(1));
    drop(piped);
    let right = user.file("right", &layer);
    let arguments = resume(&right);
    let stored = user.events(&arguments.each_ref().map(String::as_str));
    assert_eq!(stored[0]["offset"], 1000, "{stored:?}");
    assert!(user.pulled(&digest(&layer)) == layer);
}

#[test]
fn second_signal_prints_how_to_resume() {
    let (_store, proxy, user) = Served::behind_proxy();
    let layer = large(40);
    let file = user.file("layer", &layer);
    proxy.pause_after(Direction::Up, 20 * MIB as u64);
    let mut push = user
        .command(&["push", &file, "--name", "x"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    proxy.wait_until_paused(Direction::Up);
    let mut said = String::new();
    let mut lines = BufReader::new(push.stderr.take().unwrap());
    kill_process(Pid::from_child(&push), Signal::INT).unwrap();
    while !said.contains("Press Ctrl-C again") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    kill_process(Pid::from_child(&push), Signal::INT).unwrap();
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(push.wait().unwrap().code(), Some(1), "{said}");
    let commands = printed_commands(&said);
    assert_eq!(commands.len(), 1, "{said}");
    proxy.resume();
    let pasted = user.shell(&commands[0]).output().unwrap();
    assert!(pasted.status.success(), "{}", stderr(&pasted));
    assert!(user.pulled(&digest(&layer)) == layer);
}

#[test]
fn push_that_was_killed_early_keeps_its_first_part() {
    let (_store, user) = Served::with_user();
    let layer = noise(40 * MIB);
    let file = user.file("layer", &layer);
    let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
    let uuid = push.next_event("started")["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    push.feed(&layer[..33 * MIB]);
    // The first part is recorded a second after it arrived, long before 128 MiB.
    let recorded = || user.events(&["uploads"])[0]["offset"].as_u64().unwrap();
    let begun = std::time::Instant::now();
    while recorded() == 0 {
        assert!(begun.elapsed().as_secs() < 60, "nothing was recorded");
    }
    push.signal(Signal::KILL);
    assert_eq!(push.code(), None);
    let resumed = user.events(&["push", &file, "--name", "x", "--resume", &uuid]);
    let offset = resumed[0]["offset"].as_u64().unwrap();
    assert!(offset >= 16 * MIB as u64, "{resumed:?}");
    let stored = resumed.last().unwrap();
    assert_eq!(stored["sent"], layer.len() as u64 - offset, "{stored}");
    assert!(user.pulled(&digest(&layer)) == layer);
}

/// No command could resume it: its parts are lost, and it was cancelled.
#[test]
fn push_whose_parts_are_lost_has_to_begin_again() {
    // The loss is noticed by the commit, or by the part before it.
    for size in [32, 40] {
        lose_parts_of_push(size);
    }
}

fn lose_parts_of_push(mib: usize) {
    let (store, user) = Served::with_user();
    let mut push = user
        .command(&["push", "-", "--name", "x"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = push.stdin.take().unwrap();
    input.write_all(&large(mib)).unwrap();
    store.holds_parts(2);
    let client = store.client();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(abort_multiparts(&client));
    drop(input);
    let output = push.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        !said.contains("--resume") && !said.contains("keeps"),
        "{said}"
    );
    assert!(said.contains("push it again"), "{said}");
}
