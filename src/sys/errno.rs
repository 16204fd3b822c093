//! Words for the errors of system calls (errno(3)): the same with every C library and in every locale.
//! They are the words of the GNU C library in lower case, so that an error is easy to look up; some are shorter.

use std::io;

/// Errors with their words.
#[rustfmt::skip]
const ERRORS: &[(i32, &str)] = &[
    (libc::E2BIG, "argument list too long"), (libc::EACCES, "permission denied"),
    (libc::EADDRINUSE, "address in use"), (libc::EADDRNOTAVAIL, "cannot assign requested address"),
    (libc::EAFNOSUPPORT, "address family not supported by protocol"), (libc::EAGAIN, "resource temporarily unavailable"),
    (libc::EALREADY, "operation already in progress"), (libc::EBADF, "bad file descriptor"),
    (libc::EBUSY, "device or resource busy"), (libc::ECANCELED, "operation canceled"),
    (libc::ECHILD, "no child processes"), (libc::ECONNABORTED, "software caused connection abort"),
    (libc::ECONNREFUSED, "connection refused"), (libc::ECONNRESET, "connection reset by peer"),
    (libc::EDEADLK, "resource deadlock avoided"), (libc::EDESTADDRREQ, "destination address required"),
    (libc::EDOM, "numerical argument out of domain"), (libc::EDQUOT, "disk quota exceeded"),
    (libc::EEXIST, "file exists"), (libc::EFAULT, "bad address"), (libc::EFBIG, "file too large"),
    (libc::EHOSTDOWN, "host is down"), (libc::EHOSTUNREACH, "no route to host"),
    (libc::EILSEQ, "invalid or incomplete multibyte or wide character"), (libc::EINPROGRESS, "operation now in progress"),
    (libc::EINTR, "interrupted system call"), (libc::EINVAL, "invalid argument"), (libc::EIO, "input/output error"),
    (libc::EISCONN, "transport endpoint is already connected"), (libc::EISDIR, "is a directory"),
    (libc::EKEYREJECTED, "key was rejected by service"), (libc::ELOOP, "too many levels of symbolic links"),
    (libc::EMFILE, "too many open files"), (libc::EMLINK, "too many links"), (libc::EMSGSIZE, "message too long"),
    (libc::ENAMETOOLONG, "file name too long"), (libc::ENETDOWN, "network is down"),
    (libc::ENETRESET, "network dropped connection on reset"), (libc::ENETUNREACH, "network is unreachable"),
    (libc::ENFILE, "too many open files in system"), (libc::ENOBUFS, "no buffer space available"),
    (libc::ENODATA, "no data available"), (libc::ENODEV, "no such device"), (libc::ENOENT, "no such file or directory"),
    (libc::ENOEXEC, "exec format error"), (libc::ENOKEY, "required key not available"), (libc::ENOLCK, "no locks available"),
    (libc::ENOMEM, "cannot allocate memory"), (libc::ENONET, "machine is not on the network"),
    (libc::ENOPROTOOPT, "protocol not available"), (libc::ENOSPC, "no space left on device"),
    (libc::ENOSYS, "function not implemented"), (libc::ENOTBLK, "block device required"),
    (libc::ENOTCONN, "transport endpoint is not connected"), (libc::ENOTDIR, "not a directory"),
    (libc::ENOTEMPTY, "directory not empty"), (libc::ENOTSOCK, "socket operation on non-socket"),
    (libc::ENOTTY, "inappropriate ioctl for device"), (libc::ENXIO, "no such device or address"),
    (libc::EOPNOTSUPP, "operation not supported"), (libc::EOVERFLOW, "value too large for defined data type"),
    (libc::EPERM, "operation not permitted"), (libc::EPFNOSUPPORT, "protocol family not supported"),
    (libc::EPIPE, "broken pipe"), (libc::EPROTO, "protocol error"), (libc::EPROTONOSUPPORT, "protocol not supported"),
    (libc::EPROTOTYPE, "protocol wrong type for socket"), (libc::ERANGE, "numerical result out of range"),
    (libc::EREMOTEIO, "remote I/O error"), (libc::EROFS, "read-only file system"),
    (libc::ESHUTDOWN, "cannot send after transport endpoint shutdown"), (libc::ESOCKTNOSUPPORT, "socket type not supported"),
    (libc::ESPIPE, "illegal seek"), (libc::ESRCH, "no such process"), (libc::ESTALE, "stale file handle"),
    (libc::ETIME, "timer expired"), (libc::ETIMEDOUT, "connection timed out"),
    (libc::ETOOMANYREFS, "too many references: cannot splice"), (libc::ETXTBSY, "text file busy"),
    (libc::EUSERS, "too many users"), (libc::EXDEV, "invalid cross-device link"),
];

/// Returns the words for an error, if it is one of a system call.
pub fn words(error: &io::Error) -> Option<String> {
    let number = error.raw_os_error()?;
    let known = ERRORS.iter().find(|(errno, _)| *errno == number);
    Some(known.map_or_else(
        || format!("error {number}"),
        |(_, words)| (*words).to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_error_has_its_own_words() {
        let numbers: HashSet<_> = ERRORS.iter().map(|(number, _)| number).collect();
        let texts: HashSet<_> = ERRORS.iter().map(|(_, words)| words).collect();
        assert_eq!((numbers.len(), texts.len()), (ERRORS.len(), ERRORS.len()));
        let error = io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert_eq!(words(&error).as_deref(), Some("address in use"));
        let unknown = io::Error::from_raw_os_error(512);
        assert_eq!(words(&unknown).as_deref(), Some("error 512"));
        assert_eq!(words(&io::Error::other("no call")), None);
    }

    /// The GNU C library begins its words with an upper-case letter.
    #[cfg(target_env = "gnu")]
    #[test]
    fn the_words_are_those_of_the_gnu_library() {
        for (number, words) in ERRORS
            .iter()
            .filter(|(number, _)| *number != libc::EADDRINUSE)
        {
            let text = io::Error::from_raw_os_error(*number)
                .to_string()
                .to_lowercase();
            assert_eq!(
                text,
                format!("{} (os error {number})", words.to_lowercase())
            );
        }
    }
}
