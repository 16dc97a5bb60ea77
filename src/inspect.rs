//! Descriptions of the cells' variables in one line, for the notebook's variables pane.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::{self, Debug, Write};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use candle_core::{Tensor, Var};
use headstart_frame::Frame;

use crate::data::{ImageFiles, Images};
use crate::nn::Model;
use crate::train::History;
use crate::variables::VariableStore;

/// Maximum length of a description, in characters.
const MAX_LENGTH: usize = 100;

thread_local! {
    /// The descriptions that were sent last.
    static SENT: RefCell<Vec<(String, String)>> = RefCell::default();
}

/// Called by the kernel through its symbol name, after each cell. Sends the descriptions of the variables,
/// if they have changed.
///
/// # Safety
/// `store` is null or the cells' variable store, which no other code uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headstart_describe_variables(store: *const VariableStore) {
    // SAFETY: guaranteed by the caller.
    let Some(store) = (unsafe { store.as_ref() }) else { return };
    // The caller cannot catch a panic, for example of a lock that a panicked cell held.
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| send_descriptions(store)));
}

fn send_descriptions(store: &VariableStore) {
    let mut values: Vec<(String, String)> =
        store.iter().filter_map(|(name, value)| Some((name.to_owned(), describe(value)?))).collect();
    values.sort_unstable();
    SENT.with_borrow_mut(|sent| {
        if *sent != values {
            Frame::Variables { values: values.clone() }.print();
            *sent = values;
        }
    });
}

/// Describes a value: tensors by shape and type, models by name and number of parameters, other values as
/// text. `None` for other types.
fn describe(value: &dyn Any) -> Option<String> {
    if let Some(tensor) = value.downcast_ref::<Tensor>() {
        return Some(of_tensor(tensor));
    }
    if let Some(variable) = value.downcast_ref::<Var>() {
        return Some(of_tensor(variable.as_tensor()));
    }
    if let Some(model) = value.downcast_ref::<Model>() {
        let count: usize = model.params().iter().map(|param| param.count()).sum();
        return Some(format!("{}: {count} parameters, input {:?}", model.name(), model.input_shape()));
    }
    if let Some(history) = value.downcast_ref::<History>() {
        return Some(format!("{} epochs of {}", history.epochs(), history.names().join(", ")));
    }
    if let Some(images) = value.downcast_ref::<Images>() {
        return Some(format!("{} images of {}", images.len(), images.class_names.join(", ")));
    }
    if let Some(files) = value.downcast_ref::<ImageFiles>() {
        return Some(format!("{} image files", files.paths.len()));
    }
    of_plain(value)
}

fn of_tensor(tensor: &Tensor) -> String {
    format!("{:?} {}", tensor.dims(), tensor.dtype().as_str())
}

/// Describes numbers, texts, and lists and options of them.
fn of_plain(value: &dyn Any) -> Option<String> {
    macro_rules! first_of {
        ($($type:ty)*) => {
            $(
                if let Some(plain) = value.downcast_ref::<$type>() {
                    return Some(shortened(plain));
                }
                if let Some(list) = value.downcast_ref::<Vec<$type>>() {
                    return Some(format!("{} values: {}", list.len(), shortened(list)));
                }
                if let Some(option) = value.downcast_ref::<Option<$type>>() {
                    return Some(shortened(option));
                }
            )*
        };
    }
    first_of!(bool char f32 f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize String &'static str PathBuf);
    None
}

/// Formats a value up to the maximum length. The formatting of long lists ends there.
fn shortened(value: &dyn Debug) -> String {
    struct Limited(String, usize);
    impl Write for Limited {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(c);
            }
            Ok(())
        }
    }
    let mut text = Limited(String::new(), MAX_LENGTH);
    if write!(text, "{value:?}").is_err() {
        text.0.push('…');
    }
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;

    #[test]
    fn known_types_are_described() -> Result<()> {
        let tensor = crate::random_uniform((2, 3), 0.0, 1.0)?;
        let model = crate::sequential![crate::nn::Input::new(4), crate::nn::Dense::new(2)]?;
        let name = format!("{}: 10 parameters, input [4]", model.name());
        for (value, expected) in [
            (&tensor as &dyn Any, "[2, 3] f32"),
            (&model as &dyn Any, name.as_str()),
            (&1.5f64 as &dyn Any, "1.5"),
            (&"a" as &dyn Any, "\"a\""),
            (&vec![1, 2] as &dyn Any, "2 values: [1, 2]"),
            (&Some(true) as &dyn Any, "Some(true)"),
        ] {
            assert_eq!(describe(value).as_deref(), Some(expected));
        }
        assert_eq!(describe(&()), None);
        Ok(())
    }

    #[test]
    fn a_long_list_is_shortened() {
        let text = describe(&vec![0u8; 1 << 24]).unwrap();
        assert!(text.ends_with('…') && text.chars().count() < MAX_LENGTH + 30, "{text}");
    }
}
