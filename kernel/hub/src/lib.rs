//! The protocol for downloads from the Hugging Face Hub: one file, sent as a sequence of pieces.
//!
//! The HTTP client and its dependencies are a hundred crates, and rustc would read each of them for every
//! cell. So the prelude of Headstart's own kernel has no HTTP client. It starts the kernel's program, which
//! downloads the file and writes [`Piece`]s to a pipe. `headstart-fetch` is the client.
#![deny(missing_docs)]

use std::io::{self, Read, Write};
use std::time::Duration;

/// First argument of a process that writes pieces to its standard output. The request's arguments follow.
pub const COMMAND: &str = "fetch-pieces";

/// A file to download, and the byte to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// URL of the server. Default: huggingface.co.
    pub endpoint: Option<String>,
    /// Owner and name of the repository.
    pub repository: String,
    /// Path of the file in the repository.
    pub file: String,
    /// A commit or a branch.
    pub revision: String,
    /// Number of bytes that are already downloaded.
    pub from: u64,
    /// Longest time without data from the server before the download fails.
    pub timeout: Duration,
}

impl Request {
    /// Converts the request to a program's arguments.
    pub fn to_arguments(&self) -> [String; 6] {
        [
            self.endpoint.clone().unwrap_or_default(),
            self.repository.clone(),
            self.file.clone(),
            self.revision.clone(),
            self.from.to_string(),
            self.timeout.as_millis().to_string(),
        ]
    }

    /// Parses a program's arguments; `None` if they are not a request.
    pub fn from_arguments(arguments: &[String]) -> Option<Request> {
        let [endpoint, repository, file, revision, from, timeout] = arguments else { return None };
        Some(Request {
            endpoint: Some(endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
            repository: repository.clone(),
            file: file.clone(),
            revision: revision.clone(),
            from: from.parse().ok()?,
            timeout: Duration::from_millis(timeout.parse().ok()?),
        })
    }

    /// Name of the server for messages.
    pub fn server(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("huggingface.co")
    }
}

/// One piece of the reply to a request. The order is: the length, the bytes, and the end or a failure.
///
/// ```
/// use headstart_hub::Piece;
///
/// let mut pipe = Vec::new();
/// Piece::Bytes(vec![1, 2, 3]).write(&mut pipe)?;
/// Piece::End.write(&mut pipe)?;
/// let mut pipe = pipe.as_slice();
/// assert_eq!(Piece::read(&mut pipe)?, Piece::Bytes(vec![1, 2, 3]));
/// assert_eq!(Piece::read(&mut pipe)?, Piece::End);
/// assert!(Piece::read(&mut pipe).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Number of bytes that follow, if the server sends it.
    Length(u64),
    /// Bytes of the file.
    Bytes(Vec<u8>),
    /// End of the file.
    End,
    /// The download failed, with a message.
    Failed(String),
    /// The server requires a token.
    Denied(String),
    /// The server rejected the token.
    TokenRefused(String),
    /// The proxy rejected the request or cannot be reached.
    ProxyFailed(String),
}

impl Piece {
    /// Writes the piece: a letter, the content's length in 8 bytes (little-endian), the content.
    ///
    /// # Errors
    /// Returns an error if the writer fails.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length;
        let (kind, content): (u8, &[u8]) = match self {
            Piece::Length(bytes) => {
                length = bytes.to_le_bytes();
                (b'l', &length)
            }
            Piece::Bytes(bytes) => (b'b', bytes),
            Piece::End => (b'e', &[]),
            Piece::Failed(message) => (b'f', message.as_bytes()),
            Piece::Denied(message) => (b'd', message.as_bytes()),
            Piece::TokenRefused(message) => (b't', message.as_bytes()),
            Piece::ProxyFailed(message) => (b'p', message.as_bytes()),
        };
        to.write_all(&[kind])?;
        to.write_all(&(content.len() as u64).to_le_bytes())?;
        to.write_all(content)?;
        to.flush()
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// Returns an error if the reader fails, or [`io::ErrorKind::InvalidData`] if the data is not a piece.
    pub fn read(from: &mut impl Read) -> io::Result<Piece> {
        let (mut kind, mut length) = ([0], [0; 8]);
        from.read_exact(&mut kind)?;
        from.read_exact(&mut length)?;
        let mut content = Vec::new();
        let length = u64::from_le_bytes(length);
        if from.take(length).read_to_end(&mut content)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = |content: Vec<u8>| String::from_utf8_lossy(&content).into_owned();
        match (kind[0], content) {
            (b'l', content) => content.try_into().map(|bytes| Piece::Length(u64::from_le_bytes(bytes))).ok(),
            (b'b', content) => Some(Piece::Bytes(content)),
            (b'e', _) => Some(Piece::End),
            (b'f', content) => Some(Piece::Failed(text(content))),
            (b'd', content) => Some(Piece::Denied(text(content))),
            (b't', content) => Some(Piece::TokenRefused(text(content))),
            (b'p', content) => Some(Piece::ProxyFailed(text(content))),
            _ => None,
        }
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
