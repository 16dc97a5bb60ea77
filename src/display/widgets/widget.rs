//! What all widgets have: the trait [`Control`], and macros that define their common methods.

use super::comm::Child;

/// A widget that a box can contain. Every widget implements it.
pub trait Control {
    /// The widget as part of a box.
    #[doc(hidden)]
    fn child(&self) -> Child;
}

/// Defines a widget: a handle that is cheap to clone, and the methods that all widgets have.
macro_rules! widget {
    ($(#[$doc:meta])* $name:ident, $kind:ident = ($package:expr, $model:literal, $style:literal)) => {
        pub(super) static $kind: Kind = Kind { package: $package, name: $model, style: $style };

        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(pub(super) Arc<Widget>);

        impl $name {
            /// Sets the text beside the widget.
            pub fn description(self, text: &str) -> $name {
                self.0.set("description", text);
                self
            }

            /// Sets whether the widget is disabled, so that the user cannot change it.
            pub fn disabled(self, is_disabled: bool) -> $name {
                self.0.set("disabled", is_disabled);
                self
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.text())
            }
        }

        impl Show for $name {
            fn bundle(&self) -> Bundle {
                self.0.bundle(&self.text(), self.html())
            }
        }

        impl $crate::display::widgets::Control for $name {
            fn child(&self) -> $crate::display::widgets::Child {
                let rendered = |widget: &Arc<Widget>| {
                    let own = $name(widget.clone());
                    (own.text(), own.html())
                };
                $crate::display::widgets::Child { widget: self.0.clone(), rendered }
            }
        }
    };
}
pub(super) use widget;

/// Adds `value`, `set_value` and `on_change` to a widget with one value.
macro_rules! with_value {
    ($name:ident, $type:ty, $argument:ty, $read:expr) => {
        impl $name {
            /// The current value. A change by the user is visible at once, even in a running cell.
            pub fn value(&self) -> $type {
                let read: fn(&Widget) -> $type = $read;
                read(&self.0)
            }

            /// Sets the value, here and in the notebook. Runs no callbacks.
            pub fn set_value(&self, value: $argument) {
                self.0.set("value", value);
            }

            /// Calls a function with the new value after the user has changed it. The function runs when no
            /// cell runs. Several quick changes cause one call.
            pub fn on_change<R: CallbackResult>(
                &self,
                mut callback: impl FnMut($type) -> R + Send + 'static,
            ) {
                let read: fn(&Widget) -> $type = $read;
                self.0.callbacks.add(Event::Change, move |widget| callback(read(widget)));
            }
        }
    };
}
pub(super) use with_value;
