//! Files of Unix sockets (unix(7)): made with their mode, replaced if no socket is behind them, and removed if still our own.
//! Every step names a file in an open directory, and a file is moved out of the way and looked at before it is removed.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, Type};

/// The most bytes of a path in the address of a socket: `sun_path` holds one more, which ends it (unix(7)).
const MAX_PATH: usize = 107;

/// Address of a path, for bind(2), connect(2) and sendto(2).
#[derive(Debug)]
pub struct PathAddress {
    /// The address.
    pub address: SockAddr,
    /// Directory of a path that is too long, which the address names by its descriptor (proc(5)).
    _directory: Option<OwnedFd>,
}

impl PathAddress {
    /// Makes the address of `path`, or of the abstract name after its zero byte.
    ///
    /// Errors: its directory does not exist, or its last part alone is too long.
    pub fn new(path: &Path) -> io::Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() <= MAX_PATH || bytes[0] == 0 {
            return Ok(Self {
                address: SockAddr::unix(path)?,
                _directory: None,
            });
        }
        let (directory, name) = open_parent(path)?;
        let start = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let room = MAX_PATH - start.len() - 1;
        if name.len() > room {
            let text =
                format!("a path of more than {MAX_PATH} bytes ends in a name of at most {room}");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        Ok(Self {
            address: SockAddr::unix(Path::new(&start).join(name))?,
            _directory: Some(directory),
        })
    }
}

/// The file of a bound socket, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    directory: OwnedFd,
    name: OsString,
    identity: Identity,
}

/// Device and inode of a file.
type Identity = (u64, u64);

impl SocketFile {
    /// Binds a socket to a new file at `path` with the permissions `mode`: bind(2). Returns true as well if it has replaced the file
    /// of a socket that is no more.
    ///
    /// Errors: `AddrInUse` for a file of another kind, or of a socket that is there.
    pub fn bind(socket: &Socket, path: &Path, mode: u32) -> io::Result<(Self, bool)> {
        let (directory, name) = open_parent(path)?;
        let address = PathAddress::new(path)?;
        // The mode of the file is that of the socket, without the bits of the mask (`unix_bind_bsd`, net/unix/af_unix.c).
        rustix::fs::fchmod(socket, Mode::from_raw_mode(mode))?;
        let bind = || {
            let mask = umask(Mode::empty());
            let bound = socket.bind(&address.address);
            umask(mask);
            bound
        };
        let mut was_stale = false;
        if let Err(error) = bind() {
            if error.kind() != ErrorKind::AddrInUse {
                return Err(error);
            }
            let stale = stale_file(&directory, &name, &address)?;
            remove(&directory, &name, stale)?;
            was_stale = true;
            bind()?;
        }
        let identity = identify(&directory, &name)?.0;
        let file = Self {
            directory,
            name,
            identity,
        };
        Ok((file, was_stale))
    }

    /// Returns the folder of the file, in which it is renamed and removed.
    pub fn folder(&self) -> Option<OwnedFd> {
        self.directory.try_clone().ok()
    }
}

impl Drop for SocketFile {
    /// Removes the file, unless another one has its name now.
    fn drop(&mut self) {
        let found = identify(&self.directory, &self.name);
        if found.is_ok_and(|(found, _)| found == self.identity) {
            // What cannot be removed stays, and is found to be stale later.
            let _ = remove(&self.directory, &self.name, self.identity);
        }
    }
}

/// Opens the directory of a path, and returns it with the name in it.
fn open_parent(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let Some(name) = path.file_name() else {
        let text = "expected the path of a socket, not of a directory";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    };
    let mut parent = path.parent().map(PathBuf::from).unwrap_or_default();
    if parent.as_os_str().is_empty() {
        parent.push(".");
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    Ok((directory, name.to_owned()))
}

/// Returns the identity of a file and its type. A symbolic link is a file of its own.
fn identify(directory: &OwnedFd, name: &OsStr) -> io::Result<(Identity, FileType)> {
    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    Ok(((found.st_dev, found.st_ino), kind))
}

/// Returns the identity of a socket's file if no socket is behind it.
///
/// A datagram socket asks, which sends nothing to whom it is connected, and which no listening socket accepts.
fn stale_file(directory: &OwnedFd, name: &OsStr, at: &PathAddress) -> io::Result<Identity> {
    let in_use = |text| Err(io::Error::new(ErrorKind::AddrInUse, text));
    let (identity, kind) = identify(directory, name)?;
    if kind != FileType::Socket {
        return in_use("it exists, and is not a socket");
    }
    let probe = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    match probe.connect(&at.address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(identity),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            in_use("it exists, and belongs to another user")
        }
        _ => in_use("another process has a socket there"),
    }
}

/// Removes the file with this identity. A file that has taken its name meanwhile gets the name back.
fn remove(directory: &OwnedFd, name: &OsStr, identity: Identity) -> io::Result<()> {
    let random = RandomState::new().hash_one(std::process::id());
    let aside = OsString::from(format!(".{random:016x}"));
    let rename = |from: &OsStr, to: &OsStr| {
        rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE)
    };
    match rename(name, &aside) {
        // A file system without this kind of renaming.
        Err(Errno::INVAL) => {
            return Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?);
        }
        renamed => renamed?,
    }
    if identify(directory, &aside)?.0 == identity {
        return Ok(rustix::fs::unlinkat(directory, aside, AtFlags::empty())?);
    }
    rename(&aside, name)?;
    let text = "another process has taken it at the same time";
    Err(io::Error::new(ErrorKind::AddrInUse, text))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn socket() -> Socket {
        Socket::new(Domain::UNIX, Type::STREAM, None).unwrap()
    }

    fn bind(path: &Path) -> io::Result<(Socket, SocketFile, bool)> {
        let socket = socket();
        let (file, was_stale) = SocketFile::bind(&socket, path, 0o600)?;
        Ok((socket, file, was_stale))
    }

    #[test]
    fn a_file_has_its_mode_and_is_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for mode in [0o600, 0o666, 0o777] {
            let socket = socket();
            let (file, was_stale) = SocketFile::bind(&socket, &path, mode).unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o777, mode);
            assert!(!was_stale);
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn only_the_file_of_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let (live, file, was_stale) = bind(&path).unwrap();
        assert!(was_stale);
        // It is bound, and does not listen yet.
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        live.listen(1).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(live.set_nonblocking(true).is_ok() && live.accept().is_err());
        drop((live, file));

        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        datagrams.set_nonblocking(true).unwrap();
        assert!(datagrams.recv(&mut [0]).is_err());
    }

    #[test]
    fn other_files_and_links_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join("dead");
        drop(UnixListener::bind(&dead).unwrap());
        for (name, make) in [
            (
                "file",
                &(|path: &Path| fs::write(path, "x")) as &dyn Fn(&Path) -> io::Result<()>,
            ),
            ("directory", &|path| fs::create_dir(path)),
            ("link", &|path| symlink(&dead, path)),
            ("dangling", &|path| symlink("/nowhere", path)),
        ] {
            let path = folder.path().join(name);
            make(&path).unwrap();
            let before = path.symlink_metadata().unwrap();
            assert_eq!(
                bind(&path).unwrap_err().kind(),
                ErrorKind::AddrInUse,
                "{name}"
            );
            assert_eq!(path.symlink_metadata().unwrap().ino(), before.ino());
        }
        assert!(dead.symlink_metadata().unwrap().file_type().is_socket());
    }

    #[test]
    fn the_file_of_another_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (_socket, file, _) = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
        let identity = other.local_addr().unwrap();
        assert_eq!(identity.as_pathname(), Some(path.as_path()));
        // A file that comes between the look and the removal gets its name back.
        let (directory, name) = open_parent(&path).unwrap();
        let (found, _) = identify(&directory, &name).unwrap();
        assert!(remove(&directory, &name, (0, 0)).is_err());
        assert_eq!(identify(&directory, &name).unwrap().0, found);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_long_path_goes_by_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(200));
        fs::create_dir(&deep).unwrap();
        let (socket, file, _) = bind(&deep.join("socket")).unwrap();
        socket.listen(1).unwrap();
        let client = super::tests::socket();
        let address = PathAddress::new(&deep.join("socket")).unwrap();
        client.connect(&address.address).unwrap();
        drop(file);
        assert_eq!(deep.read_dir().unwrap().count(), 0);
        let error = bind(&deep.join("n".repeat(100))).unwrap_err().to_string();
        assert!(
            error.starts_with("a path of more than 107 bytes ends in a name"),
            "{error}"
        );
    }
}
