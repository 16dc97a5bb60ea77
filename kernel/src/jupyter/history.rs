//! History of cells, saved across sessions, in the tables that IPython uses (`IPython/core/history.py`), so
//! that its tools can read them.

use std::path::Path;

use jupyter_protocol::{HistoryEntry, HistoryReply, ReplyError, ReplyStatus};
use rusqlite::{Connection, Error, Row, params};
use serde::Deserialize;
use serde_json::Value;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS sessions (
        session INTEGER PRIMARY KEY AUTOINCREMENT, start TIMESTAMP, end TIMESTAMP, num_cmds INTEGER, remark TEXT);
    CREATE TABLE IF NOT EXISTS history (
        session INTEGER, line INTEGER, source TEXT, source_raw TEXT, PRIMARY KEY (session, line));
    CREATE TABLE IF NOT EXISTS output_history (
        session INTEGER, line INTEGER, output TEXT, PRIMARY KEY (session, line));";
const ENTRIES: &str = "SELECT session, line, source_raw, COALESCE(output, '') \
    FROM history LEFT JOIN output_history USING (session, line)";

/// A `history_request`. Missing fields have IPython's defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct HistoryRequest {
    hist_access_type: String,
    output: bool,
    session: Option<i64>,
    start: i64,
    stop: Option<i64>,
    n: Option<i64>,
    pattern: Option<String>,
    unique: bool,
}

impl Default for HistoryRequest {
    fn default() -> HistoryRequest {
        HistoryRequest {
            hist_access_type: "tail".into(),
            output: false,
            session: None,
            start: 1,
            stop: None,
            n: None,
            pattern: None,
            unique: false,
        }
    }
}

/// The history of all sessions, and the number of this one.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    session: i64,
}

impl History {
    /// Starts a session in the user's data folder, or in memory if the folder is not writable.
    pub fn begin() -> Result<History, String> {
        let file = dirs::data_dir().map(|folder| folder.join("headstart/history.sqlite"));
        let kept = file.ok_or("there is no data folder".to_owned()).and_then(|file| History::open(&file));
        kept.or_else(|problem| {
            eprintln!("the history is not saved: {problem}");
            let connection = Connection::open_in_memory().map_err(|error| error.to_string())?;
            History::with(connection).map_err(|error| error.to_string())
        })
    }

    fn open(file: &Path) -> Result<History, String> {
        let complain = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        std::fs::create_dir_all(file.parent().unwrap_or(file)).map_err(|error| complain(&error))?;
        Connection::open(file).and_then(History::with).map_err(|error| complain(&error))
    }

    fn with(connection: Connection) -> Result<History, Error> {
        // Several kernels may write to the file at the same time.
        connection.busy_timeout(std::time::Duration::from_secs(2))?;
        connection.execute_batch(TABLES)?;
        connection.execute("INSERT INTO sessions (start) VALUES (CURRENT_TIMESTAMP)", [])?;
        let session = connection.last_insert_rowid();
        Ok(History { connection, session })
    }

    /// Adds a cell and the text of its value.
    pub fn add(&self, line: usize, source: &str, output: Option<&str>) {
        let add = || -> Result<(), Error> {
            let line = line as i64;
            self.connection.execute(
                "INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)",
                params![self.session, line, source, source],
            )?;
            if let Some(output) = output {
                self.connection.execute(
                    "INSERT OR REPLACE INTO output_history VALUES (?, ?, ?)",
                    params![self.session, line, output],
                )?;
            }
            Ok(())
        };
        if let Err(error) = add() {
            eprintln!("a cell was not saved in the history: {error}");
        }
    }

    /// Answers a `history_request`.
    pub fn answer(&self, request: Value) -> HistoryReply {
        let found = serde_json::from_value(request)
            .map_err(|error| error.to_string())
            .and_then(|request| self.find(&request).map_err(|error| error.to_string()));
        match found {
            Ok(history) => HistoryReply::new(history),
            Err(evalue) => {
                let error = ReplyError { ename: "HistoryError".into(), evalue, traceback: Vec::new() };
                HistoryReply { status: ReplyStatus::Error, error: Some(Box::new(error)), history: Vec::new() }
            }
        }
    }

    fn find(&self, request: &HistoryRequest) -> Result<Vec<HistoryEntry>, Error> {
        let read = |row: &Row| -> Result<HistoryEntry, Error> {
            let number = |at: usize| row.get::<_, i64>(at).map(|number| number as usize);
            let (session, line, source) = (number(0)?, number(1)?, row.get(2)?);
            Ok(match request.output {
                true => HistoryEntry::InputOutput(session, line, (source, row.get(3)?)),
                false => HistoryEntry::Input(session, line, source),
            })
        };
        let all = i64::MAX;
        let mut entries: Vec<HistoryEntry> = match request.hist_access_type.as_str() {
            "range" => {
                // As in IPython: 0 is this session, a negative number counts back from it, a positive one
                // is a session's number.
                let session = match request.session.unwrap_or(0) {
                    before @ ..=0 => self.session + before,
                    session => session,
                };
                let sql =
                    format!("{ENTRIES} WHERE session = ? AND line >= ? AND line < ? ORDER BY line DESC");
                let bounds = params![session, request.start, request.stop.unwrap_or(all)];
                self.connection.prepare(&sql)?.query_map(bounds, read)?.collect::<Result<_, _>>()?
            }
            "search" => {
                let latest = if request.unique {
                    "GROUP BY source_raw HAVING MAX(session * 1000000 + line)"
                } else {
                    ""
                };
                let sql = format!(
                    "{ENTRIES} WHERE source_raw GLOB ? {latest} ORDER BY session DESC, line DESC LIMIT ?"
                );
                let bounds = params![request.pattern.as_deref().unwrap_or("*"), request.n.unwrap_or(all)];
                self.connection.prepare(&sql)?.query_map(bounds, read)?.collect::<Result<_, _>>()?
            }
            _ => {
                let sql = format!("{ENTRIES} ORDER BY session DESC, line DESC LIMIT ?");
                self.connection
                    .prepare(&sql)?
                    .query_map(params![request.n.unwrap_or(10)], read)?
                    .collect::<Result<_, _>>()?
            }
        };
        entries.reverse();
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(history: &History, request: Value) -> Vec<(usize, usize, String)> {
        let entry = |entry: HistoryEntry| match entry {
            HistoryEntry::Input(session, line, source) => (session, line, source),
            HistoryEntry::InputOutput(session, line, (source, output)) => {
                (session, line, source + "→" + &output)
            }
        };
        history.answer(request).history.into_iter().map(entry).collect()
    }

    #[test]
    fn a_session_finds_its_cells_and_those_of_earlier_sessions() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data/history.sqlite");
        let first = History::open(&file).unwrap();
        for (line, source) in ["let a = 1;", "a", "let a = 1;"].into_iter().enumerate() {
            first.add(line + 1, source, (source == "a").then_some("1"));
        }
        let second = History::open(&file).unwrap();
        second.add(1, "a + 1", Some("2"));
        let entry = |session: usize, line: usize, text: &str| (session, line, text.to_owned());
        let tail = json!({"hist_access_type": "tail", "n": 2, "output": true, "raw": true});
        assert_eq!(texts(&second, tail), [entry(1, 3, "let a = 1;→"), entry(2, 1, "a + 1→2")]);
        let range = json!({"hist_access_type": "range", "session": -1, "start": 2});
        assert_eq!(texts(&second, range), [entry(1, 2, "a"), entry(1, 3, "let a = 1;")]);
        let own = json!({"hist_access_type": "range", "session": 0, "start": 1, "stop": 2});
        assert_eq!(texts(&second, own), [entry(2, 1, "a + 1")]);
        let search = json!({"hist_access_type": "search", "pattern": "let*", "unique": true});
        assert_eq!(texts(&second, search).len(), 1);
        assert_eq!(second.answer(json!({"n": "many"})).status, ReplyStatus::Error);
    }
}
