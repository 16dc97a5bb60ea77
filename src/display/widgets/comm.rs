//! State of a widget, and its comm to the client, in version 2 of the Jupyter widget protocol.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headstart_frame::Frame;
use serde_json::{Map, Value, json};

use crate::display::{Bundle, Sink, escape, sink};

/// Target of a widget's comm.
const TARGET: &str = "jupyter.widget";
/// Metadata of the message that opens a comm.
const METADATA: &str = r#"{"version":"2.1.0"}"#;
/// MIME type of a displayed widget.
const VIEW: &str = "application/vnd.jupyter.widget-view+json";
/// Maximum number of open widgets. Beyond it, the oldest ones are closed.
const MAX_OPEN: usize = 1000;

/// Package of the front end that contains a widget, with its version.
pub(super) const CONTROLS: [&str; 2] = ["@jupyter-widgets/controls", "2.0.0"];
pub(super) const OUTPUT: [&str; 2] = ["@jupyter-widgets/output", "1.0.0"];
const BASE: [&str; 2] = ["@jupyter-widgets/base", "2.0.0"];

/// Kind of a widget.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    pub(super) package: [&'static str; 2],
    /// Name of the widget. The names of its model and its view in the front end begin with it.
    pub(super) name: &'static str,
    /// Name of the model of its style; empty without one.
    pub(super) style: &'static str,
}

/// Result of a callback: nothing, or a `Result` whose error is shown.
pub trait CallbackResult {
    /// The error as text.
    fn error(self) -> Option<String>;
}

impl CallbackResult for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: Display> CallbackResult for std::result::Result<(), E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// A callback with its error as text.
pub(super) type Callback = Box<dyn FnMut(&Arc<Widget>) -> Option<String> + Send>;

/// What a client did with a widget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Change,
    Click,
}

/// The callbacks of a widget.
#[derive(Default)]
pub(super) struct Callbacks(Mutex<Vec<(Event, Callback)>>);

impl Callbacks {
    pub(super) fn add<R: CallbackResult>(
        &self,
        event: Event,
        mut callback: impl FnMut(&Arc<Widget>) -> R + Send + 'static,
    ) {
        locked(&self.0).push((event, Box::new(move |widget| callback(widget).error())));
    }

    /// Takes the callbacks out, so that they can add others while they run.
    pub(super) fn take(&self) -> Vec<(Event, Callback)> {
        std::mem::take(&mut *locked(&self.0))
    }

    /// Puts callbacks back, before those that were added meanwhile.
    pub(super) fn put_back(&self, mut callbacks: Vec<(Event, Callback)>) {
        let mut added = locked(&self.0);
        callbacks.append(&mut added);
        *added = callbacks;
    }
}

/// A binary value of the state: its key and its bytes.
type Buffer = (&'static str, Vec<u8>);

/// A widget that its handles and the client share.
pub(super) struct Widget {
    pub(super) id: String,
    pub(super) kind: &'static Kind,
    state: Mutex<State>,
    pub(super) callbacks: Callbacks,
    /// Called at once after the client has changed the state, even while a cell runs, in the thread that
    /// receives messages.
    on_receive: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The widgets in a box.
    pub(super) children: Vec<Child>,
}

/// A widget in a box.
pub struct Child {
    pub(super) widget: Arc<Widget>,
    /// Returns the widget's text and HTML.
    pub(super) rendered: fn(&Arc<Widget>) -> (String, String),
}

#[derive(Default)]
struct State {
    values: Map<String, Value>,
    buffer: Option<Buffer>,
    /// Binary parts of the last message from the client.
    received: Vec<Vec<u8>>,
    is_open: bool,
}

/// The open widgets by name, with the order in which they were opened.
#[derive(Default)]
struct Open {
    widgets: BTreeMap<String, (u64, Arc<Widget>)>,
    /// Names of the models that widgets share: layout and styles.
    shared: BTreeMap<&'static str, String>,
    count: u64,
}

static OPEN: Mutex<Option<Open>> = Mutex::new(None);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that no other process of cells has used for a widget.
fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let process = u64::from(std::process::id()) << 32;
    format!("{:016x}{:016x}", since.as_nanos() as u64, process | COUNT.fetch_add(1, Ordering::Relaxed))
}

fn send(frame: &Frame) {
    frame.print();
}

fn open(id: &str, state: &Map<String, Value>, buffer: Option<&Buffer>) {
    let (paths, buffers) = buffers(buffer);
    send(&Frame::CommOpen {
        id: id.to_owned(),
        target: TARGET.into(),
        data: json!({"state": state, "buffer_paths": paths}).to_string(),
        metadata: METADATA.into(),
        buffers,
    });
}

fn buffers(buffer: Option<&Buffer>) -> (Value, Vec<String>) {
    match buffer {
        Some((key, bytes)) => (json!([[key]]), vec![STANDARD.encode(bytes)]),
        None => (json!([]), Vec::new()),
    }
}

impl Open {
    /// Name of a model that widgets share. The first widget opens it.
    fn shared(&mut self, [package, version]: [&str; 2], model: &'static str) -> String {
        let name = self.shared.entry(model).or_insert_with(|| {
            let id = new_id();
            let [base, base_version] = BASE;
            let view = if model == "LayoutModel" { "LayoutView" } else { "StyleView" };
            let state = json!({
                "_model_module": package, "_model_module_version": version, "_model_name": model,
                "_view_module": base, "_view_module_version": base_version, "_view_name": view,
            });
            open(&id, state.as_object().unwrap_or(&Map::new()), None);
            id
        });
        format!("IPY_MODEL_{name}")
    }
}

impl Widget {
    pub(super) fn new(kind: &'static Kind, values: Value) -> Arc<Widget> {
        Widget::with_children(kind, values, Vec::new())
    }

    /// Creates a box with widgets.
    pub(super) fn with_children(kind: &'static Kind, values: Value, children: Vec<Child>) -> Arc<Widget> {
        let mut values = values.as_object().cloned().unwrap_or_default();
        if !children.is_empty() {
            let names = children.iter().map(|child| format!("IPY_MODEL_{}", child.widget.id));
            values.insert("children".into(), names.collect::<Vec<_>>().into());
        }
        let state = Mutex::new(State { values, ..State::default() });
        let (id, callbacks, on_receive) = (new_id(), Callbacks::default(), OnceLock::new());
        Arc::new(Widget { id, kind, state, callbacks, on_receive, children })
    }

    /// Sets a function that is called at once after each change by the client. Only the first one is kept.
    pub(super) fn on_receive(&self, function: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_receive.set(Box::new(function));
    }

    /// A value of the state.
    pub(super) fn get(&self, key: &str) -> Value {
        locked(&self.state).values.get(key).cloned().unwrap_or_default()
    }

    /// Sets a value of the state, and sends it to the client.
    pub(super) fn set(&self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let mut state = locked(&self.state);
        if state.is_open {
            self.update(&json!({ key: value }), None);
        }
        state.values.insert(key.to_owned(), value);
    }

    /// Sets the binary value of the state, and sends it to the client.
    pub(super) fn set_buffer(&self, key: &'static str, bytes: Vec<u8>) {
        let mut state = locked(&self.state);
        let buffer = (key, bytes);
        if state.is_open {
            self.update(&json!({}), Some(&buffer));
        }
        state.buffer = Some(buffer);
    }

    /// The binary value of the state.
    pub(super) fn buffer(&self) -> Vec<u8> {
        locked(&self.state).buffer.as_ref().map_or_else(Vec::new, |(_, bytes)| bytes.clone())
    }

    /// A value of the state and the binary parts that came with it.
    pub(super) fn received(&self, key: &str) -> (Value, Vec<Vec<u8>>) {
        let state = locked(&self.state);
        (state.values.get(key).cloned().unwrap_or_default(), state.received.clone())
    }

    fn update(&self, state: &Value, buffer: Option<&Buffer>) {
        let (paths, buffers) = buffers(buffer);
        let data = json!({"method": "update", "state": state, "buffer_paths": paths}).to_string();
        send(&Frame::CommMessage { id: self.id.clone(), data, buffers });
    }

    /// Stores values from the client. Returns whether any of them changed.
    pub(super) fn receive(&self, values: &Map<String, Value>, received: Vec<Vec<u8>>) -> bool {
        let mut state = locked(&self.state);
        let mut is_changed = !received.is_empty();
        if is_changed {
            state.received = received;
        }
        for (key, value) in values {
            is_changed |= state.values.insert(key.clone(), value.clone()).as_ref() != Some(value);
        }
        // The function may read the state.
        drop(state);
        if let Some(function) = self.on_receive.get().filter(|_| is_changed) {
            function();
        }
        is_changed
    }

    /// Opens the widget in the client when it is shown for the first time.
    fn open(self: &Arc<Widget>) {
        self.children.iter().for_each(|child| child.widget.open());
        let mut registry = locked(&OPEN);
        let registry = registry.get_or_insert_default();
        let mut state = locked(&self.state);
        if std::mem::replace(&mut state.is_open, true) {
            return;
        }
        let layout = registry.shared(BASE, "LayoutModel");
        let [package, version] = self.kind.package;
        let name = self.kind.name;
        let common = json!({
            "_model_module": package, "_model_module_version": version, "_model_name": format!("{name}Model"),
            "_view_module": package, "_view_module_version": version, "_view_name": format!("{name}View"),
            "layout": layout,
        });
        state.values.extend(common.as_object().cloned().unwrap_or_default());
        if !self.kind.style.is_empty() {
            let style = registry.shared(CONTROLS, self.kind.style);
            state.values.insert("style".into(), style.into());
        }
        open(&self.id, &state.values, state.buffer.as_ref());
        registry.count += 1;
        registry.widgets.insert(self.id.clone(), (registry.count, self.clone()));
        if registry.widgets.len() > MAX_OPEN
            && let Some(oldest) = registry.widgets.values().min_by_key(|(number, _)| *number)
        {
            let id = oldest.1.id.clone();
            registry.widgets.remove(&id);
            send(&Frame::CommClose { id });
        }
    }

    /// Representations of the widget: text, HTML without interaction, and in a notebook the widget itself.
    pub(super) fn bundle(self: &Arc<Widget>, text: &str, html: String) -> Bundle {
        let mut bundle = vec![("text/plain".to_owned(), text.to_owned()), ("text/html".to_owned(), html)];
        if sink() == Sink::Kernel {
            self.open();
            let view = json!({"version_major": 2, "version_minor": 0, "model_id": self.id});
            bundle.push((VIEW.into(), view.to_string()));
        }
        bundle
    }

    /// The description as HTML, in front of a control.
    pub(super) fn label(&self) -> String {
        escape(self.get("description").as_str().unwrap_or_default())
    }
}

/// An open widget.
pub(super) fn find(id: &str) -> Option<Arc<Widget>> {
    locked(&OPEN).as_ref()?.widgets.get(id).map(|(_, widget)| widget.clone())
}

/// Removes a widget that the client has closed.
pub(super) fn forget(id: &str) {
    if let Some(open) = locked(&OPEN).as_mut() {
        open.widgets.remove(id);
    }
}

/// Registers a widget as open, without a client.
#[cfg(test)]
pub(super) fn open_for_test(widget: &Arc<Widget>) {
    let mut registry = locked(&OPEN);
    registry.get_or_insert_default().widgets.insert(widget.id.clone(), (0, widget.clone()));
}
