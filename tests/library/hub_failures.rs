//! Causes of failed downloads: errors name the proxy, the token or the missing DNS.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use headstart::weights::Hub;

use crate::hub::{Conduct, file, serve};

/// Starts a proxy that answers each request with a status, and returns its address.
fn proxy(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(|line| line.ok()).take_while(|line| !line.is_empty()).for_each(drop);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

/// The test starts itself as child processes with other environments; each prints the error of its download.
#[test]
fn the_proxy_or_the_token_is_named_with_the_cause() {
    const CHILD: &str = "HEADSTART_TEST_ENDPOINT";
    if let Ok(endpoint) = std::env::var(CHILD) {
        let folder = tempfile::tempdir().unwrap();
        let (_, wanted) = file(folder.path());
        let hub = Hub {
            endpoint: Some(endpoint),
            shared_cache: None,
            folder: folder.path().join("kept"),
            offline: false,
            timeout: Duration::from_secs(20),
        };
        println!("{}", hub.fetch(&wanted).unwrap_err());
        return;
    }
    let said = |endpoint: &str, variables: &[(&str, &str)]| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "HF_TOKEN"] {
            child.env_remove(name).env_remove(name.to_lowercase());
        }
        child.args([
            "--exact",
            "hub_failures::the_proxy_or_the_token_is_named_with_the_cause",
            "--nocapture",
        ]);
        let child = child.env(CHILD, endpoint).env("HF_HOME", "/nowhere").envs(variables.iter().copied());
        let done = child.output().unwrap();
        let output = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{output}{}", String::from_utf8_lossy(&done.stderr));
        println!("{output}");
        output
    };
    let nowhere = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string() };
    let wants = proxy("407 Proxy Authentication Required");
    let refuses = proxy("403 Forbidden");
    for (variable, address, parts) in [
        ("HTTPS_PROXY", wants.clone(), [&*wants, "requires a user name and password (407)"]),
        ("HTTPS_PROXY", format!("user:secret@{wants}"), [&wants, "refused the user name and password (407)"]),
        ("ALL_PROXY", refuses.clone(), [&refuses, "refused the connection (403 Forbidden)"]),
        ("HTTP_PROXY", nowhere.clone(), [&nowhere, "could not be reached: Connection refused"]),
        ("HTTPS_PROXY", "proxy.invalid:3128".into(), ["proxy.invalid:3128", "there is no DNS"]),
        ("ALL_PROXY", format!("socks5://{nowhere}"), [&nowhere, "is a SOCKS proxy"]),
    ] {
        let said = said(
            "http://hub.invalid",
            &[(variable, &format!("http://{address}").replace("http://socks5", "socks5"))],
        );
        for part in parts.into_iter().chain([variable, "hint: set HTTPS_PROXY"]) {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert_eq!(said.matches(parts[0]).count(), 1, "the proxy is named once: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let said_directly = said("http://hub.invalid", &[]);
    assert!(said_directly.contains("the name of http://hub.invalid was not found"), "{said_directly}");
    // Hosts in NO_PROXY are requested directly.
    let direct = said(
        "http://hub.invalid",
        &[("HTTPS_PROXY", &format!("http://{wants}")), ("NO_PROXY", "hub.invalid")],
    );
    assert!(direct.contains("hub.invalid was not found") && !direct.contains(&wants), "{direct}");
    let server =
        serve(&[], vec![Conduct::Status("401 Unauthorized\r\nX-Error-Message: Token \"t\" is expired")]);
    let token = said(&server.address, &[("HF_TOKEN", "hf_secret")]);
    for part in ["the token of HF_TOKEN is wrong or expired (Token \"t\" is expired)", "settings/tokens"] {
        assert!(token.contains(part) && !token.contains("hf_secret"), "{token}");
    }
}
