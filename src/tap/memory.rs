//! A record in memory, for whoever wants to look at it at once, such as a test.
//! Clones are the same memory: one is written to, another is read.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use super::{Console, Sink};

/// What was written so far.
#[derive(Clone, Default)]
pub struct Memory(pub Rc<RefCell<Vec<u8>>>);

impl Memory {
    /// A sink that writes here.
    #[must_use]
    pub fn sink(&self) -> Sink {
        Sink::stdout(self.clone(), "memory", &Console::default())
    }

    /// What was written, as text; what is no UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
