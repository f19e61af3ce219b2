//! AES-256-GCM (NIST SP 800-38D) in place, with the tag apart.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};

use crate::OpenError;

pub(crate) const NONCE_LENGTH: usize = 12;
pub(crate) const TAG_LENGTH: usize = 16;

/// Encrypts `buffer`; `None` beyond the cipher's limit of 2^36 - 32 bytes.
pub(crate) fn seal(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LENGTH],
    associated_data: &[u8],
    buffer: &mut [u8],
) -> Option<[u8; TAG_LENGTH]> {
    let tag = Aes256Gcm::new(key.into()).encrypt_inout_detached(nonce.into(), associated_data, buffer.into()).ok()?;
    Some(tag.into())
}

/// Decrypts `buffer`, or leaves ciphertext in it.
pub(crate) fn open(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LENGTH],
    associated_data: &[u8],
    buffer: &mut [u8],
    tag: &[u8],
) -> Result<(), OpenError> {
    let tag = Tag::try_from(tag).map_err(|_| OpenError)?;
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(nonce.into(), associated_data, buffer.into(), &tag)
        .map_err(|_| OpenError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    struct Vector {
        key: &'static str,
        nonce: &'static str,
        associated_data: &'static str,
        plaintext: &'static str,
        ciphertext: &'static str,
        tag: &'static str,
    }

    /// NIST's vectors: CAVP gcmEncryptExtIV256 (the first), and test cases 13, 14 and 16 of the GCM submission.
    const VECTORS: &[Vector] = &[
        Vector {
            key: "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
            nonce: "516c33929df5a3284ff463d7",
            associated_data: "",
            plaintext: "",
            ciphertext: "",
            tag: "bdc1ac884d332457a1d2664f168c76f0",
        },
        Vector {
            key: "0000000000000000000000000000000000000000000000000000000000000000",
            nonce: "000000000000000000000000",
            associated_data: "",
            plaintext: "",
            ciphertext: "",
            tag: "530f8afbc74536b9a963b4f1c4cb738b",
        },
        Vector {
            key: "0000000000000000000000000000000000000000000000000000000000000000",
            nonce: "000000000000000000000000",
            associated_data: "",
            plaintext: "00000000000000000000000000000000",
            ciphertext: "cea7403d4d606b6e074ec5d3baf39d18",
            tag: "d0d1c8a799996bf0265b98b5d48ab919",
        },
        Vector {
            key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            nonce: "cafebabefacedbaddecaf888",
            associated_data: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            plaintext: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                        b16aedf5aa0de657ba637b39",
            ciphertext: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                         c5f61e6393ba7a0abcc9f662",
            tag: "76fc6ece0f4e1768cddf8853bb2d551b",
        },
    ];

    #[test]
    fn nist_vectors_seal_and_open() {
        for vector in VECTORS {
            let key: [u8; 32] = unhex(vector.key).try_into().unwrap();
            let nonce: [u8; 12] = unhex(vector.nonce).try_into().unwrap();
            let associated_data = unhex(vector.associated_data);
            let mut buffer = unhex(vector.plaintext);

            let tag = seal(&key, &nonce, &associated_data, &mut buffer).unwrap();
            assert_eq!((buffer.clone(), tag.to_vec()), (unhex(vector.ciphertext), unhex(vector.tag)));

            open(&key, &nonce, &associated_data, &mut buffer, &tag).unwrap();
            assert_eq!(buffer, unhex(vector.plaintext));
        }
    }

    #[test]
    fn changed_tag_does_not_open() {
        let mut buffer = *b"plaintext";
        let mut tag = seal(&[1; 32], &[2; 12], b"", &mut buffer).unwrap();
        tag[15] ^= 1;

        assert_eq!(open(&[1; 32], &[2; 12], b"", &mut buffer, &tag), Err(OpenError));
    }
}
