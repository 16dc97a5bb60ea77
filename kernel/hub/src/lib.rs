//! One file from the Hugging Face Hub, piece by piece.
//!
//! The HTTP client and its dependencies are a hundred crates, and the compiler reads each of them for every
//! cell. So the prelude of Headstart's own kernel has no client: it starts the kernel's program, which downloads
//! the file and writes [`Piece`]s to a pipe. `headstart-fetch` is the client.
#![deny(missing_docs)]

use std::io::{self, Read, Write};
use std::time::Duration;

/// First argument of a process that writes pieces to its standard output; the request's arguments follow.
pub const COMMAND: &str = "fetch-pieces";

/// Which file, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The server, if not huggingface.co.
    pub endpoint: Option<String>,
    /// Owner and name of the repository.
    pub repository: String,
    /// The file's path there.
    pub file: String,
    /// A commit or a branch.
    pub revision: String,
    /// How many bytes are there already.
    pub from: u64,
    /// A server that sends nothing for this long has failed.
    pub timeout: Duration,
}

impl Request {
    /// The request as the arguments of a program.
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

    /// The request that a program was given; `None` if it is none.
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

    /// The server's name in messages.
    pub fn server(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("huggingface.co")
    }
}

/// What comes of a request, in this order: the length, the bytes, and the end or a failure.
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
    /// How many bytes are to come, if the server says so.
    Length(u64),
    /// Bytes of the file.
    Bytes(Vec<u8>),
    /// The server sends no more.
    End,
    /// Why no more comes.
    Failed(String),
    /// The server wants a token.
    Denied(String),
    /// The server refuses the token that was sent.
    TokenRefused(String),
    /// The proxy refuses, or cannot be reached.
    ProxyFailed(String),
}

impl Piece {
    /// Writes it: a letter, the content's length in 8 bytes, the content.
    ///
    /// # Errors
    /// Whatever the writer says.
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

    /// Reads the next one.
    ///
    /// # Errors
    /// Whatever the reader says; [`io::ErrorKind::InvalidData`] if this is no piece.
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
