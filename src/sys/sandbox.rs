//! The sandbox (landlock(7)): once everything is open, a run gives up files, new TCP connections and sockets, and privileges.
//! It is best effort: a run goes on with as much of it as the kernel supports.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, PathBeneath, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

/// Version of Landlock whose rights are given up, as far as the kernel has them.
const VERSION: ABI = ABI::V6;

/// Folders of the files that getaddrinfo(3) reads, its libraries included.
const NAME_FOLDERS: [&str; 5] = ["/etc", "/lib", "/lib64", "/usr", "/run"];

/// Folder of what the kernel says about processes (proc(5)).
const PROCESSES: &str = "/proc";

/// Port of name servers, for answers that are too long for a datagram (RFC 7766).
const NAME_PORT: u16 = 53;

/// Rights that a run keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rights<'a> {
    /// Folder in which new files may be made.
    pub folder: Option<BorrowedFd<'a>>,
    /// Port of other machines to which new TCP connections may be made.
    pub connect: Option<u16>,
    /// Port of this machine from which they may come; 0 stands for one that the kernel chooses.
    pub bind: Option<u16>,
    /// True if names are still looked up.
    pub names: bool,
    /// True if Unix sockets are used: programs of peers are named, and abstract names are sent to.
    pub unix: bool,
    /// Folder of the file of a socket, which is removed at the end.
    pub socket_folder: Option<BorrowedFd<'a>>,
}

/// Enters the sandbox for good. Open descriptors stay usable; other threads that run already stay outside.
pub fn enter(rights: Rights<'_>) {
    // A kernel that refuses either leaves this thread as free as before.
    let _ = rustix::thread::set_no_new_privs(true);
    let _ = restrict(rights);
}

fn restrict(rights: Rights<'_>) -> Result<RestrictionStatus, RulesetError> {
    let create_file = AccessFs::WriteFile | AccessFs::MakeReg;
    let folder = rights
        .folder
        .map(|folder| PathBeneath::new(folder, create_file));
    // A file is renamed before it is removed, and may get its name back.
    let remove_file = AccessFs::RemoveFile | AccessFs::MakeSock;
    let socket_folder = rights
        .socket_folder
        .map(|folder| PathBeneath::new(folder, remove_file));
    let folders = NAME_FOLDERS.iter().filter(|_| rights.names);
    let folders = folders.chain(rights.unix.then_some(&PROCESSES));
    let names = path_beneath_rules(folders, AccessFs::ReadFile | AccessFs::ReadDir);
    let scopes = if rights.unix {
        Scope::Signal.into()
    } else {
        Scope::from_all(VERSION)
    };
    let name_port = rights.names.then_some(NAME_PORT);
    let connect = rights.connect.into_iter().chain(name_port);
    let connect = connect.map(|port| NetPort::new(port, AccessNet::ConnectTcp));
    let bind = rights
        .bind
        .map(|port| NetPort::new(port, AccessNet::BindTcp));
    Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(scopes)?
        .create()?
        .add_rules(folder.map(Ok::<_, RulesetError>))?
        .add_rules(socket_folder.map(Ok::<_, RulesetError>))?
        .add_rules(names)?
        .add_rules(connect.chain(bind).map(Ok::<_, RulesetError>))?
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
    fn inside(
        folder: Option<OwnedFd>,
        rights: Rights<'static>,
        act: impl FnOnce(ABI) + Send + 'static,
    ) -> bool {
        let thread = thread::spawn(move || {
            let rights = Rights {
                folder: folder.as_ref().map(AsFd::as_fd),
                ..rights
            };
            let status = restrict(rights).unwrap();
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
        let done = inside(None, Rights::default(), move |version| {
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
    fn connections_to_one_port_and_look_ups_may_stay() {
        let [one, other] = [0, 0].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [one, other] = [one, other].map(|listener| listener.local_addr().unwrap());
        let rights = Rights {
            connect: Some(one.port()),
            names: true,
            ..Rights::default()
        };
        inside(None, rights, move |version| {
            let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            let has_network = version >= ABI::V4;
            // Nobody listens there any more.
            let connected = TcpStream::connect(one);
            assert!(connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
            assert_eq!(TcpStream::connect(other).is_err_and(refused), has_network);
            assert!(TcpListener::bind("127.0.0.1:0").is_err() == has_network);
            assert!(File::open("/etc/passwd").is_ok());
            assert!(File::options().append(true).open("/etc/passwd").is_err());
            assert!(File::open("/proc/self/status").is_err_and(refused));
        });
    }

    #[test]
    fn new_files_may_be_made_in_one_folder_alone() {
        let (mine, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(others.path(), mine.path().join("way-out")).unwrap();
        fs::write(mine.path().join("old"), b"old").unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(mine.path(), flags, Mode::empty()).unwrap();
        let at = folder.try_clone().unwrap();
        let done = inside(Some(folder), Rights::default(), move |_| {
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
