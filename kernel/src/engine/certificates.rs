//! Prevents cargo from reading the system's certificates for each cell.
//!
//! cargo's git library reads them at every start, which takes two fifths of cargo's time for a cell. They
//! are needed only to fetch crates.

use crate::compile::evcxr_text::commands::BUILD_VARIABLE;

/// Environment variable with the path of the certificates, for the git library and for cargo.
const VARIABLE: &str = "SSL_CERT_FILE";
/// Code with which evcxr may fetch a crate (tokio for the last one), or a build script may download files.
const FETCHING: [&str; 4] = [":dep", ":load_config", "extern crate", ".await"];

/// Command that hides the certificates from evcxr's cargo, if there are any.
pub fn without() -> Option<String> {
    found().map(|_| command("/dev/null"))
}

/// Command that makes them available again, if a cell with this code may need them.
pub fn for_cell(code: &str) -> Option<String> {
    let may_fetch = FETCHING.iter().any(|word| code.contains(word));
    may_fetch.then(found)?.map(|path| command(&path))
}

fn command(path: &str) -> String {
    format!("{BUILD_VARIABLE}{VARIABLE}={path}\n")
}

/// On other systems, certificates are not read by OpenSSL.
#[cfg(target_os = "linux")]
fn found() -> Option<String> {
    Some(openssl_probe::probe().cert_file?.to_str()?.to_owned())
}

#[cfg(not(target_os = "linux"))]
fn found() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_may_fetch_find_certificates() {
        let Some(path) = found() else { return assert_eq!(without(), None) };
        assert_eq!(without().unwrap(), ":build_env SSL_CERT_FILE=/dev/null\n");
        for code in [":dep a = \"1\"", "#[macro_use] extern crate a;", "let b = f().await?;"] {
            assert_eq!(for_cell(code).unwrap(), format!(":build_env SSL_CERT_FILE={path}\n"));
        }
        assert_eq!(["let dep = 1;", ":timing", "await_all()"].map(for_cell), [None, None, None]);
    }
}
