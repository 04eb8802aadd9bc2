//! Small disks of their own for coordinators, so that one can be filled without harming the machine: ext4 in an image file
//! on the real disk, mounted through a loop device. Needs root and loop devices; where there are none, there is no
//! such fault, and the run says so.

use crate::{Result, doing};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Size of a disk; the image is sparse, and holds the log, its archive and snapshots of a long run.
const DISK_BYTES: u64 = 8 << 30;
/// Ballast is laid down in pieces of these sizes, MiB and then KiB, until not even the smallest fits.
const PIECES: [&str; 5] = ["256MiB", "16MiB", "1MiB", "64KiB", "4KiB"];
/// Pieces of one size, more than fit.
const PIECES_MAX: usize = 64;

/// A mounted disk; unmounted when it goes.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts a new one at `folder`, with its image beside it.
    ///
    /// # Errors
    /// When the system does not permit it.
    pub fn mount(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(doing("make a folder"))?;
        let image = folder.with_extension("img");
        let file = fs::File::create(&image).map_err(doing("make a disk's image"))?;
        file.set_len(DISK_BYTES).map_err(doing("make a disk's image"))?;
        call("mkfs.ext4", &["-q".as_ref(), "-m".as_ref(), "0".as_ref(), image.as_ref()])?;
        call("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), folder.as_ref()])?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Leaves no block free.
    ///
    /// # Errors
    /// When a file cannot even be named.
    pub fn fill(&self) -> Result<()> {
        let ballast = self.ballast();
        fs::create_dir_all(&ballast).map_err(doing("fill a disk"))?;
        for size in PIECES {
            for number in 0..PIECES_MAX {
                let piece = ballast.join(format!("{size}-{number}"));
                if call("fallocate", &["--length".as_ref(), size.as_ref(), piece.as_ref()]).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn free(&self) -> Result<()> {
        fs::remove_dir_all(self.ballast()).map_err(doing("make room on a disk"))
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A lazy unmount succeeds even if a process is just ending.
        let _ = call("umount", &["--lazy".as_ref(), self.folder.as_ref()]);
    }
}

fn call(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(doing(program))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
