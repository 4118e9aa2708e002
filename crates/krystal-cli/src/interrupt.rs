//! Ctrl-C (and a request to terminate): the first is heard by what is going on, which ends in good order; a second one ends the
//! process at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::terminal::error_line;

static HEARD: AtomicUsize = AtomicUsize::new(0);
static ANSWER: Mutex<&str> = Mutex::new("");
#[cfg(feature = "providers")]
static WAKE: tokio::sync::Notify = tokio::sync::Notify::const_new();

/// Listens from now on; what was heard before does not count. The first is answered with `answer`.
pub(crate) fn listen(answer: &'static str) {
    static LISTENING: Once = Once::new();
    *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    HEARD.store(0, Ordering::SeqCst);
    LISTENING.call_once(|| {
        if let Err(error) = ctrlc::set_handler(hear) {
            // What goes on is as good without it.
            error_line(&format!("warning: Ctrl-C will end the process at once: {error}"));
        }
    });
}

fn hear() {
    if HEARD.fetch_add(1, Ordering::SeqCst) > 0 {
        std::process::exit(130);
    }
    let answer = *ANSWER.lock().unwrap_or_else(PoisonError::into_inner);
    if !answer.is_empty() {
        error_line(answer);
    }
    #[cfg(feature = "providers")]
    WAKE.notify_waiters();
}

/// Whether there was one since [`listen`].
pub(crate) fn heard() -> bool {
    HEARD.load(Ordering::SeqCst) > 0
}

/// Waits for one.
#[cfg(feature = "providers")]
pub(crate) async fn interrupted() {
    // Waits first and looks then: one in between is not missed.
    let mut woken = std::pin::pin!(WAKE.notified());
    woken.as_mut().enable();
    if !heard() {
        woken.await;
    }
}
