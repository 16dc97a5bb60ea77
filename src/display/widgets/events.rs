//! Messages from the client, and the callbacks that they cause.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char};
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headstart_frame::Frame;
use serde_json::Value;

use super::comm::{self, Event, Widget};

/// Maximum number of events with pending callbacks. Changes of one widget count once. Beyond it, the oldest
/// ones are dropped.
const MAX_EVENTS: usize = 100;

/// Events whose callbacks have not run yet.
static WAITING: Mutex<VecDeque<(Event, Arc<Widget>)>> = Mutex::new(VecDeque::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called by the kernel through its symbol name, with a line from the client. Returns whether callbacks
/// are pending.
///
/// # Safety
/// `line` is a string that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headstart_receive_comm(line: *const c_char) -> bool {
    // SAFETY: guaranteed by the caller.
    let line = unsafe { CStr::from_ptr(line) }.to_string_lossy();
    match Frame::decode(line.trim_end_matches('\n')) {
        // The caller cannot catch a panic.
        Some(Ok(Frame::CommMessage { id, data, buffers })) => {
            let _ = std::panic::catch_unwind(|| receive(&id, &data, &buffers));
        }
        Some(Ok(Frame::CommClose { id })) => comm::forget(&id),
        _ => {}
    }
    !locked(&WAITING).is_empty()
}

fn receive(id: &str, data: &str, buffers: &[String]) {
    let (Some(widget), Ok(data)) = (comm::find(id), serde_json::from_str::<Value>(data)) else { return };
    let event = match data["method"].as_str() {
        Some("update") => {
            let buffers = buffers.iter().filter_map(|buffer| STANDARD.decode(buffer).ok()).collect();
            match data["state"].as_object() {
                Some(values) if widget.receive(values, buffers) => Event::Change,
                _ => return,
            }
        }
        Some("custom") if data["content"]["event"] == "click" => Event::Click,
        _ => return,
    };
    let mut waiting = locked(&WAITING);
    let is_waiting = |(known, other): &(Event, Arc<Widget>)| *known == event && Arc::ptr_eq(other, &widget);
    // The callback of a change gets the latest value.
    if event == Event::Click || !waiting.iter().any(is_waiting) {
        waiting.push_back((event, widget));
    }
    if waiting.len() > MAX_EVENTS {
        waiting.pop_front();
    }
}

/// Called by the kernel through its symbol name, in the thread of the cells, between two cells. Runs the
/// pending callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn headstart_run_callbacks() {
    let mut has_run = false;
    while let Some((event, widget)) = take() {
        has_run = true;
        Frame::Callback { id: widget.id.clone() }.print();
        run(event, &widget);
        let _ = std::io::stdout().flush();
    }
    if has_run {
        Frame::Callback { id: String::new() }.print();
    }
}

fn take() -> Option<(Event, Arc<Widget>)> {
    locked(&WAITING).pop_front()
}

/// Runs the callbacks of a widget for an event. Errors and panics are shown.
fn run(event: Event, widget: &Arc<Widget>) {
    // Callbacks may add others.
    let mut callbacks = widget.callbacks.take();
    for (_, callback) in callbacks.iter_mut().filter(|(wanted, _)| *wanted == event) {
        let error = match std::panic::catch_unwind(AssertUnwindSafe(|| callback(widget))) {
            Ok(error) => error.map(|error| format!("failed: {error}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied());
                Some(format!("panicked: {}", text.unwrap_or("without a message")))
            }
        };
        if let Some(error) = error {
            eprintln!("the callback of the {} {error}", widget.kind.name);
        }
    }
    widget.callbacks.put_back(callbacks);
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::super::{Button, FloatSlider};
    use super::*;

    fn receive_line(id: &str, data: &str) -> bool {
        let frame = Frame::CommMessage { id: id.into(), data: data.into(), buffers: Vec::new() };
        let line = CString::new(frame.encode()).unwrap();
        // SAFETY: a string that ends with a zero byte.
        unsafe { headstart_receive_comm(line.as_ptr()) }
    }

    #[test]
    fn callbacks_run_once_with_the_latest_value_and_continue_after_a_panic() {
        let (slider, button) = (FloatSlider::new(0.5), Button::new("go"));
        comm::open_for_test(&slider.0);
        comm::open_for_test(&button.0);
        let seen: Arc<Mutex<Vec<f64>>> = Arc::default();
        let clicks = Arc::new(AtomicUsize::new(0));
        slider.on_change(|_| {
            if true {
                panic!("a callback's panic")
            }
        });
        slider.on_change({
            let (seen, slider, clicks) = (seen.clone(), slider.clone(), clicks.clone());
            move |value| -> crate::Result<()> {
                seen.lock().unwrap().push(value);
                let clicks = clicks.clone();
                slider.on_change(move |_| {
                    clicks.fetch_add(100, SeqCst);
                });
                Ok(())
            }
        });
        button.on_click({
            let clicks = clicks.clone();
            move || {
                clicks.fetch_add(1, SeqCst);
            }
        });
        assert!(receive_line(&slider.0.id, r#"{"method":"update","state":{"value":0.6}}"#));
        assert!(receive_line(&slider.0.id, r#"{"method":"update","state":{"value":0.7}}"#));
        assert_eq!(slider.value(), 0.7, "before the callbacks");
        for _ in 0..2 {
            receive_line(&button.0.id, r#"{"method":"custom","content":{"event":"click"}}"#);
        }
        headstart_run_callbacks();
        assert_eq!((seen.lock().unwrap().clone(), clicks.load(SeqCst)), (vec![0.7], 2));
        assert!(!receive_line(&slider.0.id, r#"{"method":"update","state":{"value":0.7}}"#), "no change");
        assert!(!receive_line("unknown", "{}") && !receive_line(&slider.0.id, "no json"));
    }
}
