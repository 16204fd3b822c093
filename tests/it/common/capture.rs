//! The output of a process, collected by a thread while the process runs.
//! A test waits for the text that it needs, not for a time.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use super::BOUND;

/// Output that a thread reads to its end.
#[derive(Clone)]
pub(crate) struct Capture(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Capture {
    /// Starts the thread.
    pub(crate) fn start(mut from: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let capture = Self(Arc::clone(&shared));
        thread::spawn(move || {
            let mut space = vec![0; 64 << 10];
            loop {
                let count = from.read(&mut space).unwrap_or(0);
                let mut state = shared.state.lock().unwrap();
                state.bytes.extend_from_slice(&space[..count]);
                state.has_ended = count == 0;
                shared.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        capture
    }

    /// Waits until `holds` is true of the output so far. Panics at the bound, or at the end of the output.
    #[track_caller]
    pub(crate) fn wait_until(&self, wanted: &str, holds: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let bytes = self.wait(|state| holds(&state.bytes)).bytes.clone();
        assert!(
            holds(&bytes),
            "waited for {wanted}, in vain; there is:\n{}",
            String::from_utf8_lossy(&bytes)
        );
        bytes
    }

    /// Waits until the output contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(&format!("'{text}'"), |bytes| {
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        });
    }

    /// Waits for the first `len` bytes, and returns all bytes so far.
    #[track_caller]
    pub(crate) fn wait_for_len(&self, len: usize) -> Vec<u8> {
        self.wait_until(&format!("{len} bytes"), |bytes| bytes.len() >= len)
    }

    /// Waits for a complete line that begins with `word`, and returns it.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, word: &str) -> String {
        let find = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let (whole, _) = text.rsplit_once('\n')?;
            let line = whole.lines().find(|line| line.starts_with(word))?;
            Some(line.to_owned())
        };
        let bytes = self.wait_until(&format!("a line '{word} ...'"), |bytes| {
            find(bytes).is_some()
        });
        find(&bytes).unwrap()
    }

    /// Waits for `len` bytes or for the end, and returns the output so far.
    pub(crate) fn wait_at_most(&self, len: usize) -> Vec<u8> {
        self.wait(|state| state.bytes.len() >= len).bytes.clone()
    }

    /// Waits for the end, and returns the whole output.
    #[track_caller]
    pub(crate) fn finish(&self) -> Vec<u8> {
        let state = self.wait(|state| state.has_ended);
        let (has_ended, bytes) = (state.has_ended, state.bytes.clone());
        drop(state);
        assert!(has_ended, "its writer never closed it");
        bytes
    }

    /// Returns the output so far.
    pub(crate) fn so_far(&self) -> Vec<u8> {
        self.0.state.lock().unwrap().bytes.clone()
    }

    fn wait(&self, is_enough: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let deadline = Instant::now() + BOUND;
        let mut state = self.0.state.lock().unwrap();
        while !is_enough(&state) && !state.has_ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap().0;
        }
        state
    }
}
