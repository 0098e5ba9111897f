//! What a push and a pull show on a terminal, and that they show it nowhere else.

use std::io::Write as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::program::{MIB, Served, User, digest, noise, stderr};
use crate::support::tcp_proxy::{Direction, TcpProxy};
use crate::support::terminal::Terminal;

/// A store behind a proxy, and a layer to be pushed.
struct Site {
    _store: Served,
    proxy: TcpProxy,
    user: User,
    layer: Vec<u8>,
}

impl Site {
    fn new() -> Self {
        let (store, proxy, user) = Served::behind_proxy();
        let layer = noise(40 * MIB);
        user.file("layer.tar", &layer);
        Site {
            _store: store,
            proxy,
            user,
            layer,
        }
    }

    /// Runs this with stderr on the terminal, and waits until some 10 MiB are on their way.
    fn begun(&self, way: Direction, terminal: &Terminal, arguments: &[&str]) -> Child {
        self.proxy.pause_after(way, 10 * MIB as u64);
        let child = self
            .user
            .command(arguments)
            .stdout(Stdio::null())
            .stderr(terminal.stream())
            .env("TERM", "xterm")
            .spawn()
            .unwrap();
        self.proxy.wait_until_paused(way);
        child
    }
}

/// The percentage that this line shows.
fn percent(line: &str) -> Option<u32> {
    let (before, _) = line.split_once('%')?;
    before.rsplit(' ').next()?.parse().ok()
}

fn shows_progress(screen: &[String]) -> bool {
    screen
        .iter()
        .filter_map(|line| percent(line))
        .any(|percent| percent > 10)
}

#[test]
fn push_and_pull_show_progress() {
    let site = Site::new();
    for columns in [100, 40] {
        // One that is stored already would not be sent.
        let mut layer = site.layer.clone();
        layer[0] ^= columns as u8;
        site.user.file("layer.tar", &layer);
        let id = digest(&layer);
        let name = format!("x{columns}");
        let push = ["push", "layer.tar", "--name", &name];
        let pull = ["pull", &id, "-o", "out", "--force"];
        for (way, arguments) in [(Direction::Up, &push[..]), (Direction::Down, &pull)] {
            let mut terminal = Terminal::new(columns);
            let mut child = site.begun(way, &terminal, arguments);
            terminal.until(shows_progress);
            let screen = terminal.screen();
            let bars: Vec<&String> = screen
                .iter()
                .filter(|line| percent(line).is_some())
                .collect();
            // One line: one that did not fit would have left others.
            assert_eq!(bars.len(), 1, "{screen:#?}");
            // No more is on the way than the proxy has let through, and what lies in buffers.
            let shown = percent(bars[0]).unwrap();
            assert!((11..=90).contains(&shown), "{screen:#?}");
            assert!(
                bars[0].chars().count() <= usize::from(columns),
                "{screen:#?}"
            );
            if columns == 100 {
                assert!(bars[0].contains("of 40.00 MiB"), "{screen:#?}");
                assert!(bars[0].starts_with('█'), "{screen:#?}");
            }
            site.proxy.resume();
            assert_eq!(child.wait().unwrap().code(), Some(0));
            let screen = terminal.end();
            assert!(!shows_progress(&screen), "the bar has gone: {screen:#?}");
        }
    }
}

#[test]
fn bar_shows_rate_and_time_left() {
    let site = Site::new();
    let terminal = Terminal::new(100);
    let mut push = site.begun(
        Direction::Up,
        &terminal,
        &["push", "layer.tar", "--name", "x"],
    );
    terminal.until(|screen| {
        screen
            .iter()
            .any(|line| line.contains("iB/s") && line.contains(" left"))
    });
    site.proxy.resume();
    assert_eq!(push.wait().unwrap().code(), Some(0));
}

#[test]
fn bar_of_a_stopped_push_stays_readable() {
    let site = Site::new();
    let mut terminal = Terminal::new(80);
    let mut push = site.begun(
        Direction::Up,
        &terminal,
        &["push", "layer.tar", "--name", "x"],
    );
    terminal.until(shows_progress);
    kill_process(Pid::from_child(&push), Signal::TERM).unwrap();
    terminal.until(|screen| {
        screen
            .iter()
            .any(|line| line.starts_with("interrupted: saving"))
    });
    site.proxy.resume();
    assert_eq!(push.wait().unwrap().code(), Some(1));
    let screen = terminal.end();
    let bar = screen.iter().position(|line| line.contains("%")).unwrap();
    assert!(
        screen[bar].contains("80%   32.00 MiB of 40.00 MiB"),
        "{screen:#?}"
    );
    assert_eq!(screen[bar + 1], "error: interrupted", "{screen:#?}");
}

#[test]
fn several_files_have_a_bar_each() {
    let site = Site::new();
    site.user.file("other.tar", &site.layer[1..]);
    let mut terminal = Terminal::new(60);
    let arguments = ["push", "layer.tar", "other.tar", "--name", "x"];
    let mut push = site.begun(Direction::Up, &terminal, &arguments);
    let has = |screen: &[String], name: &str| {
        screen
            .iter()
            .any(|line| line.starts_with(name) && percent(line).is_some())
    };
    let has_all = |screen: &[String]| {
        let all = ["total  ", "layer.tar  ", "other.tar  "];
        all.iter().all(|name| has(screen, name))
    };
    // What is held may be the first request of the second file.
    for _ in 0..100 {
        if has_all(&terminal.screen()) {
            break;
        }
        site.proxy.allow(Direction::Up, MIB as u64 / 4);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    terminal.until(has_all);
    site.proxy.resume();
    assert_eq!(push.wait().unwrap().code(), Some(0));
    let screen = terminal.end();
    assert!(
        screen.iter().all(|line| percent(line).is_none()),
        "{screen:#?}"
    );
    assert!(
        screen.contains(&"layer.tar: stored 41,943,040 bytes".to_owned()),
        "{screen:#?}"
    );
}

#[test]
fn pipe_shows_what_was_read_before_the_first_part_is_sent() {
    let (_store, user) = Served::with_user();
    let terminal = Terminal::new(80);
    let mut push = user
        .command(&["push", "-", "--name", "x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(terminal.stream())
        .env("TERM", "xterm")
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    stdin.write_all(&noise(3 * MIB)).unwrap();
    terminal.until(|screen| {
        let mut lines = screen.iter();
        lines.any(|line| line.starts_with("3.00 MiB read, 0 B sent"))
    });
    drop(stdin);
    assert_eq!(push.wait().unwrap().code(), Some(0));
}

#[test]
fn collection_shows_its_requests() {
    let (_store, user) = Served::with_user();
    user.ok(&["doctor"]);
    let mut terminal = Terminal::new(80);
    let mut command = user.command(&["gc", "--rate", "5"]);
    command.stdout(Stdio::null()).stderr(terminal.stream());
    let mut collection = command.env("TERM", "xterm").spawn().unwrap();
    assert_eq!(collection.wait().unwrap().code(), Some(0));
    // It has the other side open still.
    drop(command);
    let screen = terminal.end();
    let counted = terminal.written();
    assert!(counted.contains("collecting  ") && counted.contains(" requests, "));
    assert!(
        !screen.iter().any(|line| line.contains("collecting")),
        "{screen:#?}"
    );
}

#[test]
fn requests_by_operation_are_shown_with_v_only() {
    let user = User::new();
    user.file("one", b"one");
    user.file("two", b"two");
    let said = stderr(&user.run(&["push", "one", "--name", "x"]));
    assert!(
        said.contains(" requests") && !said.contains("PutObject"),
        "{said}"
    );
    let said = stderr(&user.run(&["-v", "push", "two", "--name", "x"]));
    assert!(said.contains("PutObject"), "{said}");
}

#[test]
fn nothing_is_drawn_in_a_pipe_or_with_json() {
    let user = User::new();
    let layer = noise(20 * MIB);
    user.file("layer.tar", &layer);
    let id = digest(&layer);
    let is_plain = |text: &str| !text.contains(['\x1b', '\r', '%', '█']);
    for arguments in [
        &["push", "layer.tar", "--name", "x"][..],
        &["push", "layer.tar", "layer.tar", "--name", "x"],
        &["pull", &id, "-o", "out"],
    ] {
        let output = user.run(arguments);
        let said = stderr(&output);
        assert!(output.status.success() && is_plain(&said), "{said:?}");
    }
    let mut terminal = Terminal::new(80);
    let arguments = ["--json", "pull", &id, "-o", "out", "--force"];
    let mut pull = user.command(&arguments);
    pull.stdout(Stdio::null())
        .stderr(terminal.stream())
        .env("TERM", "xterm");
    assert!(pull.status().unwrap().success());
    // It has the other side open still.
    drop(pull);
    terminal.end();
    assert_eq!(terminal.written(), "");
}
