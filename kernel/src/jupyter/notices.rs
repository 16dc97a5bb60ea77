//! Notices about the start of the engine, below the cell that waits for it.

use jupyter_protocol::{ClearOutput, JupyterMessageContent, StreamContent};

use crate::prelude::template::Notice;

/// The notices that a waiting cell shows. They are on standard output, because clients show standard error as an
/// error, and are removed when the engine has loaded.
#[derive(Default)]
pub struct Notices {
    is_shown: bool,
    /// Number of the notices that were shown and do not change any more.
    seen: usize,
    /// Length of the progress notice in the last line, in characters; the next one overwrites it.
    progress: Option<usize>,
}

impl Notices {
    /// Messages that show the notices since the last call.
    pub fn show_new(&mut self, all: &[Notice]) -> Vec<JupyterMessageContent> {
        let new = all.get(self.seen..).unwrap_or_default();
        let messages = new.iter().map(|notice| self.show(notice)).collect();
        // The next progress replaces the last one.
        let is_open = matches!(all.last(), Some(Notice::Progress(_)));
        self.seen = all.len() - usize::from(is_open);
        messages
    }

    /// Message that shows a notice. Jupyter's clients return to the start of the line at `\r`.
    fn show(&mut self, notice: &Notice) -> JupyterMessageContent {
        self.is_shown = true;
        let before = self.progress.take();
        let text = match notice {
            Notice::Line(text) if before.is_some() => format!("\n{text}\n"),
            Notice::Line(text) => format!("{text}\n"),
            Notice::Progress(text) => {
                self.progress = Some(text.chars().count());
                // Spaces overwrite the rest of a longer text.
                format!("\r{text:<0$}", before.unwrap_or_default())
            }
        };
        StreamContent::stdout(&text).into()
    }

    /// Messages that end the notices. They remain after a failed start, because they may show its cause.
    pub fn end(&mut self, has_failed: bool) -> Vec<JupyterMessageContent> {
        let mut messages = Vec::new();
        if self.progress.take().is_some() {
            messages.push(StreamContent::stdout("\n").into());
        }
        if std::mem::take(&mut self.is_shown) && !has_failed {
            messages.push(ClearOutput { wait: false }.into());
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: JupyterMessageContent) -> String {
        match message {
            JupyterMessageContent::StreamContent(stream) => {
                assert!(matches!(stream.name, jupyter_protocol::Stdio::Stdout));
                stream.text
            }
            JupyterMessageContent::ClearOutput(clear) => format!("clear, wait: {}", clear.wait),
            other => panic!("{other:?}"),
        }
    }

    fn ended(notices: &mut Notices, has_failed: bool) -> Vec<String> {
        notices.end(has_failed).into_iter().map(text).collect()
    }

    #[test]
    fn each_notice_is_shown_once() {
        let mut notices = Notices::default();
        let mut shown =
            |all: &[Notice]| notices.show_new(all).into_iter().map(text).collect::<Vec<_>>().concat();
        let line = |text: &str| Notice::Line(text.into());
        let progress = |text: &str| Notice::Progress(text.into());
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[line("damaged"), line("unpacking")]), "damaged\nunpacking\n");
        assert_eq!(shown(&[line("damaged"), line("unpacking"), progress("1")]), "\r1");
        assert_eq!(shown(&[line("damaged"), line("unpacking"), progress("2")]), "\r2");
        assert_eq!(shown(&[line("damaged"), line("unpacking"), progress("3"), line("end")]), "\r3\nend\n");
    }

    #[test]
    fn progress_overwrites_progress_and_is_removed_at_the_end() {
        let mut notices = Notices::default();
        assert_eq!(ended(&mut notices, false), [""; 0], "nothing was shown");
        let line = |text: &str| Notice::Line(text.into());
        let progress = |text: &str| Notice::Progress(text.into());
        let shown = [line("begin"), progress("9 of 9é"), progress("é"), line("next"), progress("b")]
            .map(|notice| text(notices.show(&notice)));
        assert_eq!(shown, ["begin\n", "\r9 of 9é", "\ré      ", "\nnext\n", "\rb"]);
        assert_eq!(ended(&mut notices, false), ["\n", "clear, wait: false"]);
        assert_eq!(ended(&mut notices, false), [""; 0], "once");
        notices.show(&line("the archive is damaged"));
        assert_eq!(ended(&mut notices, true), [""; 0]);
        notices.show(&progress("1 of 2"));
        assert_eq!(ended(&mut notices, true), ["\n"]);
    }
}
