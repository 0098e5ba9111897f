//! What is in the store, as far as one layer and one manifest that names it are concerned, in two repositories.

/// The largest number of actors in a mix.
pub const ACTORS: usize = 6;

/// An upload of the layer: its number, and whether the record and the link hold the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    number: u8,
    inline: bool,
    /// It declares a second id, by which the layer is found through an alias.
    pub has_alias: bool,
}

impl Upload {
    pub const A: Upload = Upload {
        number: 1,
        inline: false,
        has_alias: false,
    };
    pub const B: Upload = Upload {
        number: 2,
        ..Upload::A
    };
    pub const SMALL_A: Upload = Upload {
        inline: true,
        ..Upload::A
    };
    pub const SMALL_B: Upload = Upload {
        inline: true,
        ..Upload::B
    };

    pub fn with_alias(self) -> Upload {
        Upload {
            has_alias: true,
            ..self
        }
    }

    /// What this upload stores. A client whose manifest was refused uploads again, under another key.
    pub fn content(self, round: u8) -> Content {
        Content(self.number * 2 + round, self.inline, self.has_alias)
    }
}

/// The bytes that a record or a link names: two data objects of one UUID, or the bytes themselves. And whether the record
/// lists an alias.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Content(u8, bool, bool);

impl Content {
    /// What is stored before anything happens.
    pub const FIRST: Content = Content(0, false, false);
    pub const FIRST_WITH_ALIAS: Content = Content(0, false, true);

    pub fn has_alias(self) -> bool {
        self.2
    }

    pub fn is_inline(self) -> bool {
        self.1
    }

    /// The data objects, as bits of [`State::data`]. Inline bytes have none.
    pub fn objects(self) -> u16 {
        if self.1 { 0 } else { 0b11 << (2 * self.0) }
    }

    pub fn first_object(self) -> u16 {
        self.objects() & (0b01 << (2 * self.0))
    }

    pub fn second_object(self) -> u16 {
        self.objects() & (0b10 << (2 * self.0))
    }

    /// The session of the upload, as a bit of [`State::sessions`].
    pub fn session(self) -> u8 {
        1 << self.0
    }
}

/// Stands for an ETag: who wrote a document, in which of its steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stamp(u8);

impl Stamp {
    pub const FIRST: Stamp = Stamp(0);

    pub fn by(actor: usize, write: Write) -> Stamp {
        Stamp(1 + actor as u8 * 8 + write as u8)
    }
}

/// The writes of one actor that must not be mistaken for each other.
#[derive(Clone, Copy)]
pub enum Write {
    FirstRound,
    SecondRound,
    Rescue,
    Stray,
    Collect,
    CollectAgain,
    Keep,
}

impl Write {
    pub fn in_round(round: u8) -> Write {
        if round == 0 {
            Write::FirstRound
        } else {
            Write::SecondRound
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordState {
    Live,
    Condemned,
    Dead,
    Purging,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    pub state: RecordState,
    pub content: Content,
    pub stamp: Stamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkState {
    Live,
    Condemned,
    /// A tombstone: it reads as absent.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Link {
    pub state: LinkState,
    pub content: Content,
    pub stamp: Stamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Manifest {
    pub condemned: bool,
    pub stamp: Stamp,
}

/// The state of one repository, and what was acknowledged to its clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Repository {
    pub link: Option<Link>,
    pub manifest: Option<Manifest>,
    pub tagged: bool,
    pub indexed: bool,
    /// The manifest was acknowledged to a client, and is not deleted.
    pub manifest_acknowledged: bool,
    /// The tag, or the index, was acknowledged to a client.
    pub parent_acknowledged: bool,
    /// Actors whose promise was open when the link was condemned, and still is.
    pub link_waits_for: u8,
    /// The same for the manifest.
    pub manifest_waits_for: u8,
}

/// One state of the store and of all actors.
///
/// The wait W is not a clock. A *window* (E) opens when an actor reads the record as live, or looks at its data, and ends when
/// the link that relies on that is written and the data of a duplicate are removed. A *promise* opens when a client learns
/// that the layer is present and ends when its manifest is acknowledged. W is longer than both, so a collector waits for those
/// that were open when it condemned the document. W is longer than two windows, so it waits as well for windows that opened while
/// one of those was open; it waits for no later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State<Local> {
    pub record: Option<Record>,
    pub repositories: [Repository; 2],
    /// What the alias of the layer names. It has no nonce, so this stands for its ETag too.
    pub alias: Option<Content>,
    /// The content whose upload was acknowledged under the alias.
    pub alias_acknowledged: Option<Content>,
    /// Collectors of records in their second pass.
    pub second_passes: u8,
    /// How many lines the listings of links may still lose; `None` where the store is honest.
    pub lies: Option<u8>,
    /// Data objects, see [`Content::objects`].
    pub data: u16,
    /// Sessions, see [`Content::session`].
    pub sessions: u8,
    /// Actors with an open window, and with an open promise.
    pub windows: u8,
    pub promises: u8,
    /// Actors whose window was open when the record was condemned (when the upload was cancelled), and still is.
    pub record_waits_for: u8,
    /// Actors whose window opened while there was one of those, and still is.
    pub record_waits_next_for: u8,
    pub cancel_waits_for: u8,
    /// A user deleted the link: a manifest may be refused.
    pub user_unlinked: bool,
    pub manifest_refused: bool,
    /// A committing upload was found without its data, and not published.
    pub upload_lost: bool,
    /// What a restore has acknowledged.
    pub restored: Option<Content>,
    pub actors: [Local; ACTORS],
}

impl<Local: Copy> State<Local> {
    pub fn new(actors: [Local; ACTORS]) -> Self {
        State {
            record: None,
            repositories: [Repository::default(); 2],
            alias: None,
            alias_acknowledged: None,
            second_passes: 0,
            lies: None,
            data: 0,
            sessions: 0,
            windows: 0,
            promises: 0,
            record_waits_for: 0,
            record_waits_next_for: 0,
            cancel_waits_for: 0,
            user_unlinked: false,
            manifest_refused: false,
            upload_lost: false,
            restored: None,
            actors,
        }
    }

    /// The record, unless it reads as absent.
    pub fn served_record(&self) -> Option<Record> {
        self.record
            .filter(|record| matches!(record.state, RecordState::Live | RecordState::Condemned))
    }

    /// The link, unless it reads as absent.
    pub fn link(&self, repository: usize) -> Option<Link> {
        self.repositories[repository]
            .link
            .filter(|link| link.state != LinkState::Gone)
    }

    pub fn has_data(&self, content: Content) -> bool {
        self.data & content.objects() == content.objects()
    }

    /// Opens the actor's window. A collector does not wait for one that opened after it condemned.
    pub fn open_window(&mut self, actor: usize) {
        let is_waiting = self.record_waits_for != 0;
        self.close_window(actor);
        self.windows |= 1 << actor;
        if is_waiting {
            self.record_waits_next_for |= 1 << actor;
        }
    }

    pub fn close_window(&mut self, actor: usize) {
        let others = !(1 << actor);
        self.windows &= others;
        self.record_waits_for &= others;
        self.record_waits_next_for &= others;
        self.cancel_waits_for &= others;
    }

    pub fn open_promise(&mut self, actor: usize) {
        self.close_promise(actor);
        self.promises |= 1 << actor;
    }

    pub fn close_promise(&mut self, actor: usize) {
        let others = !(1 << actor);
        self.promises &= others;
        for repository in &mut self.repositories {
            repository.link_waits_for &= others;
            repository.manifest_waits_for &= others;
        }
    }
}
