//! What a part of the state must be able to do so that nothing forgets it: have a root, and go through a snapshot page by
//! page.

use crate::{ids::Hash, index::HashKey};
use serde::{Serialize, de::DeserializeOwned};

/// Why a page is none that this part could have written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadPage(pub(crate) String);

impl BadPage {
    pub(crate) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl From<postcard::Error> for BadPage {
    fn from(error: postcard::Error) -> Self {
        Self(error.to_string())
    }
}

/// Where a walk over pages goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) group: usize,
    pub(crate) page: usize,
}

/// A table, by whatever structure.
pub(crate) trait Part {
    /// Without rows. Indexes are keyed.
    fn empty(hash_key: HashKey) -> Self;
    /// The hash over all pages.
    fn root(&self) -> Hash;
    /// Appends the encoding of the page at the cursor and moves the cursor on; `false` after the last page.
    fn write_page(&self, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool;
    /// Adds the next page.
    ///
    /// # Errors
    /// When this part could not have written it.
    fn read_page(&mut self, bytes: &[u8]) -> Result<(), BadPage>;
}

/// Appends the encoding of plain data.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let bytes = std::mem::take(out);
    *out = postcard::to_extend(value, bytes).expect("rows are plain data, which postcard always encodes");
}

/// Reads plain data that fills the bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadPage> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(BadPage::new("bytes are left over")),
    }
}
