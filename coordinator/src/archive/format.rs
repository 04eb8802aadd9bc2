//! A segment as bytes. One segment is one or more parts (files), each a header and records:
//!
//! ```text
//! header   magic 8 · cluster id 32 · epoch u64 · part u32 · index before the segment u64 · hash of the segment before 32 · check 32
//! entry    1 · length u32 · index u64 · term u64 · hash of the entry 32 · bytes
//! more     2 · entries so far u64 · check 32                      the segment goes on in the next part
//! seal     3 · entries u64 · content's hash 32 · segment's hash 32 · check 32
//! ```
//!
//! Numbers are little endian; a check is the SHA-256 of the record before it. An entry's own hash is its checksum: the same
//! hash goes into the segment's, so nothing is hashed twice. Entries are not compressed: they are keys, signatures and
//! hashes for the most part, which do not shrink.

use super::{
    Entry, Head,
    hasher::{Sealed, SegmentHasher, entry_hash},
};
use matrixai_consensus::ENTRY_BYTES_MAX;
use matrixai_protocol::{Hash, sha256};

const MAGIC: &[u8; 8] = b"MXseg\0v1";
const ENTRY: u8 = 1;
const MORE: u8 = 2;
const SEAL: u8 = 3;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 8 + 32 + 8 + 4 + 8 + 32 + 32;
/// Bytes of an entry without its own.
pub const FRAME_BYTES: usize = 1 + 4 + 8 + 8 + 32;
/// Bytes of the record that says that there is another part.
pub const MORE_BYTES: usize = 1 + 8 + 32;
/// Bytes of the last record.
pub const SEAL_BYTES: usize = 1 + 8 + 32 + 32 + 32;

/// The first bytes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose log this is.
    pub cluster_id: Hash,
    /// The part of its segment, from 0.
    pub part: u32,
    /// The place that the segment begins behind.
    pub before: Head,
}

/// What is wrong with a segment's bytes: the first thing, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Other bytes than a segment's begin a part.
    #[error("these are no bytes of a segment of the log")]
    Magic,
    /// A header has other bytes than it was written with.
    #[error("the header before entry {next} is damaged")]
    Header {
        /// The entry that would follow.
        next: u64,
    },
    /// A log of another cluster.
    #[error("it belongs to cluster {}", hex::encode(.0))]
    Cluster(Hash),
    /// A part or segment is missing, doubled or out of place.
    #[error("expected {expected}, found {found}")]
    Place {
        /// What must come.
        expected: String,
        /// What came.
        found: String,
    },
    /// An entry has other bytes than it was written with.
    #[error("entry {index} does not have the hash that stands beside it")]
    Entry {
        /// Which.
        index: u64,
    },
    /// A whole entry, but not the next one.
    #[error("expected entry {expected}, found entry {found}")]
    Order {
        /// What must come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// What follows is no record.
    #[error("what should be entry {index} or the segment's end is neither")]
    Record {
        /// The entry that would follow.
        index: u64,
    },
    /// The last record has other bytes than it was written with.
    #[error("the record after entry {index} that ends the segment is damaged")]
    Seal {
        /// Last entry before it.
        index: u64,
    },
    /// The last record is whole, but is not this content's.
    #[error("the entries up to {index} have the content {}, the segment was sealed with {}", hex::encode(.found), hex::encode(.expected))]
    Content {
        /// Last entry.
        index: u64,
        /// What the last record says.
        expected: Hash,
        /// What the entries give.
        found: Hash,
    },
    /// The bytes end before the segment does.
    #[error("it ends after entry {after}, before the segment is whole")]
    Truncated {
        /// Last whole entry.
        after: u64,
    },
}

/// What a decoder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A part begins.
    Part(Header),
    /// The next entry, with its hash.
    Entry(Entry, Hash),
    /// The segment goes on in the next part.
    More,
    /// The segment ends.
    Sealed(Sealed),
}

/// Appends a header.
pub fn put_header(bytes: &mut Vec<u8>, header: &Header) {
    let from = bytes.len();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&header.cluster_id);
    bytes.extend_from_slice(&(header.before.epoch + 1).to_le_bytes());
    bytes.extend_from_slice(&header.part.to_le_bytes());
    bytes.extend_from_slice(&header.before.index.to_le_bytes());
    bytes.extend_from_slice(&header.before.hash);
    put_check(bytes, from);
}

/// Appends an entry; `hash` is its [`entry_hash`].
pub fn put_entry(bytes: &mut Vec<u8>, entry: &Entry, hash: &Hash) {
    let length = u32::try_from(entry.data.len()).expect("the consensus takes no entry this long");
    bytes.push(ENTRY);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&entry.index.to_le_bytes());
    bytes.extend_from_slice(&entry.term.to_le_bytes());
    bytes.extend_from_slice(hash);
    bytes.extend_from_slice(&entry.data);
}

/// Appends the end of a part that is not the last.
pub fn put_more(bytes: &mut Vec<u8>, hasher: &SegmentHasher) {
    let from = bytes.len();
    bytes.push(MORE);
    bytes.extend_from_slice(&hasher.entries().to_le_bytes());
    put_check(bytes, from);
}

/// Appends the end of a segment.
pub fn put_seal(bytes: &mut Vec<u8>, sealed: &Sealed) {
    let from = bytes.len();
    bytes.push(SEAL);
    bytes.extend_from_slice(&sealed.entries.to_le_bytes());
    bytes.extend_from_slice(&sealed.content);
    bytes.extend_from_slice(&sealed.head.hash);
    put_check(bytes, from);
}

fn put_check(bytes: &mut Vec<u8>, from: usize) {
    let check = sha256(&[bytes.get(from..).unwrap_or_default()]);
    bytes.extend_from_slice(&check);
}

/// Reads a header.
///
/// # Errors
/// [`Damage::Magic`] or [`Damage::Header`].
pub fn header(bytes: &[u8; HEADER_BYTES], next: u64) -> Result<Header, Damage> {
    let mut fields = Fields(bytes);
    if fields.take::<8>() != Some(*MAGIC) {
        return Err(Damage::Magic);
    }
    if !checked(bytes) {
        return Err(Damage::Header { next });
    }
    let mut read = || {
        let cluster_id = fields.take()?;
        let epoch = fields.number()?.checked_sub(1)?;
        let part = u32::from_le_bytes(fields.take()?);
        let index = fields.number()?;
        Some(Header { cluster_id, part, before: Head { epoch, index, hash: fields.take()? } })
    };
    read().ok_or(Damage::Header { next })
}

/// Reads the end of a segment that begins behind a place.
///
/// # Errors
/// [`Damage::Seal`].
pub fn seal(bytes: &[u8; SEAL_BYTES], before: Head) -> Result<Sealed, Damage> {
    let mut fields = Fields(bytes);
    let damaged = Damage::Seal { index: before.index };
    let mut read = || {
        let tag: [u8; 1] = fields.take()?;
        let (entries, content, hash) = (fields.number()?, fields.take()?, fields.take()?);
        let index = before.index.checked_add(entries)?;
        (tag == [SEAL]).then_some(Sealed { head: Head { epoch: before.epoch + 1, index, hash }, entries, content })
    };
    if checked(bytes) { read().ok_or(damaged) } else { Err(damaged) }
}

fn checked(record: &[u8]) -> bool {
    record.split_last_chunk::<32>().is_some_and(|(bytes, check)| sha256(&[bytes]) == *check)
}

/// Takes fixed-size fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Where in a segment the bytes are.
#[derive(Debug, Clone)]
enum Place {
    /// A segment must begin; behind which place, if that is known.
    Between(Option<Head>),
    /// Inside of a part.
    Inside { hasher: SegmentHasher, part: u32 },
    /// The next part must begin.
    Parts { hasher: SegmentHasher, part: u32 },
}

/// Reads segments from bytes that come in pieces: parts in order, and any number of segments that follow each other.
/// Holds what is left of a piece and at most one entry.
#[derive(Debug, Clone)]
pub struct Decoder {
    cluster_id: Hash,
    place: Place,
    bytes: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Reads segments of this cluster's log; the first must begin behind `before`, if that is known.
    pub fn new(cluster_id: Hash, before: Option<Head>) -> Self {
        Self { cluster_id, place: Place::Between(before), bytes: Vec::new(), at: 0 }
    }

    /// Adds bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next item, or none before more bytes are fed.
    ///
    /// # Errors
    /// The first [`Damage`]; nothing behind it may be believed.
    pub fn next_item(&mut self) -> Result<Option<Item>, Damage> {
        match &self.place {
            Place::Between(_) | Place::Parts { .. } => self.part(),
            Place::Inside { .. } => self.record(),
        }
    }

    /// Checks that the bytes ended where a segment did.
    ///
    /// # Errors
    /// [`Damage::Truncated`].
    pub fn finish(&self) -> Result<(), Damage> {
        let after = match &self.place {
            Place::Between(_) if self.rest().is_empty() => return Ok(()),
            Place::Between(before) => before.map_or(0, |before| before.index),
            Place::Inside { hasher, .. } | Place::Parts { hasher, .. } => hasher.next_index() - 1,
        };
        Err(Damage::Truncated { after })
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn part(&mut self) -> Result<Option<Item>, Damage> {
        let next = match &self.place {
            Place::Between(before) => before.map_or(1, |before| before.index + 1),
            Place::Parts { hasher, .. } | Place::Inside { hasher, .. } => hasher.next_index(),
        };
        let Some(bytes) = self.rest().first_chunk::<HEADER_BYTES>() else {
            let begun = self.rest().get(..MAGIC.len()).is_some_and(|magic| magic != MAGIC);
            return if begun { Err(Damage::Magic) } else { Ok(None) };
        };
        let header = header(bytes, next)?;
        if header.cluster_id != self.cluster_id {
            return Err(Damage::Cluster(header.cluster_id));
        }
        let (expected, hasher) = match &self.place {
            Place::Parts { hasher, part } => {
                (Header { part: part + 1, before: hasher.before(), ..header }, hasher.clone())
            }
            Place::Between(before) => {
                let before = before.unwrap_or(header.before);
                (Header { part: 0, before, ..header }, SegmentHasher::after(before))
            }
            Place::Inside { .. } => unreachable!("a part begins behind another or between segments"),
        };
        if header != expected {
            return Err(Damage::Place { expected: describe(&expected), found: describe(&header) });
        }
        self.at += HEADER_BYTES;
        self.place = Place::Inside { hasher, part: header.part };
        Ok(Some(Item::Part(header)))
    }

    fn record(&mut self) -> Result<Option<Item>, Damage> {
        let Place::Inside { hasher, part } = &self.place else { unreachable!("records stand inside of parts") };
        let (mut hasher, part, next) = (hasher.clone(), *part, hasher.next_index());
        let rest = self.rest();
        match rest.first() {
            None => Ok(None),
            Some(&ENTRY) => {
                let Some((entry, hash, length)) = entry(rest, next)? else { return Ok(None) };
                hasher.push(entry.index, &hash);
                self.at += length;
                self.place = Place::Inside { hasher, part };
                Ok(Some(Item::Entry(entry, hash)))
            }
            Some(&MORE) => {
                let Some(record) = rest.first_chunk::<MORE_BYTES>() else { return Ok(None) };
                let entries = Fields(record.get(1..).unwrap_or_default()).number();
                if !checked(record) || entries != Some(hasher.entries()) {
                    return Err(Damage::Seal { index: next - 1 });
                }
                self.at += MORE_BYTES;
                self.place = Place::Parts { hasher, part };
                Ok(Some(Item::More))
            }
            Some(&SEAL) => {
                let Some(record) = rest.first_chunk::<SEAL_BYTES>() else { return Ok(None) };
                let said = seal(record, hasher.before()).map_err(|_| Damage::Seal { index: next - 1 })?;
                let sealed = hasher.sealed();
                if said != sealed {
                    let (expected, found) = (said.content, sealed.content);
                    return Err(Damage::Content { index: next - 1, expected, found });
                }
                self.at += SEAL_BYTES;
                self.place = Place::Between(Some(sealed.head));
                Ok(Some(Item::Sealed(sealed)))
            }
            Some(_) => Err(Damage::Record { index: next }),
        }
    }
}

/// The entry at the front, its hash and how many bytes it takes; none when it is not all there.
fn entry(bytes: &[u8], next: u64) -> Result<Option<(Entry, Hash, usize)>, Damage> {
    let damaged = Damage::Entry { index: next };
    let Some((frame, rest)) = bytes.split_first_chunk::<FRAME_BYTES>() else { return Ok(None) };
    let mut fields = Fields(frame.get(1..).unwrap_or_default());
    let mut read = || {
        let length = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
        let (index, term) = (fields.number()?, fields.number()?);
        Some((length, index, term, fields.take::<32>()?))
    };
    let (length, index, term, hash) = read().ok_or(damaged.clone())?;
    if length > ENTRY_BYTES_MAX {
        return Err(damaged);
    }
    let Some(data) = rest.get(..length) else { return Ok(None) };
    let entry = Entry { index, term, data: data.to_vec() };
    if entry_hash(&entry) != hash {
        return Err(damaged);
    }
    if index != next {
        return Err(Damage::Order { expected: next, found: index });
    }
    Ok(Some((entry, hash, FRAME_BYTES + length)))
}

fn describe(header: &Header) -> String {
    let Head { epoch, index, hash } = header.before;
    format!("part {} of segment {}, behind entry {index} and hash {}", header.part, epoch + 1, hex::encode(hash))
}
