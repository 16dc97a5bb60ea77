//! Downloads weight files from the Hugging Face Hub and caches them.
//!
//! `hf-hub` does the requests (see [`headstart_hub`]). This module adds the rest. A file gets its final name only
//! when it is complete and its SHA-256 is correct. Interrupted downloads resume. If two processes need the same
//! file, only one downloads it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use headstart_hub::{Piece, Request};
use sha2::{Digest, Sha256};

use super::Pretrained;
use super::pieces::{self, POLL_INTERVAL};
use crate::display::ProgressBar;
use crate::{Error, Result, check_interrupt};

/// Server and cache folders for weight files.
#[derive(Clone, Debug)]
pub struct Hub {
    /// URL of the server. `None`: huggingface.co.
    pub endpoint: Option<String>,
    /// The cache shared with other Hugging Face libraries; it is only read.
    pub shared_cache: Option<PathBuf>,
    /// Cache folder of this library.
    pub folder: PathBuf,
    /// Whether downloads are disabled.
    pub offline: bool,
    /// Time without data after which a download fails. Default: 30 s.
    pub timeout: Duration,
}

impl Hub {
    /// Reads the configuration from the environment: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`,
    /// `HF_HUB_DOWNLOAD_TIMEOUT` (seconds; default: 30), `XDG_CACHE_HOME`. `hf-hub` also reads `HF_TOKEN`, and its
    /// HTTP client the proxy variables.
    ///
    /// # Errors
    /// [`Error::Hub`] if there is no cache folder; [`Error::Argument`] if the timeout is not a positive number.
    pub fn from_environment() -> Result<Hub> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cache = dirs::cache_dir();
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| Some(cache.as_ref()?.join("huggingface")));
        let is_yes = |value: String| ["1", "on", "true", "yes"].contains(&value.to_lowercase().as_str());
        let timeout = timeout(set("HF_HUB_DOWNLOAD_TIMEOUT").as_deref())?;
        Ok(Hub {
            endpoint: set("HF_ENDPOINT"),
            shared_cache: set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home?.join("hub"))),
            folder: cache
                .ok_or_else(|| {
                    problem("the weights", "there is no cache folder", "set HOME or XDG_CACHE_HOME")
                })?
                .join("headstart/weights"),
            offline: set("HF_HUB_OFFLINE").is_some_and(is_yes),
            timeout,
        })
    }

    /// Returns the path of the file, after downloading it if necessary. Its hash is the one in the manifest.
    ///
    /// # Errors
    /// [`Error::Hub`] if the download fails, or the file is wrong or not cached offline; [`Error::Io`] if it cannot be
    /// written; [`Error::Interrupted`].
    pub fn fetch(&self, wanted: &Pretrained) -> Result<PathBuf> {
        let target = self.path(wanted);
        if self.is_cached(wanted)? {
            return Ok(target);
        }
        if let Some(shared) = self.shared(wanted)? {
            return Ok(shared);
        }
        if self.offline {
            let hint = format!("unset HF_HUB_OFFLINE, or put the file at {}", target.display());
            return Err(problem(&wanted.name, "it is not in the cache, and HF_HUB_OFFLINE is set", &hint));
        }
        let folder = target.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let _lock = lock(&target.with_extension("lock"))?;
        // Another process may have downloaded it in the meantime.
        if !self.is_cached(wanted)? {
            self.download(wanted, &target)?;
        }
        Ok(target)
    }

    /// Path of the file in the cache, whether or not it exists.
    pub fn path(&self, wanted: &Pretrained) -> PathBuf {
        let revision = wanted.revision.as_deref().unwrap_or("newest");
        self.folder.join(wanted.repository.replace('/', "--")).join(revision).join(&wanted.file)
    }

    /// Hashes the whole file again. Returns false if it does not exist.
    ///
    /// # Errors
    /// [`Error::Hub`] if the hash is wrong; [`Error::Io`] if the file cannot be read.
    pub fn verify(&self, wanted: &Pretrained) -> Result<bool> {
        let path = self.path(wanted);
        if !path.is_file() {
            return Ok(false);
        }
        check(wanted, &hash_of(&path)?, self.expected(wanted).as_deref(), &path)?;
        Ok(true)
    }

    /// Expected hash of the file, from the manifest or else from the note of the first download.
    fn expected(&self, wanted: &Pretrained) -> Option<String> {
        let noted = || std::fs::read_to_string(note_of(&self.path(wanted))).ok();
        wanted.sha256.clone().or_else(|| Some(noted()?.split_whitespace().next()?.to_owned()))
    }

    /// Whether the verified file is in the cache. It is hashed again only if it differs from the note in size or hash.
    fn is_cached(&self, wanted: &Pretrained) -> Result<bool> {
        let path = self.path(wanted);
        let Ok(known) = std::fs::metadata(&path) else { return Ok(false) };
        let expected = self.expected(wanted);
        let note = std::fs::read_to_string(note_of(&path)).unwrap_or_default();
        if note.trim_end() != format!("{} {}", expected.as_deref().unwrap_or_default(), known.len()) {
            // The file was copied here by the user, or it changed.
            let hash = hash_of(&path)?;
            check(wanted, &hash, expected.as_deref(), &path)?;
            // The note cannot be written in a read-only cache. The file is then hashed each time.
            let _ = write_note(&path, &hash, known.len());
        }
        Ok(true)
    }

    /// Path of the file in the shared cache, if it exists there and its hash is correct.
    fn shared(&self, wanted: &Pretrained) -> Result<Option<PathBuf>> {
        let (Some(cache), Some(revision), Some(sha)) = (&self.shared_cache, &wanted.revision, &wanted.sha256)
        else {
            return Ok(None);
        };
        let repository = format!("models--{}", wanted.repository.replace('/', "--"));
        let path = cache.join(repository).join("snapshots").join(revision).join(&wanted.file);
        Ok((path.is_file() && hash_of(&path)? == *sha).then_some(path))
    }

    fn download(&self, wanted: &Pretrained, target: &Path) -> Result<()> {
        let part = target.with_extension("part");
        let resumed = part.metadata().is_ok_and(|part| part.len() > 0);
        let mut fetched = self.receive(wanted, &part).and_then(|()| hash_of(&part));
        let fits = |hash: &String| wanted.sha256.as_ref().is_none_or(|expected| expected == hash);
        if resumed && !fetched.as_ref().is_ok_and(fits) && !matches!(fetched, Err(Error::Interrupted)) {
            // The partial file may belong to another version.
            let _ = std::fs::remove_file(&part);
            fetched = self.receive(wanted, &part).and_then(|()| hash_of(&part));
        }
        let hash = fetched.inspect_err(|error| {
            if matches!(error, Error::Io { .. }) {
                // The disk may be full: free the space.
                let _ = std::fs::remove_file(&part);
            }
        })?;
        let size = part.metadata().map_err(Error::io(&part))?.len();
        check(wanted, &hash, wanted.sha256.as_deref(), &part)
            .and_then(|()| check_form(wanted, &part))
            .inspect_err(|_| {
                let _ = std::fs::remove_file(&part);
            })?;
        write_note(target, &hash, size)?;
        std::fs::rename(&part, target).map_err(Error::io(target))?;
        if wanted.sha256.is_none() && !wanted.file.ends_with(".json") {
            println!("{}: recorded the hash {hash}, which later downloads must match", wanted.name);
        }
        Ok(())
    }

    /// Downloads the rest of a partial file.
    fn receive(&self, wanted: &Pretrained, part: &Path) -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(Error::io(part))?;
        let mut done = file.metadata().map_err(Error::io(part))?.len();
        let pieces = pieces::ask(Request {
            endpoint: self.endpoint.clone(),
            repository: wanted.repository.clone(),
            file: wanted.file.clone(),
            revision: wanted.revision.clone().unwrap_or_else(|| "main".into()),
            from: done,
            timeout: self.timeout,
        })
        .map_err(Error::io(part))?;
        let mut total = (wanted.megabytes * 1e6) as u64;
        let mut bar = None;
        loop {
            match pieces.next()? {
                Piece::Length(length) => total = done + length,
                Piece::Bytes(bytes) => {
                    file.write_all(&bytes).map_err(Error::io(part))?;
                    done += bytes.len() as u64;
                    bar.get_or_insert_with(|| ProgressBar::new(&format!("fetching {}", wanted.name), total))
                        .set(done);
                }
                Piece::End => break,
                Piece::Failed(what) => {
                    let hint = "check the connection and try again; set HF_ENDPOINT for a mirror, \
                                HTTPS_PROXY for a proxy";
                    return Err(problem(&wanted.name, &what, hint));
                }
                Piece::Denied(what) => {
                    let hint = format!("set HF_TOKEN to a token that may read {}", wanted.repository);
                    return Err(problem(&wanted.name, &what, &hint));
                }
                Piece::TokenRefused(what) => {
                    let hint = "create a token at https://huggingface.co/settings/tokens and set HF_TOKEN to it, \
                                or remove the token: public files need none";
                    return Err(problem(&wanted.name, &what, hint));
                }
                Piece::ProxyFailed(what) => {
                    let hint = "set HTTPS_PROXY to the proxy's address, `http://user:password@host:port`, or unset \
                                it where no proxy is needed; NO_PROXY lists hosts without one";
                    return Err(problem(&wanted.name, &what, hint));
                }
            }
        }
        file.sync_all().map_err(Error::io(part))?;
        if let Some(bar) = bar {
            bar.finish();
        }
        Ok(())
    }
}

/// Parses the timeout in seconds. Default: 30.
fn timeout(seconds: Option<&str>) -> Result<Duration> {
    let Some(text) = seconds else { return Ok(Duration::from_secs(30)) };
    let number = text.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| Error::Argument {
        name: "HF_HUB_DOWNLOAD_TIMEOUT",
        expected: "a number of seconds above 0".into(),
        found: format!("{text:?}"),
    })
}

/// Waits until no other process downloads this file.
fn lock(path: &Path) -> Result<File> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(Error::io(path))?;
    let mut announced = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
        }
        if !announced {
            println!("waiting for another program that fetches the same file");
            announced = true;
        }
        check_interrupt()?;
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn hash_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        check_interrupt()?;
        match file.read(&mut chunk).map_err(Error::io(path))? {
            0 => break,
            length => hasher.update(&chunk[..length]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn check(wanted: &Pretrained, found: &str, expected: Option<&str>, path: &Path) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            let size = path.metadata().map_or(0, |file| file.len());
            let what = format!(
                "expected a file whose SHA-256 is {expected}, found {size} bytes with {found} in {}",
                path.display()
            );
            Err(problem(&wanted.name, &what, "remove the file, if it is still there, and fetch it again"))
        }
        _ => Ok(()),
    }
}

/// Checks that a file looks like `.safetensors`: a server may answer with an error page and status 200.
fn check_form(wanted: &Pretrained, path: &Path) -> Result<()> {
    if wanted.file.ends_with(".json") {
        return check_json(wanted, path);
    }
    let mut length = [0; 8];
    let mut first = [0; 1];
    let mut file = File::open(path).map_err(Error::io(path))?;
    let read = file.read_exact(&mut length).and_then(|()| file.read_exact(&mut first));
    let size = path.metadata().map_err(Error::io(path))?.len();
    match (read, u64::from_le_bytes(length), first) {
        (Ok(()), header, [b'{']) if header < size => Ok(()),
        _ => {
            let what = format!("expected a .safetensors file, found {size} bytes of something else");
            Err(problem(&wanted.name, &what, "the server may have sent a page that explains an error"))
        }
    }
}

/// Checks that a file looks like a JSON object.
fn check_json(wanted: &Pretrained, path: &Path) -> Result<()> {
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut start)).map_err(Error::io(path))?;
    if start.trim_ascii_start().first() == Some(&b'{') {
        return Ok(());
    }
    let what = format!("expected {} to be JSON, found something else", wanted.file);
    Err(problem(&wanted.name, &what, "the server may have sent a page that explains an error"))
}

fn note_of(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}

fn write_note(path: &Path, hash: &str, size: u64) -> Result<()> {
    crate::files::write_whole(&note_of(path), format!("{hash} {size}\n").as_bytes())
}

fn problem(what: &str, problem: &str, hint: &str) -> Error {
    Error::Hub { what: what.into(), problem: problem.into(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder at the note's path stands for a read-only cache, because root can write everywhere.
    #[test]
    fn weights_in_a_cache_without_permission_to_write_are_used() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub {
            endpoint: None,
            shared_cache: None,
            folder: folder.path().to_owned(),
            offline: true,
            timeout: Duration::from_secs(1),
        };
        let wanted = Pretrained::of_repository("timm/resnet18.mine");
        let path = hub.path(&wanted);
        std::fs::create_dir_all(note_of(&path)).unwrap();
        std::fs::write(&path, "weights").unwrap();
        assert_eq!(hub.fetch(&wanted)?, path);
        let other = Pretrained { sha256: Some("0".repeat(64)), ..wanted };
        assert!(hub.fetch(&other).is_err());
        Ok(())
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds_above_0() -> Result<()> {
        assert_eq!(timeout(None)?, Duration::from_secs(30));
        assert_eq!(timeout(Some("2.5"))?, Duration::from_millis(2500));
        for text in ["-1", "0", "NaN", "inf", "1e300", "30s", ""] {
            let problem = timeout(Some(text)).unwrap_err().to_string();
            assert!(problem.contains("HF_HUB_DOWNLOAD_TIMEOUT") && problem.contains(text), "{problem}");
        }
        Ok(())
    }
}
