//! Error messages for failed requests. Each names the cause: the server, the proxy or the token.

use std::time::Duration;

use headstart_hub::Piece;
use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::{Error, Proxy, ProxyProtocol};

use crate::token::Token;

/// Environment variables with a proxy's address, in the order in which `ureq` reads them.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// Beginning of the standard library's message when a name cannot be resolved; the error has no kind of its own.
const NAME_NOT_FOUND: &str = "failed to lookup address information";
/// Header in which the Hub explains a status.
const EXPLANATION: &str = "x-error-message";

/// Proxy of a request, and the environment variable that names it.
pub(crate) struct UsedProxy {
    proxy: Proxy,
    variable: &'static str,
}

impl UsedProxy {
    /// The proxy that a request to this address goes through.
    pub(crate) fn of(url: &str) -> Option<UsedProxy> {
        let proxy = Proxy::try_from_env()?;
        let is_set = |name: &&&str| std::env::var(name).is_ok_and(|address| Proxy::new(&address).is_ok());
        let variable = PROXY_VARIABLES.iter().find(is_set).copied().unwrap_or("HTTPS_PROXY");
        let is_direct = url.parse::<Uri>().is_ok_and(|url| proxy.is_no_proxy(&url));
        (!is_direct).then_some(UsedProxy { proxy, variable })
    }

    /// The proxy as a message names it, without its password.
    fn name(&self) -> String {
        let (host, port) = (self.proxy.host(), self.proxy.port());
        format!("the proxy {host}:{port} of {}", self.variable)
    }

    fn is_socks(&self) -> bool {
        !matches!(self.proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
    }

    /// Failure of a CONNECT request. `ureq` gives the proxy's status in its message only.
    fn refusal(&self, message: &str) -> String {
        let digits = message.rsplit(' ').next().and_then(|status| status.split('/').next());
        let status = digits.and_then(|digits| digits.parse().ok()).and_then(|n| StatusCode::from_u16(n).ok());
        let name = self.name();
        match status {
            Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED) if self.proxy.username().is_some() => {
                format!("{name} refused the user name and password (407)")
            }
            Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
                format!("{name} requires a user name and password (407)")
            }
            Some(status) => {
                let reason = status.canonical_reason().unwrap_or("an unknown status");
                format!("{name} refused the connection ({} {reason})", status.as_u16())
            }
            None => format!("{name} failed: {message}"),
        }
    }
}

/// Failure for a request without an answer.
pub(crate) fn no_answer(error: Error, server: &str, proxy: Option<&UsedProxy>, timeout: Duration) -> Piece {
    // `ureq` ignores a SOCKS proxy and connects directly.
    if let Some(socks) = proxy.filter(|proxy| proxy.is_socks()) {
        let name = socks.name();
        return Piece::ProxyFailed(format!("{name} is a SOCKS proxy, and only HTTP proxies are supported"));
    }
    let target = proxy.map_or_else(|| server.to_owned(), UsedProxy::name);
    let failed = if proxy.is_some() { Piece::ProxyFailed } else { Piece::Failed };
    let no_name =
        || failed(format!("the name of {target} was not found: there is no DNS, or the name is wrong"));
    match (error, proxy) {
        (Error::ConnectProxyFailed(message), Some(proxy)) => Piece::ProxyFailed(proxy.refusal(&message)),
        (Error::HostNotFound, _) => no_name(),
        (Error::Io(error), _) if error.to_string().starts_with(NAME_NOT_FOUND) => no_name(),
        (Error::Io(error), _) => failed(format!("{target} could not be reached: {error}")),
        (Error::Timeout(_), Some(_)) => {
            Piece::Failed(format!("{server} did not answer within {timeout:?} through {target}"))
        }
        (Error::Timeout(_), None) => Piece::Failed(format!("{server} did not answer within {timeout:?}")),
        (error, _) => Piece::Failed(format!("the request to {server} failed: {error}")),
    }
}

/// Failure for an answer whose status is not a success.
pub(crate) fn refused(status: StatusCode, headers: &HeaderMap, from: &str, token: Option<&Token>) -> Piece {
    let quoted = headers.get(EXPLANATION).and_then(|text| text.to_str().ok());
    let quoted = quoted.map_or(String::new(), |text| format!(" ({text})"));
    let answer = |meaning: &str| format!("{from} answered: {} {meaning}{quoted}", status.as_u16());
    match (status, token) {
        (StatusCode::UNAUTHORIZED, Some(token)) => {
            Piece::TokenRefused(answer(&format!("the token of {} is wrong or expired", token.source)))
        }
        (StatusCode::UNAUTHORIZED, None) => Piece::Denied(answer("authentication required: no token is set")),
        (StatusCode::FORBIDDEN, Some(token)) => {
            let what = format!("forbidden: the token of {} may not read this repository", token.source);
            Piece::Denied(answer(&what))
        }
        (StatusCode::FORBIDDEN, None) => Piece::Denied(answer("forbidden: no token is set")),
        (StatusCode::NOT_FOUND, _) => {
            Piece::Failed(answer("not found: there is no such repository, revision or file"))
        }
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, _) => {
            Piece::ProxyFailed(answer("the proxy requires a user name and password"))
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            Piece::Failed(answer("too many requests: try again in a few minutes"))
        }
        (status, _) => Piece::Failed(answer(status.canonical_reason().unwrap_or("an unknown status"))),
    }
}
