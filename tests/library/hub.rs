//! Downloads from a local server that imitates the Hub, including its failures.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headstart::Result;
use headstart::prelude::*;
use headstart::weights::{Hub, Pretrained, named};
use sha2::{Digest, Sha256};

/// How the server answers a request for the file.
#[derive(Clone, Debug)]
pub enum Conduct {
    Well,
    Status(&'static str),
    /// Status 200, but a page instead of the file.
    Page,
    /// Announces the full length, and disconnects after this many bytes.
    BreakOff(usize),
    /// Sends this many bytes, then nothing.
    Stall(usize),
    /// Sends the file with one byte changed.
    OneByteOff,
    /// Redirects to another server.
    Redirect(String),
    /// Sends slowly, so that other clients connect in the meantime.
    Slowly,
}

pub struct Server {
    pub address: String,
    /// Requests for the file, each with its range.
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

pub fn serve(content: &[u8], conducts: Vec<Conduct>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (content, log, count) = (content.to_vec(), asked.clone(), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (content, conducts, log, count) =
                (content.clone(), conducts.clone(), log.clone(), count.clone());
            std::thread::spawn(move || answer(stream, &content, &conducts, &log, &count));
        }
    });
    Server { address, asked }
}

fn answer(
    mut stream: TcpStream,
    content: &[u8],
    conducts: &[Conduct],
    log: &Mutex<Vec<Option<String>>>,
    count: &AtomicUsize,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
        }
        let is_head = first.starts_with("HEAD");
        let at = if is_head { count.load(Ordering::SeqCst) } else { count.fetch_add(1, Ordering::SeqCst) };
        let conduct = &conducts[at.min(conducts.len() - 1)];
        let range = headers.get("range").cloned();
        if !is_head {
            log.lock().unwrap().push(range.clone());
        }
        let start =
            range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
        let start: usize = if is_head { 0 } else { start.unwrap_or(0).min(content.len()) };
        let rest = &content[start..];
        let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
        let mut head = |status: &str, length: usize, more: &str| {
            let common = "X-Repo-Commit: 0123456789012345678901234567890123456789\r\nETag: \"e\"\r\n";
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{common}{more}\r\n")
        };
        let sent = match conduct {
            Conduct::Status(status) => head(status, 0, ""),
            Conduct::Redirect(to) => {
                let path = first.split_whitespace().nth(1).unwrap_or("/");
                head("302 Found", 0, &format!("Location: {to}{path}\r\n"))
            }
            Conduct::Page => {
                let page = b"<html><body>Please log in</body></html>";
                head("200 OK", page.len(), "")
                    .and_then(|()| if is_head { Ok(()) } else { stream.write_all(page) })
            }
            _ => head(status, rest.len(), ""),
        };
        if sent.is_err() || is_head {
            continue;
        }
        let done = match conduct {
            Conduct::Well => stream.write_all(rest).is_ok(),
            Conduct::OneByteOff => {
                let mut wrong = rest.to_vec();
                *wrong.last_mut().unwrap() ^= 1;
                stream.write_all(&wrong).is_ok()
            }
            Conduct::BreakOff(bytes) => {
                let _ = stream.write_all(&rest[..*bytes]);
                false
            }
            Conduct::Stall(bytes) => {
                let _ = stream.write_all(&rest[..*bytes]);
                std::thread::sleep(Duration::from_secs(20));
                false
            }
            Conduct::Slowly => rest.chunks(rest.len() / 8 + 1).all(|chunk| {
                std::thread::sleep(Duration::from_millis(80));
                stream.write_all(chunk).is_ok()
            }),
            Conduct::Status(_) | Conduct::Redirect(_) | Conduct::Page => true,
        };
        if !done {
            return;
        }
    }
}

/// Content of a weight file, and its entry in the manifest.
pub fn file(folder: &Path) -> (Vec<u8>, Pretrained) {
    let path = folder.join("made.safetensors");
    let values: Vec<f32> = (0..50_000).map(|at| at as f32).collect();
    let tensor = Tensor::from_vec(values, 50_000, &device()).unwrap();
    candle_core::safetensors::save(&HashMap::from([("a", tensor)]), &path).unwrap();
    let content = fs::read(path).unwrap();
    let mut wanted = named("resnet50.tv_in1k").unwrap().clone();
    wanted.repository = "owner/name".into();
    wanted.sha256 = Some(Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect());
    (content, wanted)
}

fn hub(folder: &Path, server: &Server) -> Hub {
    Hub {
        endpoint: Some(server.address.clone()),
        shared_cache: None,
        folder: folder.join("kept"),
        offline: false,
        timeout: Duration::from_secs(3),
    }
}

/// All `.safetensors` files in a folder and its subfolders.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(kept(&path)),
            path if path.extension().is_some_and(|extension| extension == "safetensors") => found.push(path),
            _ => {}
        }
    }
    found
}

/// Downloads from a server with the given behaviour and returns the error.
fn refused(conduct: Conduct) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let hub = hub(folder.path(), &serve(&content, vec![conduct.clone()]));
    let begin = Instant::now();
    let message = hub.fetch(&wanted).expect_err(&format!("{conduct:?}")).to_string();
    println!("{conduct:?}, after {:.1} s: {message}\n", begin.elapsed().as_secs_f64());
    assert_eq!(kept(&hub.folder), Vec::<PathBuf>::new(), "{conduct:?} left a file");
    assert!(message.contains("resnet50.tv_in1k") && message.contains("hint: "), "{message}");
    message
}

#[test]
fn files_are_downloaded_once_and_cached() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let server = serve(&content, vec![Conduct::Well]);
    let hub = hub(folder.path(), &server);
    assert!(!hub.verify(&wanted)?);
    let path = hub.fetch(&wanted)?;
    assert_eq!(fs::read(&path).unwrap(), content);
    assert!(hub.verify(&wanted)?);
    assert_eq!(hub.fetch(&wanted)?, path);
    let offline = Hub { offline: true, ..hub.clone() };
    assert_eq!(offline.fetch(&wanted)?, path);
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    // Later changes are detected.
    let mut changed = content.clone();
    changed.push(0);
    fs::write(&path, &changed).unwrap();
    let message = hub.fetch(&wanted).unwrap_err().to_string();
    assert!(
        message.contains(wanted.sha256.as_ref().unwrap()) && message.contains("remove the file"),
        "{message}"
    );
    Ok(())
}

#[test]
fn server_errors_are_reported() {
    assert!(refused(Conduct::Status("404 Not Found")).contains("not found"));
    assert!(refused(Conduct::Status("403 Forbidden")).to_lowercase().contains("forbidden"));
    let message = refused(Conduct::Status("401 Unauthorized"));
    assert!(message.contains("uthentication") && message.contains("hint: set HF_TOKEN"), "{message}");
}

#[test]
fn server_failures_are_errors() {
    refused(Conduct::Status("500 Internal Server Error"));
}

#[test]
fn html_pages_are_rejected() {
    assert!(refused(Conduct::Page).contains("SHA-256"));
    // The same without a known hash.
    let folder = tempfile::tempdir().unwrap();
    let (content, mut wanted) = file(folder.path());
    wanted.sha256 = None;
    let hub = hub(folder.path(), &serve(&content, vec![Conduct::Page]));
    let message = hub.fetch(&wanted).unwrap_err().to_string();
    assert!(message.contains("expected a .safetensors file, found 39 bytes"), "{message}");
    assert!(kept(&hub.folder).is_empty());
}

#[test]
fn a_wrong_byte_is_detected() {
    assert!(refused(Conduct::OneByteOff).contains("expected a file whose SHA-256 is"));
}

#[test]
fn a_stalled_server_times_out() {
    let begin = Instant::now();
    assert!(refused(Conduct::Stall(1000)).contains("sent nothing for 3s"));
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn interrupted_downloads_resume() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let server = serve(&content, vec![Conduct::BreakOff(70_000), Conduct::Well]);
    let hub = hub(folder.path(), &server);
    let message = hub.fetch(&wanted).unwrap_err().to_string();
    assert!(message.contains("was closed") || message.contains("70000 of"), "{message}");
    assert!(kept(&hub.folder).is_empty());
    assert_eq!(fs::read(hub.fetch(&wanted)?).unwrap(), content);
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked[0], None);
    assert!(asked[1].as_ref().is_some_and(|range| range.starts_with("bytes=70000-")), "{asked:?}");
    Ok(())
}

#[test]
fn partial_data_of_another_file_is_discarded() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let hub = hub(folder.path(), &serve(&content, vec![Conduct::Well]));
    let part = hub.path(&wanted).with_extension("part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![7; 1000]).unwrap();
    assert_eq!(fs::read(hub.fetch(&wanted)?).unwrap(), content);
    Ok(())
}

#[test]
fn redirects_to_another_host_are_followed() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let other = serve(&content, vec![Conduct::Well]);
    let hub = hub(folder.path(), &serve(&content, vec![Conduct::Redirect(other.address.clone())]));
    assert_eq!(fs::read(hub.fetch(&wanted)?).unwrap(), content);
    assert_eq!(other.asked.lock().unwrap().len(), 1);
    Ok(())
}

#[test]
fn concurrent_clients_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let server = serve(&content, vec![Conduct::Slowly]);
    let hub = hub(folder.path(), &server);
    let fetch = || fs::read(hub.fetch(&wanted).unwrap()).unwrap();
    let found =
        std::thread::scope(|scope| [scope.spawn(fetch), scope.spawn(fetch)].map(|t| t.join().unwrap()));
    assert!(found.iter().all(|found| *found == content));
    assert_eq!(server.asked.lock().unwrap().len(), 1);
}

#[test]
fn the_shared_cache_is_read() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let server = serve(&content, vec![Conduct::Well]);
    let snapshot =
        folder.path().join("hub/models--owner--name/snapshots").join(wanted.revision.as_ref().unwrap());
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(snapshot.join("model.safetensors"), &content).unwrap();
    let hub = Hub { shared_cache: Some(folder.path().join("hub")), ..hub(folder.path(), &server) };
    assert_eq!(hub.fetch(&wanted)?, snapshot.join("model.safetensors"));
    // A damaged file in the shared cache is ignored.
    fs::write(snapshot.join("model.safetensors"), &content[1..]).unwrap();
    assert!(hub.fetch(&wanted)?.starts_with(&hub.folder));
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    Ok(())
}

#[test]
fn without_a_known_hash_the_first_one_is_recorded() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (content, mut wanted) = file(folder.path());
    (wanted.sha256, wanted.revision) = (None, None);
    let hub = hub(folder.path(), &serve(&content, vec![Conduct::Well]));
    let path = hub.fetch(&wanted)?;
    assert!(hub.verify(&wanted)?);
    let mut changed = content.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, &changed).unwrap();
    assert!(hub.verify(&wanted).unwrap_err().to_string().contains("SHA-256"));
    changed.push(0);
    fs::write(&path, &changed).unwrap();
    assert!(hub.fetch(&wanted).unwrap_err().to_string().contains("SHA-256"));
    Ok(())
}

#[test]
fn offline_errors_name_the_cache_path() {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let server = serve(&content, vec![Conduct::Well]);
    let hub = Hub { offline: true, ..hub(folder.path(), &server) };
    let message = hub.fetch(&wanted).unwrap_err().to_string();
    assert!(message.contains("HF_HUB_OFFLINE") && message.contains("owner--name"), "{message}");
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn an_unreachable_server_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (_, wanted) = file(folder.path());
    let address = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let server = Server { address: format!("http://{address}"), asked: Arc::default() };
    let message = hub(folder.path(), &server).fetch(&wanted).unwrap_err().to_string();
    assert!(message.contains("HF_ENDPOINT") && message.contains(&address.to_string()), "{message}");
}

#[test]
fn an_unwritable_cache_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (content, wanted) = file(folder.path());
    let server = serve(&content, vec![Conduct::Well]);
    // A file in place of a folder: even root cannot write there.
    fs::write(folder.path().join("kept"), "").unwrap();
    let message = hub(folder.path(), &server).fetch(&wanted).unwrap_err().to_string();
    assert!(message.contains("kept/owner--name") && message.contains("irectory"), "{message}");
}

/// The test starts itself as a child process that may not write files above 128 blocks.
#[test]
fn a_full_disk_is_named_and_left_as_it_was() {
    const CHILD: &str = "HEADSTART_TEST_FULL_DISK";
    let Ok(folder) = std::env::var(CHILD) else {
        let folder = tempfile::tempdir().unwrap();
        let test = std::env::current_exe().unwrap();
        let command = format!(
            "trap '' XFSZ; ulimit -f 128; exec '{}' --exact hub::a_full_disk_is_named_and_left_as_it_was --nocapture",
            test.display()
        );
        let mut child = std::process::Command::new("bash");
        let done = child.args(["-c", &command]).env(CHILD, folder.path()).output().unwrap();
        let output = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{output}");
        return;
    };
    let folder = Path::new(&folder);
    let values = vec![1u8; 300_000];
    let mut wanted = named("resnet50.tv_in1k").unwrap().clone();
    wanted.repository = "owner/name".into();
    let hub = hub(folder, &serve(&values, vec![Conduct::Well]));
    let message = hub.fetch(&wanted).unwrap_err().to_string();
    assert!(message.contains("too large") && message.contains("model.part"), "{message}");
    assert!(!hub.path(&wanted).with_extension("part").exists() && kept(&hub.folder).is_empty());
}
