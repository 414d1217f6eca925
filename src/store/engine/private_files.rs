//! Files that only their owner reads, whatever the umask: the database holds the key of references and its buyers'
//! names.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use uuid::Uuid;

const FILE: u32 = 0o600;
const FOLDER: u32 = 0o700;
/// The permission bits of everybody else on the machine.
const OTHERS: u32 = 0o007;

/// Makes a folder and the missing ones above it, each for its owner alone.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(FOLDER).create(folder) {
        Ok(()) => set_permissions(folder, Permissions::from_mode(FOLDER)),
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a file that must not exist, not even as a link that leads nowhere.
pub(crate) fn make_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE))?;
    Ok(file)
}

/// Opens a file for writing, made if it is missing, of whoever owns its folder.
pub(crate) fn open_or_make(path: &Path) -> io::Result<File> {
    match make_new(path) {
        Ok(file) => {
            belongs_as(path, path.parent().filter(|it| !it.as_os_str().is_empty()));
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).write(true).open(path)
        }
        Err(error) => Err(error),
    }
}

/// Takes a file from everybody else where it was made readable to them by a umask. A group that was let in stays.
pub(crate) fn shut_out_others(path: &Path) -> io::Result<()> {
    let mode = path.metadata()?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    set_permissions(path, Permissions::from_mode(FILE))
}

/// Gives a file to the owner of another one, where we may: what root puts back is the daemon's.
pub(crate) fn belongs_as(path: &Path, other: Option<&Path>) {
    let Some(of) = other.and_then(|other| other.metadata().ok()) else { return };
    if let Err(error) = std::os::unix::fs::chown(path, Some(of.uid()), Some(of.gid())) {
        tracing::debug!(path = %path.display(), %error, "the owner could not be set");
    }
}

/// A new file beside the place that it is for, removed again unless it gets there.
pub(crate) struct Draft {
    path: PathBuf,
    placed: bool,
}

impl Draft {
    pub(crate) fn beside(place: &Path) -> io::Result<Self> {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let path = place.with_file_name(format!(".{name}.{}.part", Uuid::new_v4().simple()));
        make_new(&path)?;
        Ok(Self { path, placed: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to a place where nothing is yet; whoever was quicker keeps what is theirs.
    pub(crate) fn place_new(mut self, place: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        match std::fs::hard_link(&self.path, place) {
            Ok(()) => std::fs::remove_file(&self.path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // Not every file system has links.
            Err(_) if place.symlink_metadata().is_err() => std::fs::rename(&self.path, place)?,
            Err(error) => return Err(error),
        }
        self.placed = true;
        sync_folder_of(place)
    }

    /// Moves it over what is there.
    pub(crate) fn place_over(mut self, place: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        std::fs::rename(&self.path, place)?;
        self.placed = true;
        sync_folder_of(place)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        for suffix in ["", "-journal", "-wal", "-shm"] {
            // What is not there need not go.
            drop(std::fs::remove_file(with_suffix(&self.path, suffix)));
        }
    }
}

/// Adds a suffix to a name, as SQLite names what belongs to a database.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Has a folder's names on disk.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folders_and_files_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        make_folder(&deep).unwrap();
        for made in ["a", "a/b"] {
            assert_eq!(mode(&folder.path().join(made)), 0o700, "{made}");
        }
        // One that is there already is somebody's, who said for whom it is.
        set_permissions(&deep, Permissions::from_mode(0o750)).unwrap();
        make_folder(&deep).unwrap();
        assert_eq!(mode(&deep), 0o750);

        let file = deep.join("marketd.db");
        drop(make_new(&file).unwrap());
        assert_eq!(mode(&file), 0o600);
        assert_eq!(make_new(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        for (held, kept) in [(0o644, 0o600), (0o604, 0o600), (0o640, 0o640), (0o600, 0o600)] {
            set_permissions(&file, Permissions::from_mode(held)).unwrap();
            shut_out_others(&file).unwrap();
            assert_eq!(mode(&file), kept, "{held:o}");
        }
    }
}
