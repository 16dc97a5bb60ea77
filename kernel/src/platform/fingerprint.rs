//! Fingerprints for the names and checksums of files, the same for every release of Rust.

use std::hash::Hasher;

use sha2::{Digest, Sha256};

/// Calculates a fingerprint: the first 64 bits of SHA-256.
#[derive(Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// The fingerprint in hexadecimal digits.
    pub fn digits(&self) -> String {
        format!("{:016x}", self.finish())
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let sum = self.0.clone().finalize();
        sum.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST's example: the SHA-256 of "abc".
    #[test]
    fn a_fingerprint_is_the_beginning_of_sha_256() {
        let mut fingerprint = Fingerprint::default();
        fingerprint.write(b"a");
        fingerprint.write(b"bc");
        assert_eq!(fingerprint.digits(), "ba7816bf8f01cfea");
    }
}
