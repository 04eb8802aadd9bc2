//! The whole state as a sequence of bounded chunks, made one at a time from a view, so that whoever loads them has the same
//! root as whoever wrote them and neither ever has the whole in memory twice.
//!
//! The chunks laid end to end are: the magic, the header's length (u32 LE) and the [`Header`] in postcard, which fill the
//! first chunk, and then for every page of every part its part (u8), its length (u32 LE) and its rows in postcard. Chunks
//! end anywhere in this. They carry no checksums: their file or transport does, and the root covers all of it.

use crate::{
    genesis::{Genesis, GenesisError},
    ids::Hash,
    index::HashKey,
    part::{self, BadPage, Cursor, Part as _},
    plants::{Plant, planted},
    state::State,
    windows::Windows,
};
use serde::{Deserialize, Serialize};

/// Longest chunk.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Most bytes that a caller may attach.
pub const ATTACHED_BYTES_MAX: usize = 64 << 10;
/// Longest page that a loader takes. The largest rows are jobs', of which a page has four.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// First bytes of every snapshot of this version.
const MAGIC: &[u8] = b"MatrixAI/snapshot/v2\0";

/// Why chunks are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not written by this version.
    #[error("not a snapshot of this version")]
    Magic,
    /// The encoding is broken, or the end is missing.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
    /// The genesis inside is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The contents are not what the snapshot says they are.
    #[error("the snapshot's contents do not have the root that it names")]
    Root,
}

impl From<BadPage> for SnapshotError {
    fn from(BadPage(why): BadPage) -> Self {
        SnapshotError::Damaged(why)
    }
}

/// What a snapshot says of itself before its pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The genesis that the cluster was founded with, as it was written.
    pub genesis: Vec<u8>,
    /// Index of the last entry that was applied.
    pub index: u64,
    /// Ledger time, ms since the Unix epoch.
    pub now_ms: u64,
    /// [`State::root`].
    pub root: Hash,
    /// What the writer added, e.g. the members of the cluster; the state does not know what it means.
    pub attached: Vec<u8>,
}

/// Makes the chunks of a snapshot. The first costs the root, each other one the encoding of its pages.
#[derive(Debug)]
pub struct Chunks {
    view: State,
    /// Until the header is made.
    attached: Option<Vec<u8>>,
    part: usize,
    cursor: Cursor,
    /// Encoded and not yet handed out: less than a chunk and a page.
    ready: Vec<u8>,
}

impl Chunks {
    /// The chunks of a view. `attached` goes into the header as it is.
    ///
    /// # Panics
    /// When more than [`ATTACHED_BYTES_MAX`] are attached.
    pub fn new(view: State, attached: Vec<u8>) -> Self {
        assert!(attached.len() <= ATTACHED_BYTES_MAX, "{} bytes are attached to a snapshot", attached.len());
        Self { view, attached: Some(attached), part: 0, cursor: Cursor::default(), ready: Vec::new() }
    }

    fn header(&self, attached: Vec<u8>) -> Vec<u8> {
        let genesis = self.view.founding().bytes.clone();
        let (index, now_ms) = (self.view.index(), self.view.now_ms());
        let header = Header { genesis, index, now_ms, root: self.view.root(), attached };
        let mut body = Vec::new();
        part::encode(&header, &mut body);
        let mut chunk = MAGIC.to_vec();
        chunk.extend(length(&body));
        chunk.extend(body);
        chunk
    }

    /// Encodes the next page; `false` when there is none.
    fn page(&mut self) -> bool {
        let Some(part) = State::PARTS.get(self.part) else { return false };
        let start = self.ready.len();
        self.ready.push(u8::try_from(self.part).expect("there are fewer than 256 parts"));
        self.ready.extend([0; 4]);
        let body = self.ready.len();
        if (part.write)(&self.view, &mut self.cursor, &mut self.ready) {
            let bytes = length(self.ready.get(body..).unwrap_or_default());
            let field = self.ready.get_mut(start.saturating_add(1)..body).unwrap_or_default();
            field.copy_from_slice(&bytes);
        } else {
            self.ready.truncate(start);
            self.part = self.part.saturating_add(1);
            self.cursor = Cursor::default();
        }
        true
    }
}

impl Iterator for Chunks {
    type Item = Vec<u8>;

    /// At most [`CHUNK_BYTES_MAX`] bytes.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(attached) = self.attached.take() {
            return Some(self.header(attached));
        }
        while self.ready.len() < CHUNK_BYTES_MAX && self.page() {}
        let rest = self.ready.split_off(self.ready.len().min(CHUNK_BYTES_MAX));
        let chunk = std::mem::replace(&mut self.ready, rest);
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Builds the state of a snapshot, chunk by chunk.
#[derive(Debug, Default)]
pub struct Loader {
    /// Bytes of an unfinished header or page.
    pending: Vec<u8>,
    begun: Option<(Header, State)>,
    part: usize,
}

impl Loader {
    /// Before the first chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the snapshot says of itself, once the first chunk is in.
    pub fn header(&self) -> Option<&Header> {
        self.begun.as_ref().map(|(header, _)| header)
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When the bytes so far cannot begin a snapshot; the loader is of no use then.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        self.pending.extend_from_slice(chunk);
        let mut bytes = self.pending.as_slice();
        if self.begun.is_none() {
            let Some((header, rest)) = header(bytes)? else { return Ok(()) };
            let state = State::empty(Genesis::read(&header.genesis)?);
            self.begun = Some((header, state));
            bytes = rest;
        }
        let Some((_, state)) = &mut self.begun else { return Ok(()) };
        while let Some((number, rest)) = bytes.split_first() {
            let Some((page, rest)) = body(rest, PAGE_BYTES_MAX)? else { break };
            let number = usize::from(*number);
            let part = State::PARTS.get(number).filter(|_| number >= self.part);
            let part =
                part.ok_or_else(|| SnapshotError::Damaged(format!("part {number} is unknown or out of order")))?;
            (part.read)(state, page).map_err(|BadPage(why)| SnapshotError::Damaged(format!("{}: {why}", part.name)))?;
            self.part = number;
            bytes = rest;
        }
        let done = self.pending.len().saturating_sub(bytes.len());
        self.pending.drain(..done);
        Ok(())
    }

    /// The state, after the last chunk. Costs its root.
    ///
    /// # Errors
    /// When chunks are missing or the contents do not have the root that the header names.
    pub fn finish(self) -> Result<State, SnapshotError> {
        let Some((header, state)) = self.begun else { return Err(SnapshotError::Magic) };
        if !self.pending.is_empty() {
            return Err(SnapshotError::Damaged("the end is missing".to_owned()));
        }
        let same = (header.index, header.now_ms, header.root) == (state.index(), state.now_ms(), state.root());
        if same && planted(Plant::SnapshotForgetsEnvelopes) {
            let windows = Windows::empty(HashKey::of(&state.cluster_id));
            return Ok(State { windows, ..state });
        }
        if same { Ok(state) } else { Err(SnapshotError::Root) }
    }
}

/// A body's length on the wire.
fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len()).expect("no header and no page is over 4 GiB").to_le_bytes()
}

/// The header and what follows it; `None` while it is not all there.
fn header(bytes: &[u8]) -> Result<Option<(Header, &[u8])>, SnapshotError> {
    let seen = bytes.len().min(MAGIC.len());
    if bytes.get(..seen) != MAGIC.get(..seen) {
        return Err(SnapshotError::Magic);
    }
    let Some((header, rest)) = body(bytes.get(MAGIC.len()..).unwrap_or_default(), CHUNK_BYTES_MAX)? else {
        return Ok(None);
    };
    Ok(Some((part::decode(header)?, rest)))
}

/// A body's bytes and what follows it.
type Body<'a> = (&'a [u8], &'a [u8]);

/// A body with its length before it, and what follows; `None` while it is not all there.
fn body(bytes: &[u8], bytes_max: usize) -> Result<Option<Body<'_>>, SnapshotError> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > bytes_max {
        return Err(SnapshotError::Damaged(format!("{length} bytes of one page, at most {bytes_max}")));
    }
    Ok(rest.split_at_checked(length))
}
