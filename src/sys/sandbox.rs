//! The sandbox (landlock(7)): once everything is open, a run gives up files, new TCP connections and sockets, and privileges.
//! It is best effort: a run goes on with as much of it as the kernel supports.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};

/// Version of Landlock whose rights are given up, as far as the kernel has them.
const VERSION: ABI = ABI::V6;

/// Enters the sandbox for good. Open descriptors stay usable; other threads that run already stay outside.
///
/// New files may still be made in `folder`.
pub fn enter(folder: Option<BorrowedFd<'_>>) {
    // A kernel that refuses either leaves this thread as free as before.
    let _ = rustix::thread::set_no_new_privs(true);
    let _ = restrict(folder);
}

fn restrict(folder: Option<BorrowedFd<'_>>) -> Result<RestrictionStatus, RulesetError> {
    let create_file = AccessFs::WriteFile | AccessFs::MakeReg;
    let rule = folder.map(|folder| PathBeneath::new(folder, create_file));
    Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(rule.map(Ok::<_, RulesetError>))?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsFd, OwnedFd};
    use std::thread;

    use landlock::LandlockStatus;
    use rustix::fs::{Mode, OFlags, openat};

    use super::*;

    /// Runs `act`, which gets the version of Landlock, in a thread of its own that is in the sandbox, for there is no way out of it;
    /// `false` where the kernel has none.
    fn inside(folder: Option<OwnedFd>, act: impl FnOnce(ABI) + Send + 'static) -> bool {
        let thread = thread::spawn(move || {
            let status = restrict(folder.as_ref().map(AsFd::as_fd)).unwrap();
            let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
                eprintln!("skipped: this kernel has no Landlock");
                return false;
            };
            act(effective_abi);
            true
        });
        thread.join().unwrap()
    }

    #[test]
    fn files_and_tcp_are_gone_and_what_is_open_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let mut file = File::create(&old).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let done = inside(None, move |version| {
            let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(File::open("/etc/passwd").is_err_and(refused));
            assert!(File::open(&old).is_err_and(refused));
            assert!(File::create(&new).is_err_and(refused));
            assert!(fs::remove_file(&old).is_err_and(refused));
            let has_network = version >= ABI::V4;
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
        let done = inside(Some(folder), move |_| {
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
