//! Tells a torn tail from damage.
//!
//! raft-engine, asked to tolerate a broken tail, cuts the last file at the first record it cannot read, however many
//! good records follow. That would silently drop acknowledged entries, and a node that forgets what it acknowledged can
//! make a cluster lose them. Asked for absolute consistency it refuses the harmless case too: a crash leaves the zeros
//! of preallocated space behind the last record. So it runs in the tolerant mode, and [`judge`] decides, before the
//! cut, what is being cut.
//!
//! What a crash can leave behind follows from how this crate writes: one record at a time, each synced before the next
//! is written, into space that reads as zeros. Hence at most one record is incomplete, nothing is behind it, and what
//! is missing of it is whole disk sectors of zeros, or the end of the file. Everything else is damage to bytes
//! that were once synced.
//!
//! What cannot be told apart: a last record that holds a whole sector of zeros of its own (entries over 8 KiB are
//! compressed and hold none) and lost a bit is taken for torn, and so is a last record that vanished entirely. The
//! commit index in earlier records and the leader's view of this node ([`crate::Error::LogLost`]) catch most of these.

/// Bytes of raft-engine's file header: a magic of 53 bytes, version and alignment of 8 each.
pub(crate) const FILE_HEADER_BYTES: usize = 53 + 16;
/// Bytes of a record's header: length and compression, then the offset of the footer; both big-endian.
const HEADER_BYTES: usize = 16;
/// Bytes of a checksum, little-endian CRC-32.
const CHECKSUM_BYTES: usize = 4;
/// Disks write this many bytes at once or not at all.
const SECTOR_BYTES: usize = 512;
/// Work limit of the search for a later record, in bytes checksummed. Beyond it the answer is "damaged", which is safe.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// What lies behind the last readable record of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing, or preallocated space.
    Empty,
    /// One record whose write was cut off by a crash; it was never acknowledged.
    Torn,
    /// Bytes that were once whole.
    Damaged(&'static str),
}

/// Judges the bytes of a log file from `offset`, where the first unreadable record starts, to the file's end.
/// `sequence` is the file's number, which signs its records.
pub(crate) fn judge(sequence: u64, offset: usize, tail: &[u8]) -> Tail {
    let Some(last) = tail.iter().rposition(|&byte| byte != 0) else { return Tail::Empty };
    let written = last + 1;
    if offset < FILE_HEADER_BYTES {
        return judge_file_header(sequence, offset, tail, written);
    }
    if written <= HEADER_BYTES {
        // Not even a header, let alone the checksum behind it: no record was ever whole here.
        return Tail::Torn;
    }
    let Some(header) = Header::parse(tail) else {
        // Without a length nothing bounds the record, so look for a whole one behind.
        return if header_is_missing(offset, tail) && !holds_record(sequence, tail, 1) {
            Tail::Torn
        } else {
            Tail::Damaged("a record's header is unreadable")
        };
    };
    if written > header.length {
        return Tail::Damaged("a record is unreadable, and more was written behind it");
    }
    if ends_elsewhere(sequence, &tail[..tail.len().min(written + CHECKSUM_BYTES)], &header) {
        return Tail::Damaged("a record's length is wrong");
    }
    if header.length > tail.len() {
        return if holds_record(sequence, tail, 1) {
            Tail::Damaged("a record's length is wrong, and more was written behind it")
        } else {
            Tail::Torn
        };
    }
    // A whole record ends in a checksum, and one that happens to be zero is one in four billion.
    let record = &tail[..header.length];
    let unfinished = is_zero(&record[header.length - CHECKSUM_BYTES..]);
    if unfinished || sectors(offset, record).any(is_zero) {
        Tail::Torn
    } else {
        Tail::Damaged("a complete record has a wrong checksum")
    }
}

/// A file whose own header is unreadable: new and never synced, or damaged.
fn judge_file_header(sequence: u64, offset: usize, tail: &[u8], written: usize) -> Tail {
    let header = &tail[..tail.len().min(FILE_HEADER_BYTES - offset)];
    let short = tail.len() < FILE_HEADER_BYTES && written == tail.len();
    if (short || is_zero(header)) && !holds_record(sequence, tail, 0) {
        Tail::Torn
    } else {
        Tail::Damaged("a file's header is unreadable")
    }
}

/// Whether a sector that holds a part of the record's header was never written.
fn header_is_missing(offset: usize, tail: &[u8]) -> bool {
    tail.len() < HEADER_BYTES || sectors(offset, &tail[..HEADER_BYTES]).any(is_zero)
}

struct Header {
    length: usize,
    footer: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<8>();
        let [first, second, ..] = words else { return None };
        let first = u64::from_be_bytes(*first);
        // The low byte is the compression: none or LZ4.
        if first & 0xff > 1 {
            return None;
        }
        let length = usize::try_from(first >> 8).ok()?;
        let footer = usize::try_from(u64::from_be_bytes(*second)).ok()?;
        // Of bytes that are no header at all both can be anything.
        let fits = footer >= HEADER_BYTES && footer < length.saturating_sub(CHECKSUM_BYTES);
        fits.then_some(Self { length, footer })
    }
}

/// Whether a whole record starts anywhere in `tail` at or behind `from`.
fn holds_record(sequence: u64, tail: &[u8], from: usize) -> bool {
    let mut budget = SEARCH_BYTES_MAX;
    for start in from..tail.len().saturating_sub(HEADER_BYTES) {
        let rest = &tail[start..];
        let Some(header) = Header::parse(rest).filter(|header| header.length <= rest.len()) else { continue };
        let cost = header.length - header.footer;
        if cost > budget {
            return true;
        }
        budget -= cost;
        if footer_fits(sequence, &rest[..header.length], header.footer) {
            return true;
        }
    }
    false
}

/// Whether the footer's checksum fits at another end than the header says: then the header's length is what is wrong.
fn ends_elsewhere(sequence: u64, tail: &[u8], header: &Header) -> bool {
    let Some(footer) = tail.get(header.footer..) else { return false };
    let mut crc = crc32fast::Hasher::new();
    for (at, checksum) in footer.windows(CHECKSUM_BYTES).enumerate() {
        let checksum = checksum.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        let ends_here = crc.clone().finalize() == checksum ^ (sequence as u32);
        if at > 0 && ends_here && header.footer + at + CHECKSUM_BYTES != header.length {
            return true;
        }
        crc.update(&footer[at..=at]);
    }
    false
}

/// Whether the footer of a record, which lists its entries and ends the record, has the right checksum.
fn footer_fits(sequence: u64, record: &[u8], footer: usize) -> bool {
    let Some(footer) = record.get(footer..) else { return false };
    let Some((content, checksum)) = footer.split_last_chunk::<CHECKSUM_BYTES>() else { return false };
    // raft-engine signs with the low half of the file's number.
    !content.is_empty() && crc32fast::hash(content) == u32::from_le_bytes(*checksum) ^ (sequence as u32)
}

/// The parts of `bytes`, which start at `offset` of the file, that lie in one sector each.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    std::iter::once(head).chain(rest.chunks(SECTOR_BYTES))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: u64 = 3;
    const OFFSET: usize = FILE_HEADER_BYTES;

    /// A record as raft-engine writes it, with `entries` bytes of entries that hold no zero.
    fn record(entries: usize) -> Vec<u8> {
        let content = (0..entries).map(|at| (at % 255) as u8 + 1).collect::<Vec<_>>();
        let items = b"items of the footer";
        let footer = HEADER_BYTES + content.len();
        let length = footer + items.len() + CHECKSUM_BYTES;
        let mut bytes = ((length as u64) << 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(&(footer as u64).to_be_bytes());
        bytes.extend_from_slice(&content);
        bytes.extend_from_slice(items);
        bytes.extend_from_slice(&(crc32fast::hash(items) ^ SEQUENCE as u32).to_le_bytes());
        bytes
    }

    fn followed(mut bytes: Vec<u8>, more: &[u8]) -> Vec<u8> {
        bytes.extend_from_slice(more);
        bytes.extend_from_slice(&[0; 4096]);
        bytes
    }

    #[test]
    fn preallocated_space_is_empty() {
        assert_eq!(judge(SEQUENCE, OFFSET, &[]), Tail::Empty);
        assert_eq!(judge(SEQUENCE, OFFSET, &[0; 9000]), Tail::Empty);
        assert_eq!(judge(SEQUENCE, 0, &[0; 9000]), Tail::Empty);
    }

    #[test]
    fn every_way_to_lose_sectors_or_the_end_is_torn() {
        let whole = record(3000);
        for end in 1..whole.len() {
            // The first bytes of a length are zeros, which look like nothing.
            let expected = if whole[..end].iter().all(|&byte| byte == 0) { Tail::Empty } else { Tail::Torn };
            assert_eq!(judge(SEQUENCE, OFFSET, &whole[..end]), expected, "file ends at {end}");
        }
        let starts = [0].into_iter().chain((SECTOR_BYTES - OFFSET..whole.len()).step_by(SECTOR_BYTES));
        for start in starts {
            let mut torn = whole.clone();
            let end = if start == 0 { SECTOR_BYTES - OFFSET } else { (start + SECTOR_BYTES).min(whole.len()) };
            torn[start..end].fill(0);
            assert_eq!(judge(SEQUENCE, OFFSET, &followed(torn, &[])), Tail::Torn, "sector at {start} missing");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_whole_record_is_damage() {
        for whole in [record(100), record(3000)] {
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut damaged = whole.clone();
                    damaged[at] ^= 1 << bit;
                    // The last record of a cleanly closed file, one before preallocated space, one before another.
                    for bytes in [damaged.clone(), followed(damaged.clone(), &[]), followed(damaged, &record(40))] {
                        let verdict = judge(SEQUENCE, OFFSET, &bytes);
                        assert!(matches!(verdict, Tail::Damaged(_)), "byte {at} bit {bit}: {verdict:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_header_are_no_panic() {
        for word in [u64::MAX, u64::MAX - 3, 1 << 63, 0xff00, 0x1_ffff] {
            let mut bytes = vec![0; 600];
            bytes[..8].copy_from_slice(&(word & !0xff).to_be_bytes());
            for footer in [u64::MAX, u64::MAX - 3, 17] {
                bytes[8..16].copy_from_slice(&footer.to_be_bytes());
                bytes[599] = 1;
                assert_ne!(judge(SEQUENCE, OFFSET, &bytes), Tail::Empty);
            }
        }
    }

    #[test]
    fn a_whole_record_behind_a_missing_one_is_damage() {
        let mut bytes = record(700);
        bytes.fill(0);
        assert!(matches!(judge(SEQUENCE, OFFSET, &followed(bytes, &record(40))), Tail::Damaged(_)));
    }

    #[test]
    fn a_damaged_file_header_is_not_a_new_file() {
        let mut file = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5".to_vec();
        assert_eq!(judge(SEQUENCE, 0, &file[..20]), Tail::Torn);
        file.extend_from_slice(&[0; 16]);
        assert_eq!(file.len(), FILE_HEADER_BYTES);
        assert!(matches!(judge(SEQUENCE, 0, &file), Tail::Damaged(_)));
        file.fill(0);
        file.extend_from_slice(&record(10));
        assert!(matches!(judge(SEQUENCE, 0, &file), Tail::Damaged(_)));
    }
}
