//! Taking away what a run needs no more once everything is open: files, new TCP connections and sockets, further privileges.
//! It is a net below everything else, never a condition: where the kernel has none, or only a part, the run goes on with that.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

/// What remains allowed to this process.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Where new files may be made.
    pub folder: Option<Rc<OwnedFd>>,
}

/// Rights on files that the first version of Landlock takes away, and those that later ones added (landlock(7)).
const FILES: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const DEVICES: u64 = 1 << 15;
/// Those that making a file takes.
const NEW_FILES: u64 = 1 << 1 | 1 << 8;
/// Binding and connecting of TCP sockets.
const TCP: u64 = 1 << 0 | 1 << 1;
/// Abstract Unix sockets of others, and signals to others.
const OTHERS: u64 = 1 << 0 | 1 << 1;

/// `struct landlock_ruleset_attr`: what is taken away unless a rule allows it. A kernel that knows less takes the rest if it is 0.
#[repr(C)]
struct Taken {
    files: u64,
    network: u64,
    scopes: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    folder: i32,
}

const VERSION: libc::c_uint = 1;
const PATH_BENEATH: libc::c_int = 1;

impl Taken {
    /// All that a version of Landlock can take.
    fn by(version: i64) -> Self {
        let since = |first, rights| if version >= first { rights } else { 0 };
        Self {
            files: FILES | since(2, REFER) | since(3, TRUNCATE) | since(5, DEVICES),
            network: since(4, TCP),
            scopes: since(6, OTHERS),
        }
    }
}

impl Sandbox {
    /// Enters it, for good. What is open stays open; threads that run already stay outside.
    pub fn enter(&self) {
        // SAFETY: no pointer is passed; it sets a flag of this thread.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let Some(rules) = rules() else {
            return;
        };
        if let Some(folder) = &self.folder {
            let rule = Beneath {
                allowed: NEW_FILES,
                folder: folder.as_raw_fd(),
            };
            // SAFETY: the descriptors are open, and the rule is as landlock_add_rule(2) has it; it is only read.
            let added = unsafe {
                libc::syscall(
                    libc::SYS_landlock_add_rule,
                    rules.as_raw_fd(),
                    PATH_BENEATH,
                    &raw const rule,
                    0,
                )
            };
            if added != 0 {
                return;
            }
        }
        // SAFETY: the descriptor is open, and no memory is involved. If it is refused, this thread is as free as before.
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    }
}

/// A set of rules that takes all that this kernel can take, if it has Landlock.
fn rules() -> Option<OwnedFd> {
    let version = version();
    if version < 1 {
        return None;
    }
    let taken = Taken::by(version);
    // SAFETY: the kernel reads as many bytes as it is told that there are.
    let made = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const taken,
            size_of::<Taken>(),
            0,
        )
    };
    let fd = i32::try_from(made).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: it was made just now, and nobody else knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The version of Landlock that this kernel has; below 1 if it has none.
fn version() -> i64 {
    let nothing = std::ptr::null::<Taken>();
    // SAFETY: asked for the version alone, the call reads no memory (landlock_create_ruleset(2)).
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, VERSION) }
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
        if rules().is_none() {
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
            let has_network = Taken::by(version()).network != 0;
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
