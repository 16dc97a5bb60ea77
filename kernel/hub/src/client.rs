//! The part that speaks with the Hub.

use std::io::{self, Write};

use futures_util::StreamExt;
use hf_hub::{HFClient, HFError};

use crate::{Piece, Request};

/// Asks the Hub for a file and writes what comes. `hf-hub` reads `HF_TOKEN`, and its HTTP client the
/// proxies, from the environment.
///
/// # Errors
/// Whatever the writer says. What the server says is written.
pub fn fetch(request: &Request, to: &mut impl Write) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let last = match runtime.block_on(send(request, to)) {
        Ok(()) => Piece::End,
        Err(Stop::Writer(error)) => return Err(error),
        Err(Stop::Server(piece)) => piece,
    };
    last.write(to)
}

enum Stop {
    Writer(io::Error),
    Server(Piece),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Writer(error)
    }
}

async fn send(request: &Request, to: &mut impl Write) -> Result<(), Stop> {
    let fail = |what: String| Stop::Server(Piece::Failed(what));
    let (server, patience) = (request.server(), request.patience);
    let mut builder = HFClient::builder();
    if let Some(endpoint) = &request.endpoint {
        builder = builder.endpoint(endpoint);
    }
    let client = builder.build().map_err(|error| fail(error.to_string()))?;
    let (owner, name) = request.repository.split_once('/').unwrap_or(("", &request.repository));
    let model = client.model(owner, name);
    let asked = async {
        let asked =
            model.download_file_stream().filename(request.file.clone()).revision(request.revision.clone());
        match request.from {
            0 => asked.send().await,
            from => asked.range(from..u64::MAX).send().await,
        }
    };
    let (length, mut stream) = tokio::time::timeout(patience, asked)
        .await
        .map_err(|_| fail(format!("{server} did not answer within {patience:?}")))?
        .map_err(|error| {
            let said = format!("{server} said: {error}");
            Stop::Server(match error {
                HFError::AuthRequired { .. } | HFError::Forbidden { .. } => Piece::Denied(said),
                _ => Piece::Failed(said),
            })
        })?;
    if let Some(length) = length {
        Piece::Length(length).write(to)?;
    }
    let mut sent = 0;
    loop {
        let next = tokio::time::timeout(patience, stream.next()).await.map_err(|_| {
            let done = request.from + sent;
            fail(format!("{server} sent nothing for {patience:?} after {done} bytes"))
        })?;
        match next {
            Some(Ok(bytes)) => {
                sent += bytes.len() as u64;
                Piece::Bytes(bytes.into()).write(to)?;
            }
            Some(Err(error)) => return Err(fail(format!("the connection broke off: {error}"))),
            None => break,
        }
    }
    match length {
        Some(length) if length > sent => Err(fail(format!("{server} sent {sent} of {length} bytes"))),
        _ => Ok(()),
    }
}
