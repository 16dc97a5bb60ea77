//! The HTTP client that downloads a file from the Hugging Face Hub: one ranged GET request.
//!
//! `hf-hub` supplies the Hub's addresses and finds the user's token; `ureq` transfers the bytes. `hf-hub`'s
//! own download checks neither the status nor the size, and cannot resume.
#![deny(missing_docs)]

mod failure;
mod token;

use std::io::{self, Read, Write};
use std::time::Duration;

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Repo, RepoType};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Error, ResponseExt as _};

use headstart_hub::{Piece, Request};

use failure::UsedProxy;
use token::Token;

const USER_AGENT: &str = concat!("headstart/", env!("CARGO_PKG_VERSION"));
/// Size of one [`Piece::Bytes`] (64 KiB).
const PIECE_SIZE: usize = 64 << 10;

/// Requests a file from the Hub and writes its pieces.
///
/// The token is `HF_TOKEN`'s, or that of `huggingface-cli login`. The proxies are those of `HTTPS_PROXY`,
/// `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
///
/// # Errors
/// Returns an error only if the writer fails. A failure of the server or the proxy is written as a piece.
pub fn fetch(request: &Request, to: &mut impl Write) -> io::Result<()> {
    let last = match send(request, to) {
        Ok(()) => Piece::End,
        Err(Stop::Writer(error)) => return Err(error),
        Err(Stop::Server(piece)) => piece,
    };
    last.write(to)
}

/// Why a download ended early.
enum Stop {
    Writer(io::Error),
    Server(Piece),
}

impl Stop {
    fn failed(message: String) -> Stop {
        Stop::Server(Piece::Failed(message))
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Writer(error)
    }
}

fn send(request: &Request, to: &mut impl Write) -> Result<(), Stop> {
    let server = request.server();
    let url = url(request).map_err(|error| Stop::failed(error.to_string()))?;
    let mut get = agent(request.timeout).get(&url).header(header::USER_AGENT, USER_AGENT);
    let token = Token::find();
    if let Some(token) = &token {
        get = get.header(header::AUTHORIZATION, format!("Bearer {}", token.secret));
    }
    if request.from > 0 {
        get = get.header(header::RANGE, format!("bytes={}-", request.from));
    }
    let mut response = get.call().map_err(|error| {
        Stop::Server(failure::no_answer(error, server, UsedProxy::of(&url).as_ref(), request.timeout))
    })?;
    let status = response.status();
    if !status.is_success() {
        let from = response.get_uri().host().unwrap_or(server);
        return Err(Stop::Server(failure::refused(status, response.headers(), from, token.as_ref())));
    }
    // A server that does not support ranges sends the file from its first byte.
    let skipped = if status == StatusCode::PARTIAL_CONTENT { 0 } else { request.from };
    let length = response.body().content_length().map(|length| length.saturating_sub(skipped));
    if let Some(length) = length {
        Piece::Length(length).write(to)?;
    }
    let sent = send_body(request, skipped, response.body_mut(), to)?;
    match length {
        Some(length) if length > sent => Err(Stop::failed(format!("{server} sent {sent} of {length} bytes"))),
        _ => Ok(()),
    }
}

/// Writes all bytes after the first `skipped`, and returns how many it wrote.
fn send_body(request: &Request, skipped: u64, body: &mut Body, to: &mut impl Write) -> Result<u64, Stop> {
    let mut reader = body.as_reader();
    let mut sent = 0;
    let failed = |error: io::Error, sent: u64| {
        let (server, done) = (request.server(), request.from + sent);
        Stop::failed(match Error::from(error) {
            Error::Timeout(_) => {
                format!("{server} sent nothing for {:?} after {done} bytes", request.timeout)
            }
            error => format!("the connection was closed after {done} bytes: {error}"),
        })
    };
    io::copy(&mut reader.by_ref().take(skipped), &mut io::sink()).map_err(|error| failed(error, 0))?;
    let mut bytes = vec![0; PIECE_SIZE];
    loop {
        match reader.read(&mut bytes).map_err(|error| failed(error, sent))? {
            0 => return Ok(sent),
            length => {
                sent += length as u64;
                Piece::Bytes(bytes[..length].to_vec()).write(to)?;
            }
        }
    }
}

fn url(request: &Request) -> Result<String, hf_hub::api::sync::ApiError> {
    let mut api = ApiBuilder::new();
    if let Some(endpoint) = &request.endpoint {
        api = api.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let repository =
        Repo::with_revision(request.repository.clone(), RepoType::Model, request.revision.clone());
    Ok(api.build()?.repo(repository).url(&request.file))
}

fn agent(timeout: Duration) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_resolve(Some(timeout))
        .timeout_connect(Some(timeout))
        .timeout_per_read(Some(timeout));
    if let Some(certificates) = system_certificates() {
        config = config.tls_config(TlsConfig::builder().root_certs(certificates).build());
    }
    config.build().into()
}

/// The certificates that the system trusts, such as those of a company's proxy. `None` selects Mozilla's.
#[cfg(target_os = "linux")]
fn system_certificates() -> Option<RootCerts> {
    let bundle = std::fs::read(openssl_probe::probe().cert_file?).ok()?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&bundle)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    (!certificates.is_empty()).then(|| certificates.into())
}

#[cfg(not(target_os = "linux"))]
fn system_certificates() -> Option<RootCerts> {
    None
}
