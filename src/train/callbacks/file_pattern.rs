//! File names with placeholders in the format of Python's `str.format`: `w.{epoch:02d}-{val_loss:.2f}`.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A path with keys in braces, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FilePattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Key(String, Format),
}

/// The format of one key: `[0][width][.precision][type]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Format {
    zeros: bool,
    width: usize,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Keys whose values are integers.
const COUNTS: [&str; 2] = ["epoch", "batch"];
/// Largest width and precision, in characters, so that a file name stays short.
const MAX_DIGITS: usize = 64;

impl FilePattern {
    /// Parses a path; its keys must be among `known`.
    ///
    /// # Errors
    /// [`Error::Argument`] for an unknown key or format, for an unbalanced brace, and for a path that is not UTF-8.
    pub(super) fn parse(path: &Path, known: &[String]) -> Result<FilePattern> {
        let Some(text) = path.to_str() else {
            let (expected, found) = ("a path in UTF-8".into(), path.display().to_string());
            return Err(Error::Argument { name: "filepath", expected, found });
        };
        let refuse = |expected: String, found: &str| Error::Argument {
            name: "filepath",
            expected,
            found: format!("{found} in {text}"),
        };
        let lone =
            |brace| refuse("each `{` with its `}`; write `{{` or `}}` for a brace itself".into(), brace);
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let end = rest.find(['{', '}']).filter(|end| brace == "{" && rest[*end..].starts_with('}'));
            let field = &rest[..end.ok_or_else(|| lone(brace))?];
            rest = &rest[field.len() + 1..];
            let (key, format) = field.split_once(':').unwrap_or((field, ""));
            if !known.iter().any(|known| known == key) {
                return Err(refuse(format!("one of the keys {}", known.join(", ")), &format!("`{key}`")));
            }
            let format = Format::parse(format, COUNTS.contains(&key)).ok_or_else(|| {
                let kinds = if COUNTS.contains(&key) { "`02d`" } else { "`.2f`, `.3e` or `.1%`" };
                refuse(format!("a format like {kinds} for `{key}`"), &format!("`{field}`"))
            })?;
            parts.push(Part::Text(std::mem::take(&mut literal)));
            parts.push(Part::Key(key.to_owned(), format));
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        Ok(FilePattern(parts))
    }

    /// Returns the path with the keys replaced by their values. A key without a value becomes an empty
    /// string.
    pub(super) fn fill(&self, value: impl Fn(&str) -> Option<f64>) -> PathBuf {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Key(key, format) => {
                value(key).map_or_else(String::new, |value| format.write(value, COUNTS.contains(&&**key)))
            }
        };
        PathBuf::from(self.0.iter().map(part).collect::<String>())
    }
}

impl Format {
    fn parse(text: &str, is_count: bool) -> Option<Format> {
        let (zeros, text) = match text.strip_prefix('0') {
            Some(rest) if !rest.is_empty() && !rest.starts_with('.') => (true, rest),
            _ => (false, text),
        };
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        let (width, text) = text.split_at(digits(text));
        let width = if width.is_empty() { 0 } else { width.parse().ok()? };
        let (precision, kind) = match text.strip_prefix('.') {
            Some(text) => {
                let (precision, kind) = text.split_at(digits(text));
                (Some(precision.parse().ok()?), kind)
            }
            None => (None, text),
        };
        let mut letters = kind.chars();
        let kind = letters.next();
        let fits = match kind {
            None => precision.is_none(),
            Some('d') => is_count && precision.is_none(),
            Some('f' | 'F' | 'e' | '%') => true,
            Some(_) => false,
        };
        let is_short = width <= MAX_DIGITS && precision.is_none_or(|precision| precision <= MAX_DIGITS);
        (fits && is_short && letters.next().is_none()).then_some(Format { zeros, width, precision, kind })
    }

    fn write(self, value: f64, is_count: bool) -> String {
        let precision = self.precision.unwrap_or(6);
        let text = match self.kind {
            _ if !value.is_finite() => value.to_string().to_lowercase(),
            Some('f' | 'F') => format!("{value:.precision$}"),
            Some('%') => format!("{:.precision$}%", value * 100.0),
            Some('e') => {
                // Python writes a sign and at least two digits for the exponent: 1.5e-03.
                let text = format!("{value:.precision$e}");
                let (number, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let exponent: i32 = exponent.parse().unwrap_or(0);
                format!("{number}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
            }
            _ if is_count => format!("{value:.0}"),
            _ => format!("{value:?}"),
        };
        let width = self.width;
        match (self.zeros, text.strip_prefix('-')) {
            (true, Some(positive)) => format!("-{positive:0>0$}", width.saturating_sub(1)),
            (true, None) => format!("{text:0>width$}"),
            (false, _) => format!("{text:>width$}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pattern: &str) -> Result<String> {
        let known = ["epoch", "batch", "loss", "val_loss"].map(str::to_owned);
        let value = |key: &str| match key {
            "epoch" => Some(7.0),
            "batch" => Some(120.0),
            "loss" => Some(-0.001_234_5),
            _ => Some(0.6821),
        };
        Ok(FilePattern::parse(Path::new(pattern), &known)?.fill(value).to_string_lossy().into_owned())
    }

    /// Python 3.11: `pattern.format(epoch=7, batch=120, loss=-0.0012345, val_loss=0.6821)`.
    #[test]
    fn names_match_python() {
        for (pattern, expected) in [
            ("w.{epoch:02d}-{val_loss:.2f}.safetensors", "w.07-0.68.safetensors"),
            ("{epoch}/{batch:5d}|{batch:05d}|{epoch:d}", "7/  120|00120|7"),
            ("{val_loss}", "0.6821"),
            ("{val_loss:f} {val_loss:8.3f} {val_loss:08.3f}", "0.682100    0.682 0000.682"),
            ("{loss:.2e} {loss:09.4f} {epoch:.1e} {epoch:.1f}", "-1.23e-03 -000.0012 7.0e+00 7.0"),
            ("{val_loss:.1%}", "68.2%"),
            ("{{epoch}} {{{epoch}}}", "{epoch} {7}"),
        ] {
            assert_eq!(filled(pattern).unwrap(), expected, "{pattern}");
        }
    }

    #[test]
    fn paths_that_are_not_utf8_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9/w.safetensors"));
        assert!(FilePattern::parse(path, &[]).unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn formats_that_python_refuses_are_errors() {
        for (pattern, expected) in [
            ("w.{val_acc:.2f}", "one of the keys epoch, batch, loss, val_loss, found `val_acc`"),
            ("w.{}", "one of the keys"),
            ("w.{epoch", "each `{` with its `}`"),
            ("w.epoch}", "each `{` with its `}`"),
            ("w.{epo{ch}", "each `{` with its `}`"),
            ("{val_loss:02d}", "a format like `.2f`"),
            ("{epoch:.2d}", "a format like `02d`"),
            ("{epoch:x y}", "a format like `02d`"),
            ("{val_loss:.999999f}", "a format like"),
        ] {
            let error = filled(pattern).unwrap_err().to_string();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }
}
