//! A terminal: the program writes to one side of a pseudo-terminal, and a test looks at the screen.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// No test waits nearly as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal of some columns.
pub(crate) struct Terminal {
    columns: u16,
    /// The program's side.
    program: Option<File>,
    raw: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    pub(crate) fn new(columns: u16) -> Self {
        let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&ours, size).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let program = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let raw = Arc::<Mutex<Vec<u8>>>::default();
        let written = Arc::clone(&raw);
        let reader = std::thread::spawn(move || {
            let mut ours = File::from(ours);
            let mut buffer = [0; 4096];
            // Once the other side is closed, the end is reported as an error.
            while let Ok(read @ 1..) = ours.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Terminal {
            columns,
            program: Some(program),
            raw,
            reader: Some(reader),
        }
    }

    /// The side of the program, for one of its standard streams.
    pub(crate) fn stream(&self) -> File {
        self.program.as_ref().unwrap().try_clone().unwrap()
    }

    /// Everything that was written so far.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned()
    }

    /// Waits until the screen shows this.
    pub(crate) fn until(&self, is_expected: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        while !is_expected(&self.screen()) {
            assert!(begun.elapsed() < PATIENCE, "{:#?}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What has been written when the program is gone: the lines on the screen, and above it.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.program = None;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.screen()
    }

    /// The lines as they are seen, those that have left the screen included.
    pub(crate) fn screen(&self) -> Vec<String> {
        let mut screen = Screen::new(usize::from(self.columns));
        let text = self.written();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\x1b' => screen.escape(&mut chars),
                c => screen.put(c),
            }
        }
        screen.lines()
    }
}

/// As much of a terminal as the program makes use of.
struct Screen {
    columns: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    /// May stand behind the last column: the next character begins a new line then.
    column: usize,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Screen {
            columns,
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
        }
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        match c {
            '\r' => self.column = 0,
            '\n' => self.down(),
            c => {
                if self.column == self.columns {
                    self.column = 0;
                    self.down();
                }
                let row = &mut self.rows[self.row];
                if row.len() <= self.column {
                    row.resize(self.column + 1, ' ');
                }
                row[self.column] = c;
                self.column += 1;
            }
        }
    }

    fn escape(&mut self, chars: &mut std::str::Chars<'_>) {
        assert_eq!(chars.next(), Some('['), "an unknown escape sequence");
        let mut number = String::new();
        for c in chars {
            if c.is_ascii_digit() || matches!(c, ';' | '?') {
                number.push(c);
                continue;
            }
            let count = number.parse().unwrap_or(1);
            match c {
                'A' => self.row = self.row.saturating_sub(count),
                'B' => (0..count).for_each(|_| self.down()),
                'K' => self.rows[self.row].clear(),
                'J' => {
                    self.rows.truncate(self.row + 1);
                    self.rows[self.row].truncate(self.column);
                }
                'm' | 'h' | 'l' => {}
                other => unreachable!("an unknown escape sequence: {number}{other}"),
            }
            return;
        }
    }

    fn lines(&self) -> Vec<String> {
        let text = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        self.rows.iter().map(text).collect()
    }
}
