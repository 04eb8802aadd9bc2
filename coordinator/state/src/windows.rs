//! Idempotency: an envelope is applied once. Its outcomes are remembered until it expires, so that whoever lost the
//! answer asks again and gets the first one; after that its expiry refuses it.
//!
//! Envelopes are kept in the order in which they were applied, in pages that views share; an envelope's place in this
//! order is found by one look into the index. What expires when, and how many a signer has, follows from the rows: it is
//! made anew for a copy that goes on applying, and a view that is only read never makes it. Signers are named by the place
//! of their key: a stranger, who has none, is not remembered, since nothing of what it sent happened.

use crate::{
    ids::{CommandId, Hash},
    index::{HashKey, Index},
    outcome::Outcome,
    part::{self, BadPage, Cursor, Part},
    registry::Place,
};
use matrixai_protocol::{sha256, training::merkle_root};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    hint::black_box,
    sync::{Arc, LazyLock, OnceLock},
};

/// Unexpired envelopes of one key.
pub const WINDOW_ENVELOPES_MAX: u32 = 65_536;
/// Envelopes forgotten in one entry. An entry of 1 MiB cannot hold as many, so forgetting keeps up with remembering.
const FORGOTTEN_PER_ENTRY_MAX: usize = 8_192;
/// Of these, those whose places in the index are fetched together.
const FORGOTTEN_TOGETHER: usize = 32;
/// Envelopes of a page.
const PAGE: usize = 64;
/// Pages of a group: a view copies one pointer a group.
const GROUP: usize = 64;
const GROUP_ROWS: u64 = (GROUP * PAGE) as u64;
/// Up to so many rows the invariants are checked after every entry.
const CHECKED_ALWAYS: u64 = 256;
/// Envelopes are forgotten by the second, ms: up to one second later than they expire.
const BUCKET_MS: u64 = 1_000;

/// What is remembered of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// Place of the signer's key.
    pub(crate) signer: Place,
    pub(crate) id: CommandId,
    pub(crate) expires_ms: u64,
    /// First half of the payload's SHA-256: the same id for other contents is an error of the caller.
    pub(crate) payload: [u8; 16],
    /// Index of the entry that applied it.
    pub(crate) index: u64,
    pub(crate) outcomes: Kept,
}

/// Outcomes, small: nearly always all commands were done and made nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kept {
    /// As many, all [`Outcome::DONE`].
    AllDone(u32),
    /// Runs of equal outcomes in postcard: never much longer than the commands were.
    Runs(Box<[u8]>),
}

/// One command, done: what most envelopes have. Shared by all of them.
static ONE_DONE: LazyLock<Arc<[Outcome]>> = LazyLock::new(|| Arc::from([Outcome::DONE]));

/// Takes outcomes to be shared; a single [`Outcome::DONE`] is always the same one.
pub(crate) fn shared(outcomes: &mut Vec<Outcome>) -> Arc<[Outcome]> {
    if outcomes[..] == [Outcome::DONE] { Arc::clone(&ONE_DONE) } else { outcomes.drain(..).collect() }
}

/// What tells one payload from another.
pub(crate) fn digest(payload: &[u8]) -> [u8; 16] {
    let hash = sha256(&[payload]);
    hash.first_chunk().copied().unwrap_or_default()
}

impl Kept {
    pub(crate) fn of(outcomes: &[Outcome]) -> Self {
        if outcomes.iter().all(|outcome| *outcome == Outcome::DONE) {
            // An envelope has at most 8,192 commands.
            return Kept::AllDone(u32::try_from(outcomes.len()).unwrap_or(u32::MAX));
        }
        let mut runs: Vec<(u32, &Outcome)> = Vec::new();
        for outcome in outcomes {
            match runs.last_mut() {
                Some((count, last)) if *last == outcome => *count = count.saturating_add(1),
                _ => runs.push((1, outcome)),
            }
        }
        let mut bytes = Vec::new();
        part::encode(&runs, &mut bytes);
        Kept::Runs(bytes.into())
    }

    /// The outcomes, refusals without their details.
    pub(crate) fn outcomes(&self) -> Arc<[Outcome]> {
        match self {
            Kept::AllDone(1) => Arc::clone(&ONE_DONE),
            Kept::AllDone(count) => (0..*count).map(|_| Outcome::DONE).collect(),
            Kept::Runs(bytes) => {
                let runs: Vec<(u32, Outcome)> =
                    postcard::from_bytes(bytes).expect("a page's runs are checked as it is read");
                let all = runs.into_iter().flat_map(|(count, outcome)| std::iter::repeat_n(outcome, count as usize));
                all.collect()
            }
        }
    }

    fn sound(&self) -> bool {
        match self {
            Kept::AllDone(_) => true,
            Kept::Runs(bytes) => part::decode::<Vec<(u32, Outcome)>>(bytes).is_ok(),
        }
    }
}

/// The remembered envelopes.
pub(crate) struct Windows {
    /// Groups of pages in the order of their envelopes' numbers, which count all ever remembered. All groups and pages are
    /// full but the last; of a page whose envelopes are all forgotten the rows are gone, a group of such pages is dropped
    /// when it comes first, unless it is the last, which tells where numbers go on.
    groups: VecDeque<Arc<Vec<Arc<Page>>>>,
    /// Number of the first group's first envelope, a multiple of [`GROUP_ROWS`].
    base: u64,
    /// Number of the next envelope.
    next: u64,
    hash_key: HashKey,
    derived: OnceLock<Derived>,
}

#[derive(Debug, Clone, Default)]
struct Page {
    /// Empty as soon as a row may have changed.
    hash: OnceLock<Hash>,
    /// By number; none where an envelope was forgotten.
    rows: Vec<Option<Remembered>>,
    /// Rows that are not forgotten.
    live: usize,
}

/// What follows from the rows.
#[derive(Debug, Default)]
struct Derived {
    /// From the hash of signer and id to the lower half of the number: as many are never remembered at once.
    index: Index,
    /// Envelopes by the place of their signer's key.
    counts: Vec<u32>,
    /// Numbers by the second of their expiry, ascending.
    due: BTreeMap<u64, VecDeque<u64>>,
    len: u64,
}

impl Windows {
    /// The envelope of a signer and an id.
    pub(crate) fn get(&self, signer: Place, id: &CommandId) -> Option<&Remembered> {
        let is = |low: u32| self.low(low).is_some_and(|row| row.signer == signer && row.id == *id);
        let low = self.derived().index.find(hash(self.hash_key, signer, id), is)?;
        self.low(low)
    }

    /// Fetches the beginning of the search; see [`Index::touch`].
    pub(crate) fn touch(&self, signer: Place, id: &CommandId) -> u64 {
        self.derived().index.touch(hash(self.hash_key, signer, id)) ^ u64::from(self.count(signer))
    }

    /// Unexpired envelopes of a signer.
    pub(crate) fn count(&self, signer: Place) -> u32 {
        self.derived().counts.get(signer as usize).copied().unwrap_or(0)
    }

    /// Remembers an applied envelope.
    pub(crate) fn remember(&mut self, row: Remembered) {
        let (hash_key, number) = (self.hash_key, self.next);
        self.derived_mut().add(hash_key, number, &row);
        let (_, in_group, in_page) = self.position(number);
        if (in_group, in_page) == (0, 0) {
            self.groups.push_back(Arc::new(Vec::with_capacity(GROUP)));
        }
        let group = Arc::make_mut(self.groups.back_mut().expect("there is a group now"));
        if in_page == 0 {
            group.push(Arc::new(Page { rows: Vec::with_capacity(PAGE), ..Page::default() }));
        }
        let page = Arc::make_mut(group.last_mut().expect("there is a page now"));
        page.hash = OnceLock::new();
        page.live = page.live.saturating_add(1);
        page.rows.push(Some(row));
        self.next = number.saturating_add(1);
    }

    /// Forgets envelopes whose second of expiry has passed, a bounded number; they are refused as expired from now on.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let mut left = FORGOTTEN_PER_ENTRY_MAX;
        let mut some = Vec::with_capacity(FORGOTTEN_TOGETHER);
        while left > 0 {
            let Some(mut due) = self.derived_mut().due.first_entry() else { return };
            // An envelope is good up to and including its expiry.
            if due.key().saturating_add(1).saturating_mul(BUCKET_MS) > now_ms {
                return;
            }
            let count = due.get().len().min(FORGOTTEN_TOGETHER).min(left);
            some.extend(due.get_mut().drain(..count));
            if due.get().is_empty() {
                due.remove();
            }
            left = left.saturating_sub(count);
            // Their entries in the index are anywhere in memory: fetch them all before any is waited for.
            let rows = some.iter().filter_map(|number| self.low(*number as u32));
            black_box(rows.fold(0, |seen, row| seen ^ self.touch(row.signer, &row.id)));
            some.drain(..).for_each(|number| self.forget(number));
        }
    }

    fn forget(&mut self, number: u64) {
        let (in_groups, in_group, in_page) = self.position(number);
        let group = Arc::make_mut(self.groups.get_mut(in_groups).expect("what is due is in a group"));
        let page = Arc::make_mut(group.get_mut(in_group).expect("what is due is in a page"));
        page.hash = OnceLock::new();
        page.live = page.live.saturating_sub(1);
        let row = page.rows.get_mut(in_page).and_then(Option::take).expect("what is due is remembered");
        if page.live == 0 && page.rows.len() == PAGE {
            page.rows = Vec::new();
            let over = |group: &Arc<Vec<Arc<Page>>>| {
                group.len() == GROUP && group.iter().all(|page| page.live == 0 && page.rows.is_empty())
            };
            while self.groups.len() > 1 && self.groups.front().is_some_and(over) {
                self.groups.pop_front();
                self.base = self.base.saturating_add(GROUP_ROWS);
            }
        }
        let hash = hash(self.hash_key, row.signer, &row.id);
        let derived = self.derived_mut();
        derived.index.remove(hash, number as u32);
        derived.len = derived.len.saturating_sub(1);
        if let Some(count) = derived.counts.get_mut(row.signer as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// All rows with their numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Remembered)> {
        self.pages().flat_map(|(first, page)| {
            (first..).zip(&page.rows).filter_map(|(number, row)| Some((number, row.as_ref()?)))
        })
    }

    /// All pages with the number of their first envelope.
    fn pages(&self) -> impl Iterator<Item = (u64, &Arc<Page>)> {
        (self.base..).step_by(PAGE).zip(self.groups.iter().flat_map(|group| group.iter()))
    }

    /// Where an envelope is: its group, its page there, its row there.
    const fn position(&self, number: u64) -> (usize, usize, usize) {
        let at = number.saturating_sub(self.base) as usize;
        (at / (GROUP * PAGE), at / PAGE % GROUP, at % PAGE)
    }

    /// The envelope of the lower half of a number.
    fn low(&self, low: u32) -> Option<&Remembered> {
        let number = self.base.wrapping_add(low.wrapping_sub(self.base as u32).into());
        let (in_groups, in_group, in_page) = self.position(number);
        self.groups.get(in_groups)?.get(in_group)?.rows.get(in_page)?.as_ref()
    }

    /// What follows from the rows does, and each row is found. That costs all rows: while there are many, only now and then.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.derived().len > CHECKED_ALWAYS && !self.next.is_multiple_of(CHECKED_ALWAYS) {
            return Ok(());
        }
        let made_anew = self.clone();
        let (anew, old) = (made_anew.derived(), self.derived());
        let counts = |derived: &Derived| -> Vec<(usize, u32)> {
            derived.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
        };
        if anew.len != old.len || anew.due != old.due || counts(anew) != counts(old) {
            return Err(format!("{} envelopes are remembered, {} counted", anew.len, old.len));
        }
        match self.iter().find(|(_, row)| self.get(row.signer, &row.id) != Some(row)) {
            Some((number, _)) => Err(format!("remembered envelope {number} is not found")),
            None => Ok(()),
        }
    }

    fn derived(&self) -> &Derived {
        self.derived.get_or_init(|| {
            let mut derived = Derived::default();
            self.iter().for_each(|(number, row)| derived.add(self.hash_key, number, row));
            derived
        })
    }

    fn derived_mut(&mut self) -> &mut Derived {
        self.derived();
        self.derived.get_mut().expect("it has just been made")
    }
}

impl Derived {
    fn add(&mut self, hash_key: HashKey, number: u64, row: &Remembered) {
        self.index.insert(hash(hash_key, row.signer, &row.id), number as u32);
        self.due.entry(row.expires_ms / BUCKET_MS).or_default().push_back(number);
        let signer = row.signer as usize;
        if self.counts.len() <= signer {
            self.counts.resize(signer.saturating_add(1), 0);
        }
        if let Some(count) = self.counts.get_mut(signer) {
            *count = count.saturating_add(1);
        }
        self.len = self.len.saturating_add(1);
    }
}

fn hash(key: HashKey, signer: Place, id: &CommandId) -> u64 {
    let mut bytes = [0; 20];
    bytes.iter_mut().zip(id.iter().copied().chain(signer.to_le_bytes())).for_each(|(to, from)| *to = from);
    key.hash(&bytes)
}

#[cfg(test)]
impl Windows {
    /// Whether the index has been found, or the next envelope would have to.
    pub(crate) fn is_indexed(&self) -> bool {
        self.derived.get().is_some()
    }
}

/// A view: pointers to pages, and none of what is needed to go on.
impl Clone for Windows {
    fn clone(&self) -> Self {
        let Self { groups, base, next, hash_key, derived: _ } = self;
        Self { groups: groups.clone(), base: *base, next: *next, hash_key: *hash_key, derived: OnceLock::new() }
    }
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").field("base", &self.base).field("next", &self.next).finish()
    }
}

impl Part for Windows {
    fn empty(hash_key: HashKey) -> Self {
        Self { groups: VecDeque::new(), base: 0, next: 0, hash_key, derived: OnceLock::new() }
    }

    fn root(&self) -> Hash {
        let leaves: Vec<Hash> = self.pages().map(|(first, page)| page.hash(first)).collect();
        merkle_root(&leaves)
    }

    fn write_page(&self, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
        let first = self.base.saturating_add((cursor.page as u64).saturating_mul(PAGE as u64));
        let (in_groups, in_group, _) = self.position(first);
        cursor.page = cursor.page.saturating_add(1);
        let page = self.groups.get(in_groups).and_then(|group| group.get(in_group));
        page.inspect(|page| page.encode(first, out)).is_some()
    }

    fn read_page(&mut self, bytes: &[u8]) -> Result<(), BadPage> {
        let (first, rows): (u64, Vec<Option<Remembered>>) = part::decode(bytes)?;
        if self.groups.is_empty() && first.is_multiple_of(GROUP_ROWS) {
            (self.base, self.next) = (first, first);
        }
        let live = rows.iter().flatten().count();
        let shaped = rows.len() <= PAGE && rows.iter().flatten().all(|row| row.outcomes.sound());
        // Only the last page is short, and only a page that was full is without rows.
        if first != self.next || !first.is_multiple_of(PAGE as u64) || !shaped || (live == 0 && rows.len() == PAGE) {
            return Err(BadPage::new("a page of remembered envelopes is out of place or misshapen"));
        }
        let length = if rows.is_empty() { PAGE } else { rows.len() };
        let (_, in_group, _) = self.position(first);
        if in_group == 0 {
            self.groups.push_back(Arc::new(Vec::with_capacity(GROUP)));
        }
        let group = Arc::make_mut(self.groups.back_mut().ok_or_else(|| BadPage::new("a page has no group"))?);
        group.push(Arc::new(Page { hash: OnceLock::new(), rows, live }));
        self.next = first.saturating_add(length as u64);
        Ok(())
    }
}

impl Page {
    fn encode(&self, first: u64, out: &mut Vec<u8>) {
        part::encode(&(first, &self.rows), out);
    }

    fn hash(&self, first: u64) -> Hash {
        *self.hash.get_or_init(|| {
            let mut bytes = vec![0];
            self.encode(first, &mut bytes);
            sha256(&[&bytes])
        })
    }
}
