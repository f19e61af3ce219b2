//! Known answers of RFC 9180, and that each bound field breaks the seal.

use hpke::aead::{Aead, AesGcm128};
use proptest::prelude::*;
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const PLAINTEXT: &str = "4265617574792069732074727574682c20747275746820626561757479";
const ASSOCIATED_DATA: &str = "436f756e742d30";

/// Opens a ciphertext of the standard as its recipient.
fn open_vector<A: Aead>(private: &str, encapsulated: &str, ciphertext: &str) -> Result<Vec<u8>, hpke::HpkeError> {
    let private = PrivateKey::from_bytes(&unhex(private).try_into().unwrap());
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&unhex(encapsulated)).unwrap();
    hpke::single_shot_open::<A, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private.to_hpke(),
        &encapsulated,
        &unhex(INFO),
        &unhex(ciphertext),
        &unhex(ASSOCIATED_DATA),
    )
}

/// RFC 9180, appendix A.1.1.1, sequence number 0: the standard prints this KEM and KDF with AES-128-GCM.
#[test]
fn rfc_9180_a_1_opens() {
    let plaintext = open_vector::<AesGcm128>(
        "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
        "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
    );

    assert_eq!(plaintext, Ok(unhex(PLAINTEXT)));
}

/// Our suite: the vector of the CFRG's test-vectors.json for mode 0, KEM 0x0020, KDF 0x0001, AEAD 0x0002.
#[test]
fn cfrg_vector_of_our_suite_opens() {
    let plaintext = open_vector::<AesGcm256>(
        "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d",
        "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
        "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a",
    );

    assert_eq!(plaintext, Ok(unhex(PLAINTEXT)));
}

/// RFC 9180, appendix A.1.1: pkRm of skRm.
#[test]
fn public_key_is_that_of_the_standard() {
    let private = PrivateKey::from_bytes(
        &unhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8").try_into().unwrap(),
    );

    let public = unhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d");
    assert_eq!(private.public().to_bytes().to_vec(), public);
}

fn binding() -> impl Strategy<Value = GrantBinding> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 16]>());
    (ids, 0..u64::MAX, 0..u64::MAX, 0..u32::MAX, "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62}[a-zA-Z0-9])?").prop_map(
        |((cluster, secret, node, task), version, epoch, length, name)| GrantBinding {
            payload: PayloadBinding {
                cluster: ClusterId::from_random(cluster),
                secret: SecretId::from_random(secret),
                version,
                name: name.parse().unwrap(),
                length,
            },
            node: NodeId::from_random(node),
            task: TaskId::from_random(task),
            epoch,
        },
    )
}

fn other(id: &[u8; 16]) -> [u8; 16] {
    let mut other = *id;
    other[7] ^= 0x10;
    other
}

/// The binding with one field changed, for each field.
fn changed(binding: &GrantBinding) -> Vec<(&'static str, GrantBinding)> {
    let with = |field, change: &dyn Fn(&mut GrantBinding)| {
        let mut changed = binding.clone();
        change(&mut changed);
        (field, changed)
    };
    vec![
        with("cluster", &|b| b.payload.cluster = ClusterId::from_random(other(b.payload.cluster.as_bytes()))),
        with("secret", &|b| b.payload.secret = SecretId::from_random(other(b.payload.secret.as_bytes()))),
        with("version", &|b| b.payload.version += 1),
        with("name", &|b| b.payload.name = if b.payload.name.as_str() == "a" { "b" } else { "a" }.parse().unwrap()),
        with("length", &|b| b.payload.length ^= 1),
        with("node", &|b| b.node = NodeId::from_random(other(b.node.as_bytes()))),
        with("task", &|b| b.task = TaskId::from_random(other(b.task.as_bytes()))),
        with("epoch", &|b| b.epoch += 1),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn grant_opens_with_its_binding_and_no_other(binding in binding()) {
        let (cluster, node) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let dek = Dek::generate().unwrap();
        let wrapped = wrap_for_cluster(&dek, &binding.payload, &cluster.public()).unwrap();
        let granted = rewrap(&wrapped, &cluster, &binding, &node.public()).unwrap();

        prop_assert_eq!(wrapped.len(), WRAPPED_DEK_LENGTH);
        let opened = open_grant(&granted, &node, &binding).unwrap();
        prop_assert_eq!(opened.expose(), dek.expose());
        for (field, changed) in changed(&binding) {
            prop_assert!(open_grant(&granted, &node, &changed).is_err(), "{} is not bound by the grant", field);
            if changed.payload != binding.payload {
                let rewrapped = rewrap(&wrapped, &cluster, &changed, &node.public());
                prop_assert!(rewrapped.is_err(), "{} is not bound by the client's envelope", field);
            }
        }
        prop_assert!(open_grant(&granted, &cluster, &binding).is_err(), "another key opens the grant");
        prop_assert!(open_grant(&wrapped, &cluster, &binding).is_err(), "the client's envelope passes for a grant");
    }

    #[test]
    fn any_changed_bit_of_a_grant_breaks_it(binding in binding(), bit in 0..WRAPPED_DEK_LENGTH * 8) {
        let (cluster, node) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let wrapped = wrap_for_cluster(&Dek::generate().unwrap(), &binding.payload, &cluster.public()).unwrap();
        let mut granted = rewrap(&wrapped, &cluster, &binding, &node.public()).unwrap();

        granted[bit / 8] ^= 1 << (bit % 8);

        // X25519 ignores the top bit of a public key (RFC 7748, section 5), but HPKE hashes the bytes as they are.
        prop_assert!(open_grant(&granted, &node, &binding).is_err());
    }

    #[test]
    fn cut_or_stretched_envelope_is_refused(length in 0_usize..200) {
        prop_assume!(length != WRAPPED_DEK_LENGTH);
        let binding = PayloadBinding {
            cluster: ClusterId::from_random([1; 16]),
            secret: SecretId::from_random([2; 16]),
            version: 1,
            name: "a".parse().unwrap(),
            length: 1,
        };
        let grant = GrantBinding { payload: binding, node: NodeId::random(), task: TaskId::random(), epoch: 1 };

        prop_assert!(open_grant(&vec![0; length], &PrivateKey::generate().unwrap(), &grant).is_err());
    }
}
