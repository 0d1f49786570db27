//! An error number of the operating system: a value, the same in the kernel and in the simulator.

use std::fmt;

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:expr, $text:literal;)*) => {
        impl Errno {
            $(pub const $name: Self = Self($number);)*

            /// The name and meaning, if it is one we expect somewhere.
            #[must_use]
            pub fn meaning(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$name => Some((stringify!($name), $text)),)*
                    _ => None,
                }
            }
        }
    };
}

// The numbers are Linux's, on every architecture we build for.
errnos! {
    PERM = 1, "operation not permitted";
    NOENT = 2, "no such file or directory";
    INTR = 4, "interrupted";
    IO = 5, "input/output error";
    BADF = 9, "bad descriptor";
    AGAIN = 11, "try again";
    NOMEM = 12, "out of memory";
    ACCES = 13, "permission denied";
    EXIST = 17, "already exists";
    NOTDIR = 20, "not a directory";
    ISDIR = 21, "is a directory";
    INVAL = 22, "invalid argument";
    MFILE = 24, "too many open files";
    FBIG = 27, "file too large";
    NOSPC = 28, "no space left";
    ROFS = 30, "read-only file system";
    PIPE = 32, "broken pipe";
    NOTEMPTY = 39, "directory not empty";
    OPNOTSUPP = 95, "not supported";
    ADDRINUSE = 98, "address in use";
    ADDRNOTAVAIL = 99, "address not available";
    NETUNREACH = 101, "network unreachable";
    CONNABORTED = 103, "connection aborted";
    CONNRESET = 104, "connection reset";
    NOBUFS = 105, "no buffer space";
    NOTCONN = 107, "not connected";
    TIMEDOUT = 110, "timed out";
    CONNREFUSED = 111, "connection refused";
    HOSTUNREACH = 113, "host unreachable";
    CANCELED = 125, "canceled";
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some((_, text)) => write!(f, "{text} (errno {})", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some((name, _)) => write!(f, "E{name}"),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl std::error::Error for Errno {}
