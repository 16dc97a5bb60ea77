//! Reader of the pickles in PyTorch's files. It runs no code: a class is only a name.
//!
//! Unlike candle's reader, it accepts integers of any size, and protocols up to 5. It also accepts objects of classes that
//! are derived from `dict` or `list`, which checkpoints hold beside their tensors. The instructions are those of Python's
//! `pickletools.py`.

use std::collections::HashMap;

use candle_core::pickle::Object;
use candle_core::{Result, bail};

/// Largest number of nested objects (200: PyTorch's files have about ten). To drop deeper ones can overflow the stack.
const MAX_DEPTH: usize = 200;
/// Largest number of objects that are copied from the memo: a small file could ask for any number of them.
const MAX_COPIED: usize = 10_000_000;

/// Reads one pickle from the front of `rest`, and removes it from there.
pub(super) fn read(rest: &mut &[u8]) -> Result<Object> {
    let mut reader = Reader { rest, stack: Vec::new(), memo: HashMap::new(), copied: 0 };
    while !reader.step()? {}
    reader.pop()
}

/// Takes `count` bytes from the front of `rest`.
pub(super) fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    match rest.split_at_checked(count) {
        Some((taken, left)) => {
            *rest = left;
            Ok(taken)
        }
        None => bail!("expected {count} more bytes, found {}", rest.len()),
    }
}

/// The state of Python's pickle machine.
struct Reader<'a, 'b> {
    rest: &'a mut &'b [u8],
    stack: Vec<Object>,
    memo: HashMap<u32, Object>,
    /// Number of objects that were copied from the memo.
    copied: usize,
}

impl Reader<'_, '_> {
    /// Executes one instruction. Returns whether it was the last one.
    fn step(&mut self) -> Result<bool> {
        match self.number(1)? {
            // The protocol, and the length of a frame.
            0x80 => _ = self.number(1)?,
            0x95 => _ = self.number(8)?,
            0x2e => return Ok(true), // '.'
            code => self.execute(code as u8)?,
        }
        Ok(false)
    }

    fn execute(&mut self, code: u8) -> Result<()> {
        let object = match code {
            b'(' => Object::Mark,
            b'0' => return self.pop().map(drop),
            b'1' => return self.pop_to_mark().map(drop),
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'K' => Object::Int(self.number(1)? as i32),
            b'M' => Object::Int(self.number(2)? as i32),
            b'J' => Object::Int(self.number(4)? as u32 as i32),
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => Object::Float(f64::from_bits(self.number(8)?.swap_bytes())),
            b'X' | b'T' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            // Bytes are not needed.
            b'C' => self.text(1).map(|_| Object::None)?,
            b'B' => self.text(4).map(|_| Object::None)?,
            0x8e | 0x96 => self.text(8).map(|_| Object::None)?,
            b')' => Object::Tuple(Vec::new()),
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let Some(start) = self.stack.len().checked_sub(count) else {
                    bail!("a tuple of too few objects")
                };
                Object::Tuple(self.stack.split_off(start))
            }
            b't' => Object::Tuple(self.pop_to_mark()?),
            // A set is read as a list.
            b']' | 0x8f => Object::List(Vec::new()),
            b'l' | 0x91 => Object::List(self.pop_to_mark()?),
            b'}' => Object::Dict(Vec::new()),
            b'd' => Object::Dict(pairs(self.pop_to_mark()?)?),
            b'a' => {
                let item = self.pop()?;
                return self.append(vec![item]);
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                return self.append(items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.insert(vec![(key, value)]);
            }
            b'u' => {
                let items = pairs(self.pop_to_mark()?)?;
                return self.insert(items);
            }
            b'q' => return self.put(1),
            b'r' => return self.put(4),
            0x94 => {
                let object = self.last()?.clone();
                self.memo.insert(self.memo.len() as u32, object);
                return Ok(());
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => {
                let (module_name, class_name) = (self.line()?, self.line()?);
                Object::Class { module_name, class_name }
            }
            0x93 => {
                let (class_name, module_name) = (self.pop()?.unicode()?, self.pop()?.unicode()?);
                Object::Class { module_name, class_name }
            }
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                instance(callable, args)
            }
            0x92 => {
                let (_, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                instance(callable, args)
            }
            b'b' => match (self.pop()?, self.pop()?) {
                (Object::Dict(state), Object::Dict(mut entries)) => {
                    entries.extend(state);
                    Object::Dict(entries)
                }
                (state, object) => Object::Build { callable: Box::new(object), args: Box::new(state) },
            },
            b'Q' => Object::PersistentLoad(Box::new(self.pop()?)),
            _ => bail!("unknown instruction {code:#04x}"),
        };
        check_depth([&object])?;
        self.stack.push(object);
        Ok(())
    }

    /// An unsigned number of up to eight bytes.
    fn number(&mut self, size: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(take(self.rest, size)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// A signed number, after its length, which is a number of `size` bytes. Only the lowest eight bytes are kept: sizes
    /// and counts have no more.
    fn long(&mut self, size: usize) -> Result<Object> {
        let count = self.number(size)? as usize;
        let bytes = take(self.rest, count)?;
        let is_negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
        let mut number = [if is_negative { 0xff } else { 0 }; 8];
        let kept = count.min(8);
        number[..kept].copy_from_slice(&bytes[..kept]);
        Ok(Object::Long(i64::from_le_bytes(number)))
    }

    /// A text, after its length, which is a number of `size` bytes.
    fn text(&mut self, size: usize) -> Result<Object> {
        let length = self.number(size)? as usize;
        Ok(Object::Unicode(String::from_utf8_lossy(take(self.rest, length)?).into_owned()))
    }

    /// The text up to the next line feed.
    fn line(&mut self) -> Result<String> {
        let Some(length) = self.rest.iter().position(|byte| *byte == b'\n') else {
            bail!("a name without an end")
        };
        let line = take(self.rest, length + 1)?;
        Ok(String::from_utf8_lossy(&line[..length]).trim_end_matches('\r').to_owned())
    }

    fn pop(&mut self) -> Result<Object> {
        match self.stack.pop() {
            Some(object) => Ok(object),
            None => bail!("the stack is empty"),
        }
    }

    fn last(&mut self) -> Result<&mut Object> {
        match self.stack.last_mut() {
            Some(object) => Ok(object),
            None => bail!("the stack is empty"),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Object>> {
        let mark = self.stack.iter().rposition(|object| matches!(object, Object::Mark));
        let Some(mark) = mark else { bail!("a mark is missing") };
        let objects = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(objects)
    }

    fn put(&mut self, size: usize) -> Result<()> {
        let number = self.number(size)? as u32;
        let object = self.last()?.clone();
        self.memo.insert(number, object);
        Ok(())
    }

    fn get(&mut self, size: usize) -> Result<Object> {
        let number = self.number(size)? as u32;
        let Some(object) = self.memo.get(&number) else { bail!("object {number} is missing in the memo") };
        self.copied = self.copied.saturating_add(count(object));
        if self.copied > MAX_COPIED {
            bail!("more than {MAX_COPIED} objects are copied");
        }
        Ok(object.clone())
    }

    /// Appends to the list on the stack. An instance of another class becomes a list.
    fn append(&mut self, items: Vec<Object>) -> Result<()> {
        check_depth(&items)?;
        match self.last()? {
            Object::List(list) => list.extend(items),
            other @ (Object::Reduce { .. } | Object::Build { .. }) => *other = Object::List(items),
            _ => bail!("expected a list"),
        }
        Ok(())
    }

    /// Adds to the dictionary on the stack. An instance of another class becomes a dictionary.
    fn insert(&mut self, items: Vec<(Object, Object)>) -> Result<()> {
        check_depth(items.iter().flat_map(|(key, value)| [key, value]))?;
        match self.last()? {
            Object::Dict(entries) => entries.extend(items),
            other @ (Object::Reduce { .. } | Object::Build { .. }) => *other = Object::Dict(items),
            _ => bail!("expected a dictionary"),
        }
        Ok(())
    }
}

/// Checks that objects are not nested too deeply.
fn check_depth<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Result<()> {
    match objects.into_iter().all(|object| is_within(object, MAX_DEPTH)) {
        true => Ok(()),
        false => bail!("more than {MAX_DEPTH} objects are nested"),
    }
}

/// Whether an object has at most `depth` levels.
fn is_within(object: &Object, depth: usize) -> bool {
    let Some(rest) = depth.checked_sub(1) else { return false };
    match object {
        Object::Tuple(items) | Object::List(items) => items.iter().all(|item| is_within(item, rest)),
        Object::Dict(entries) => {
            entries.iter().all(|(key, value)| is_within(key, rest) && is_within(value, rest))
        }
        Object::Reduce { callable, args } | Object::Build { callable, args } => {
            is_within(callable, rest) && is_within(args, rest)
        }
        Object::PersistentLoad(object) => is_within(object, rest),
        _ => true,
    }
}

/// The number of objects in an object, with itself.
fn count(object: &Object) -> usize {
    1 + match object {
        Object::Tuple(items) | Object::List(items) => items.iter().map(count).sum(),
        Object::Dict(entries) => entries.iter().map(|(key, value)| count(key) + count(value)).sum(),
        Object::Reduce { callable, args } | Object::Build { callable, args } => count(callable) + count(args),
        Object::PersistentLoad(object) => count(object),
        _ => 0,
    }
}

/// The object that a callable returns for these arguments.
fn instance(callable: Object, args: Object) -> Object {
    match &callable {
        Object::Class { module_name, class_name }
            if module_name == "collections" && ["OrderedDict", "defaultdict"].contains(&&**class_name) =>
        {
            Object::Dict(Vec::new())
        }
        _ => Object::Reduce { callable: Box::new(callable), args: Box::new(args) },
    }
}

/// Keys and values from a list in which they alternate.
fn pairs(objects: Vec<Object>) -> Result<Vec<(Object, Object)>> {
    if !objects.len().is_multiple_of(2) {
        bail!("a key without a value");
    }
    let mut objects = objects.into_iter();
    Ok(std::iter::from_fn(|| Some((objects.next()?, objects.next()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Object {
        Object::Unicode(text.into())
    }

    /// `{"a": [1, 2.5, None, True], "b": (1, -2, 70000), "c": {1}}`, pickled by Python.
    #[test]
    fn all_protocols_are_read() {
        let (second, fourth) = (
            b"\x80\x02}q\x00(X\x01\0\0\0aq\x01]q\x02(K\x01G@\x04\0\0\0\0\0\0N\x88eX\x01\0\0\0bq\x03K\x01J\xfe\xff\xff\xff\
              Jp\x11\x01\0\x87q\x04u.rest",
            b"\x80\x04\x95\x3f\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01G@\x04\0\0\0\0\0\0N\x88e\x8c\x01b\x94K\x01\
              J\xfe\xff\xff\xffJp\x11\x01\0\x87\x94\x8c\x01c\x94\x8f\x94(K\x01\x90u.rest",
        );
        let list = vec![Object::Int(1), Object::Float(2.5), Object::None, Object::Bool(true)];
        let tuple = [1, -2, 70000].map(Object::Int).to_vec();
        let mut expected = vec![(text("a"), Object::List(list)), (text("b"), Object::Tuple(tuple))];
        let mut rest = &second[..];
        assert_eq!(read(&mut rest).unwrap(), Object::Dict(expected.clone()));
        assert_eq!(rest, b"rest");
        expected.push((text("c"), Object::List(vec![Object::Int(1)])));
        assert_eq!(read(&mut &fourth[..]).unwrap(), Object::Dict(expected));
    }

    #[test]
    fn items_of_other_classes_and_large_integers_are_read() {
        let settings = b"\x80\x02ceasydict\nEasyDict\n)\x81(X\x02\0\0\0lrK\x01X\x01\0\0\0nK\x02u.";
        let expected = vec![(text("lr"), Object::Int(1)), (text("n"), Object::Int(2))];
        assert_eq!(read(&mut &settings[..]).unwrap(), Object::Dict(expected));
        let recent = b"\x80\x02ccollections\ndeque\n)R(K\x01K\x02eK\x03a.";
        assert_eq!(read(&mut &recent[..]).unwrap(), Object::List([1, 2, 3].map(Object::Int).to_vec()));
        let longs = [
            (&b"\x8a\x01\xff."[..], -1),
            (&b"\x8a\x0a\x01\0\0\0\0\0\0\0\0\x01."[..], 1),
            (&b"\x8a\0."[..], 0),
        ];
        for (long, expected) in longs {
            assert_eq!(read(&mut &long[..]).unwrap(), Object::Long(expected));
        }
        for damaged in
            [&b""[..], b".", b"K", b"K\x01", b"(u.", b"u.", b"K\x01K\x02s.", b"\x87.", b"h\x01.", b"\xff."]
        {
            assert!(read(&mut &damaged[..]).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn deeply_nested_objects_are_refused() {
        let tuples = [&b"N"[..], &[0x85u8; 100_000], b"."].concat();
        let lists = [&[b']'; 100_000][..], &[b'a'; 99_999], b"."].concat();
        for nested in [tuples, lists] {
            let error = read(&mut &nested[..]).unwrap_err().to_string();
            assert!(error.contains("nested"), "{error}");
        }
    }

    /// Each step has the object before it twice.
    #[test]
    fn growth_by_copies_is_refused() {
        let doubled = [&b"K\x01q\0"[..], &b"h\0h\0\x86q\0".repeat(40), b"."].concat();
        let error = read(&mut &doubled[..]).unwrap_err().to_string();
        assert!(error.contains("copied"), "{error}");
    }
}
