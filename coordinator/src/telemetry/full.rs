//! The folders whose disk is full, beside the log's: each of them waits until there is room, and people are to be told of it.

use crate::{files::FilesError, replica::NoSpace};
use prometheus::{IntGaugeVec, Opts};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The folders, by name.
#[derive(Debug, Clone)]
pub(crate) struct FullDisks {
    lacks: Arc<Mutex<BTreeMap<&'static str, NoSpace>>>,
    shown: IntGaugeVec,
}

impl FullDisks {
    /// None is full; `matrixai_folder_full` tells of those that were.
    ///
    /// # Errors
    /// When the name of the figure is none.
    pub(super) fn new() -> prometheus::Result<Self> {
        let opts = Opts::new("matrixai_folder_full", "1 while a write to this folder waits for room on its disk");
        Ok(Self { lacks: Arc::default(), shown: IntGaugeVec::new(opts, &["folder"])? })
    }

    pub(super) fn figure(&self) -> IntGaugeVec {
        self.shown.clone()
    }

    /// What a write said: whether it lacks room. Another error of it says nothing of that.
    pub(crate) fn told<T>(&self, folder: &'static str, written: Result<T, &FilesError>) {
        match written {
            Ok(_) => {
                if self.lacks().remove(folder).is_some() {
                    self.shown.with_label_values(&[folder]).set(0);
                }
            }
            Err(FilesError::NoSpace { path, needed }) => {
                self.lacks().insert(folder, NoSpace { path: path.clone(), needed: *needed });
                self.shown.with_label_values(&[folder]).set(1);
            }
            Err(FilesError::Missing { .. } | FilesError::Io { .. }) => {}
        }
    }

    /// What lacks room now.
    pub(crate) fn all(&self) -> Vec<NoSpace> {
        self.lacks().values().cloned().collect()
    }

    fn lacks(&self) -> MutexGuard<'_, BTreeMap<&'static str, NoSpace>> {
        self.lacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
