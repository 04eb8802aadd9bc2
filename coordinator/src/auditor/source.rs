//! The log as it lies in a folder of sealed segments: every byte is checked against the hash beside it, every segment
//! against the one before. Whoever changes a copy with care makes all of these fit; then a signature, a root or a segment's
//! attested hash does not.

use super::{AuditError, Difference, What};
use crate::archive::{Entry, Head, ReadError, Segment, Shelf, format::Damage, shelf::Entries};

/// The entries behind a place, up to the last of the segments; `broken` is what the shelf could not make sense of behind
/// them.
pub fn segments(
    shelf: &Shelf,
    behind: Head,
    broken: Option<ReadError>,
) -> impl Iterator<Item = Result<Entry, AuditError>> {
    Segments { shelf, behind, reading: None, broken, ended: false }
}

struct Segments<'a> {
    shelf: &'a Shelf,
    behind: Head,
    reading: Option<(Segment, Entries)>,
    broken: Option<ReadError>,
    ended: bool,
}

impl Segments<'_> {
    fn open(&mut self) -> Option<Result<(), AuditError>> {
        let epoch = self.behind.epoch + 1;
        let next = self.behind.index + 1;
        let Some(segment) = self.shelf.get(epoch) else {
            if let Some(error) = self.broken.take() {
                return Some(Err(located(error, next)));
            }
            let (_, newest) = self.shelf.ends()?;
            let found = format!("none of it, although segment {} is there", newest.epoch());
            let missing = Difference::entry(next, What::Log, format!("segment {epoch}"), found);
            return (newest.epoch() > epoch).then_some(Err(missing.into()));
        };
        if segment.before != self.behind {
            let place =
                |head: Head| format!("segment {epoch} behind entry {} and hash {}", head.index, hex::encode(head.hash));
            let found = place(segment.before);
            return Some(Err(Difference::entry(next, What::Log, place(self.behind), found).into()));
        }
        self.reading = Some((segment, self.shelf.entries(&segment)));
        Some(Ok(()))
    }
}

impl Iterator for Segments<'_> {
    type Item = Result<Entry, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let Some((segment, entries)) = &mut self.reading else {
                match self.open() {
                    Some(Ok(())) => continue,
                    Some(Err(error)) => {
                        self.ended = true;
                        return Some(Err(error));
                    }
                    None => break,
                }
            };
            match entries.next() {
                Some(Ok(entry)) => return Some(Ok(entry)),
                Some(Err(error)) => {
                    self.ended = true;
                    let first = segment.before.index + 1;
                    return Some(Err(located(error, first)));
                }
                None => {
                    self.behind = segment.sealed.head;
                    self.reading = None;
                }
            }
        }
        self.ended = true;
        None
    }
}

/// What an audit says of an error; `first` is the first entry of the segment.
fn located(error: ReadError, first: u64) -> AuditError {
    let (path, damage) = match error {
        ReadError::Files(error) => return AuditError::Source(error.to_string()),
        ReadError::Damaged { path, damage } => (path, damage),
    };
    let range = match &damage {
        Damage::Magic | Damage::Cluster(_) | Damage::Place { .. } => (first, first),
        Damage::Header { next } => ((*next).max(first), (*next).max(first)),
        Damage::Entry { index } | Damage::Record { index } | Damage::Order { expected: index, .. } => (*index, *index),
        Damage::Seal { index } | Damage::Content { index, .. } => (first, *index),
        Damage::Truncated { after } => ((after + 1).max(first), (after + 1).max(first)),
    };
    let expected = format!("what was sealed in {}", path.display());
    Difference::entries(range, What::Log, expected, damage.to_string()).into()
}
