//! Payloads: sealed in `sctl`, opened in secret-fs, and nowhere else.
//!
//! AES-256-GCM under a fresh key for each version. The key seals this one message, so the nonce is constant: what must
//! not repeat is the pair, and the key never does.

use secretd_proto::limit::AEAD_TAG_LENGTH;
use zeroize::Zeroize;

use crate::binding::PayloadBinding;
use crate::key::PublicKey;
use crate::secret::{Dek, SecretBytes};
use crate::{OpenError, SealError, envelope, gcm};

const NONCE: [u8; gcm::NONCE_LENGTH] = [0; gcm::NONCE_LENGTH];

/// A sealed payload, as it goes to the managers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// As long as the plaintext, and 16 bytes of tag.
    pub ciphertext: Vec<u8>,
    /// The key, wrapped to the cluster: 80 bytes.
    pub wrapped_dek: Vec<u8>,
}

/// Seals `plaintext` under a fresh key and wraps the key to the cluster.
///
/// # Errors
/// When there is no randomness, the plaintext does not have `binding.length` bytes, or `cluster` is no usable key.
pub fn seal(plaintext: &SecretBytes, binding: &PayloadBinding, cluster: &PublicKey) -> Result<Sealed, SealError> {
    if u32::try_from(plaintext.len()) != Ok(binding.length) {
        return Err(SealError::Length);
    }
    let dek = Dek::generate()?;
    let wrapped_dek = envelope::wrap_for_cluster(&dek, binding, cluster)?;

    let mut ciphertext = Vec::with_capacity(plaintext.len() + AEAD_TAG_LENGTH);
    ciphertext.extend_from_slice(plaintext.expose());
    let Some(tag) = gcm::seal(dek.expose(), &NONCE, &binding.associated_data(), &mut ciphertext) else {
        ciphertext.zeroize();
        return Err(SealError::Length);
    };
    ciphertext.extend_from_slice(&tag);
    Ok(Sealed { ciphertext, wrapped_dek })
}

/// Opens `ciphertext` into `out`, which may be memory that nobody else can read. No other copy of the plaintext is made.
///
/// # Errors
/// When any part of the binding or of the bytes is not what was sealed, or `out` does not have `binding.length` bytes.
/// `out` is wiped then.
pub fn open_into(dek: &Dek, binding: &PayloadBinding, ciphertext: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
    let length = ciphertext.len().checked_sub(AEAD_TAG_LENGTH).ok_or(OpenError)?;
    if out.len() != length || u32::try_from(length) != Ok(binding.length) {
        return Err(OpenError);
    }
    let (body, tag) = ciphertext.split_at(length);
    out.copy_from_slice(body);
    gcm::open(dek.expose(), &NONCE, &binding.associated_data(), out, tag).inspect_err(|_| out.zeroize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};

    use super::*;
    use crate::binding::GrantBinding;
    use crate::key::PrivateKey;

    fn binding(length: usize) -> PayloadBinding {
        PayloadBinding {
            cluster: ClusterId::random(),
            secret: SecretId::random(),
            version: 1,
            name: "psql-pw".parse().unwrap(),
            length: u32::try_from(length).unwrap(),
        }
    }

    /// The way of a payload from sctl through a manager to secret-fs.
    fn deliver(sealed: &Sealed, binding: &PayloadBinding, cluster: &PrivateKey) -> Dek {
        let node = PrivateKey::generate().unwrap();
        let grant = GrantBinding { payload: binding.clone(), node: NodeId::random(), task: TaskId::random(), epoch: 1 };
        let wrapped = envelope::rewrap(&sealed.wrapped_dek, cluster, &grant, &node.public()).unwrap();
        envelope::open_grant(&wrapped, &node, &grant).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn payload_arrives_and_each_bound_field_breaks_it(plaintext in prop::collection::vec(any::<u8>(), 1..2000)) {
            let cluster = PrivateKey::generate().unwrap();
            let binding = binding(plaintext.len());
            let sealed = seal(&SecretBytes::new(plaintext.clone()), &binding, &cluster.public()).unwrap();
            let dek = deliver(&sealed, &binding, &cluster);
            let mut out = vec![0; plaintext.len()];

            open_into(&dek, &binding, &sealed.ciphertext, &mut out).unwrap();
            prop_assert_eq!(&out, &plaintext);

            let mut others = vec![];
            others.push(PayloadBinding { cluster: ClusterId::random(), ..binding.clone() });
            others.push(PayloadBinding { secret: SecretId::random(), ..binding.clone() });
            others.push(PayloadBinding { version: 2, ..binding.clone() });
            others.push(PayloadBinding { name: "psql-px".parse().unwrap(), ..binding.clone() });
            others.push(PayloadBinding { length: binding.length + 1, ..binding.clone() });
            for other in others {
                prop_assert_eq!(open_into(&dek, &other, &sealed.ciphertext, &mut out), Err(OpenError), "{:?}", other);
            }
        }

        #[test]
        fn any_changed_bit_is_refused_and_nothing_is_left_in_the_buffer(at in 0_usize..(100 + 16) * 8) {
            let cluster = PrivateKey::generate().unwrap();
            let binding = binding(100);
            let mut sealed = seal(&SecretBytes::new(vec![b's'; 100]), &binding, &cluster.public()).unwrap();
            let dek = deliver(&sealed, &binding, &cluster);
            sealed.ciphertext[at / 8] ^= 1 << (at % 8);
            let mut out = vec![1; 100];

            prop_assert_eq!(open_into(&dek, &binding, &sealed.ciphertext, &mut out), Err(OpenError));
            prop_assert_eq!(out, vec![0; 100]);
        }
    }

    #[test]
    fn largest_secret_seals_and_opens() {
        let cluster = PrivateKey::generate().unwrap();
        let length = secretd_proto::limit::MAX_SECRET_LENGTH;
        let binding = binding(length);
        let sealed = seal(&SecretBytes::new(vec![7; length]), &binding, &cluster.public()).unwrap();
        let mut out = vec![0; length];

        open_into(&deliver(&sealed, &binding, &cluster), &binding, &sealed.ciphertext, &mut out).unwrap();
        assert_eq!(out, vec![7; length]);
        assert_eq!(sealed.ciphertext.len(), length + AEAD_TAG_LENGTH);
    }

    #[test]
    fn length_that_is_not_the_bound_one_is_refused() {
        let cluster = PrivateKey::generate().unwrap();

        let sealed = seal(&SecretBytes::new(vec![7; 3]), &binding(4), &cluster.public());

        assert_eq!(sealed, Err(SealError::Length));
    }
}
