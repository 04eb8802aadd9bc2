//! A real file system that notes writes and syncs, and can show at each sync what a power cut would leave.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};

/// What happened, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Write,
    Sync,
    /// A message left; its raft type.
    Sent(u8),
    Committed(u64),
}

/// A write that was not synced yet, with what it covered.
#[derive(Debug, Clone)]
pub struct Pending {
    pub path: PathBuf,
    pub offset: usize,
    pub old: Vec<u8>,
}

pub type BeforeSync = Box<dyn Fn(&Path, &[Pending]) + Send + Sync>;

#[derive(Default)]
pub struct Record {
    /// Whether syncs are only noted: what a power cut leaves is made up here anyway, and a busy disk takes its time.
    pub careless: bool,
    pub events: Vec<Event>,
    pub pending: Vec<Pending>,
    /// Called before each sync with what a power cut could undo.
    pub before_sync: Option<BeforeSync>,
}

/// A real file system that notes writes and syncs.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    /// One that syncs nothing.
    pub fn careless() -> Self {
        let recorder = Self::default();
        recorder.lock().careless = true;
        recorder
    }

    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, event: Event) {
        self.lock().events.push(event);
    }
}

pub struct File {
    path: PathBuf,
    inner: Arc<<DefaultFileSystem as FileSystem>::Handle>,
    recorder: Recorder,
}

impl Handle for File {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.inner.truncate(offset)
    }
    fn file_size(&self) -> io::Result<usize> {
        self.inner.file_size()
    }
    fn sync(&self) -> io::Result<()> {
        let mut record = self.recorder.lock();
        if let Some(check) = &record.before_sync {
            let folder = self.path.parent().unwrap();
            // In a thread of its own: raft-engine keeps its counters of the write under way in this one.
            std::thread::scope(|scope| {
                let check = scope.spawn(|| check(folder, &record.pending));
                check.join().unwrap();
            });
        }
        if !record.careless {
            self.inner.sync()?;
        }
        record.pending.retain(|pending| pending.path != self.path);
        record.events.push(Event::Sync);
        Ok(())
    }
}

pub struct Writer {
    file: Arc<File>,
    inner: <DefaultFileSystem as FileSystem>::Writer,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let offset = self.inner.stream_position()? as usize;
        let mut reader = DefaultFileSystem.new_reader(self.file.inner.clone())?;
        reader.seek(SeekFrom::Start(offset as u64))?;
        let mut old = vec![0; bytes.len()];
        let read = reader.read(&mut old)?;
        old[read..].fill(0);
        let written = self.inner.write(bytes)?;
        let mut record = self.file.recorder.lock();
        record.pending.push(Pending { path: self.file.path.clone(), offset, old });
        record.events.push(Event::Write);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for Writer {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl WriteExt for Writer {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.inner.truncate(offset)
    }
    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.inner.allocate(offset, size)
    }
}

impl FileSystem for Recorder {
    type Handle = File;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let inner = Arc::new(DefaultFileSystem.create(path.as_ref())?);
        Ok(File { path: path.as_ref().to_owned(), inner, recorder: self.clone() })
    }
    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<File> {
        let inner = Arc::new(DefaultFileSystem.open(path.as_ref(), permission)?);
        Ok(File { path: path.as_ref().to_owned(), inner, recorder: self.clone() })
    }
    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        DefaultFileSystem.delete(path)
    }
    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        DefaultFileSystem.rename(from, to)
    }
    fn new_reader(&self, handle: Arc<File>) -> io::Result<Self::Reader> {
        DefaultFileSystem.new_reader(handle.inner.clone())
    }
    fn new_writer(&self, handle: Arc<File>) -> io::Result<Writer> {
        Ok(Writer { inner: DefaultFileSystem.new_writer(handle.inner.clone())?, file: handle })
    }
}

/// Bytes without a pattern, so that they neither compress nor hold a sector of zeros.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8 | 1
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

pub fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Cuts the power before a sync, several times over: of what is not synced, sectors survive at random, all or none. Each
/// time `check` gets a folder with what is left.
pub fn cut_power_of(folder: &Path, pending: &[Pending], seed: u64, check: impl Fn(&Path)) {
    const SECTOR: usize = 512;
    let after = folder.with_file_name("after");
    for round in 0..6_u64 {
        copy(folder, &after);
        let lost = noise(seed.wrapping_mul(100) + round, 4096);
        for (at, write) in pending.iter().enumerate() {
            let mut file =
                fs::OpenOptions::new().write(true).open(after.join(write.path.file_name().unwrap())).unwrap();
            let mut from = 0;
            while from < write.old.len() {
                let sector = (write.offset + from) / SECTOR;
                let to = ((sector + 1) * SECTOR - write.offset).min(write.old.len());
                let survives = match round {
                    0 => false,
                    1 => true,
                    _ => lost[(at + sector) % lost.len()] & 2 == 0,
                };
                if !survives {
                    file.seek(SeekFrom::Start((write.offset + from) as u64)).unwrap();
                    file.write_all(&write.old[from..to]).unwrap();
                }
                from = to;
            }
        }
        check(&after);
    }
}
