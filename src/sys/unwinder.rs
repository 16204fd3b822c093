//! The unwinder, with which the runtime follows the stack when there is a panic, as a part of the program.
//! As a shared library it would be found, mapped and set up at every start: a tenth of the time that a short run takes.

// It is of GCC, like the shared one, and its licence lets any program have it as a part (GCC Runtime Library Exception).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}
