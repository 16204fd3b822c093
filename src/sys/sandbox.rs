//! The sandbox (landlock(7)): once everything is open, a run gives up files, new TCP connections and sockets, and privileges.
//! It is best effort: a run goes on with as much of it as the kernel supports.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use libc::{c_int, c_long, c_uint};

/// Rights that this process keeps.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// The folder in which files may be created.
    pub folder: Option<Rc<OwnedFd>>,
}

/// `struct landlock_ruleset_attr`: the rights that are taken away unless a rule allows them.
///
/// An older kernel has fewer fields and accepts the others if they are 0.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scopes: u64,
}

/// `struct landlock_path_beneath_attr`: rights on the files in a folder.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    folder: c_int,
}

/// Number of rights on files in each version of Landlock, up to the fifth. A right is one bit.
const FILE_RIGHTS: [u32; 5] = [13, 14, 15, 15, 16];
/// Rights for a new file: `LANDLOCK_ACCESS_FS_WRITE_FILE` and `LANDLOCK_ACCESS_FS_MAKE_REG`.
const CREATE_FILE: u64 = 1 << 1 | 1 << 8;
/// `LANDLOCK_ACCESS_NET_BIND_TCP` and `LANDLOCK_ACCESS_NET_CONNECT_TCP`, since the fourth version.
const TCP_RIGHTS: u64 = 1 << 0 | 1 << 1;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`, since the sixth version.
const PROCESS_SCOPES: u64 = 1 << 0 | 1 << 1;

const CREATE_RULESET_VERSION: c_uint = 1;
const RULE_PATH_BENEATH: c_int = 1;

impl Ruleset {
    /// All rights that a version of Landlock can take away.
    fn all(version: usize) -> Self {
        Self {
            files: (1 << FILE_RIGHTS[version.clamp(1, FILE_RIGHTS.len()) - 1]) - 1,
            network: if version >= 4 { TCP_RIGHTS } else { 0 },
            scopes: if version >= 6 { PROCESS_SCOPES } else { 0 },
        }
    }
}

impl Sandbox {
    /// Enters the sandbox for good. Open descriptors stay usable; other threads that run already stay outside.
    pub fn enter(&self) {
        // A kernel that refuses either leaves this thread as free as before.
        let _ = rustix::thread::set_no_new_privs(true);
        let _ = self.restrict();
    }

    fn restrict(&self) -> io::Result<()> {
        let ruleset = Ruleset::all(version()?);
        // SAFETY: the kernel reads no more than the given size of `ruleset`.
        let created = check(unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const ruleset,
                size_of::<Ruleset>(),
                0 as c_uint,
            )
        })?;
        let fd = c_int::try_from(created).map_err(io::Error::other)?;
        // SAFETY: it has just been created and has no other owner.
        let ruleset = unsafe { OwnedFd::from_raw_fd(fd) };
        if let Some(folder) = &self.folder {
            let rule = PathBeneath {
                allowed: CREATE_FILE,
                folder: folder.as_raw_fd(),
            };
            // SAFETY: both descriptors are open, and the kernel reads one rule of this kind (landlock_add_rule(2)).
            check(unsafe {
                libc::syscall(
                    libc::SYS_landlock_add_rule,
                    ruleset.as_raw_fd(),
                    RULE_PATH_BENEATH,
                    &raw const rule,
                    0 as c_uint,
                )
            })?;
        }
        // SAFETY: the descriptor is open, and no memory is involved.
        check(unsafe {
            libc::syscall(
                libc::SYS_landlock_restrict_self,
                ruleset.as_raw_fd(),
                0 as c_uint,
            )
        })?;
        Ok(())
    }
}

/// The version of Landlock that this kernel has.
fn version() -> io::Result<usize> {
    let none = std::ptr::null::<Ruleset>();
    let flags = CREATE_RULESET_VERSION;
    // SAFETY: with this flag the call reads no memory (landlock_create_ruleset(2)).
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, flags) })
}

fn check(result: c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::thread;

    use rustix::fs::{Mode, OFlags, openat};

    use super::*;

    /// Runs `act` in a thread of its own that is in the sandbox, for there is no way out of it; `false` where the kernel has none.
    fn inside(folder: Option<OwnedFd>, act: impl FnOnce() + Send + 'static) -> bool {
        if version().is_err() {
            eprintln!("skipped: this kernel has no Landlock");
            return false;
        }
        let thread = thread::spawn(move || {
            let folder = folder.map(Rc::new);
            Sandbox { folder }.enter();
            act();
        });
        thread.join().unwrap();
        true
    }

    #[test]
    fn files_and_tcp_are_gone_and_what_is_open_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let mut file = File::create(&old).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let done = inside(None, move || {
            let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(File::open("/etc/passwd").is_err_and(refused));
            assert!(File::open(&old).is_err_and(refused));
            assert!(File::create(&new).is_err_and(refused));
            assert!(fs::remove_file(&old).is_err_and(refused));
            let has_network = version().is_ok_and(|version| version >= 4);
            assert_eq!(TcpStream::connect(address).is_err_and(refused), has_network);
            let bound = TcpListener::bind("127.0.0.1:0");
            assert_eq!(bound.is_err_and(refused), has_network);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(address).unwrap();
            file.write_all(b"still open").unwrap();
        });
        if done {
            assert!(!folder.path().join("new").exists());
        }
        let text = fs::read(folder.path().join("old")).unwrap();
        assert_eq!(text, if done { &b"still open"[..] } else { b"" });
        assert!(TcpStream::connect(address).is_ok());
    }

    #[test]
    fn new_files_may_be_made_in_one_folder_alone() {
        let (mine, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(others.path(), mine.path().join("way-out")).unwrap();
        fs::write(mine.path().join("old"), b"old").unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(mine.path(), flags, Mode::empty()).unwrap();
        let at = folder.try_clone().unwrap();
        let done = inside(Some(folder), move || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let create = |name: &str| openat(&at, name, flags, Mode::RUSR | Mode::WUSR);
            assert!(create("new").is_ok());
            assert!(create("../new").is_err());
            assert!(create("way-out/new").is_err());
            assert!(openat(&at, "old", OFlags::RDONLY, Mode::empty()).is_err());
        });
        assert_eq!(mine.path().join("new").exists(), done);
        assert_eq!(others.path().read_dir().unwrap().count(), 0);
    }
}
