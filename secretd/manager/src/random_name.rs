//! A name for a service that was given none: an adjective and the surname of somebody who hid or found out something.

const ADJECTIVES: [&str; 48] = [
    "able", "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "clever", "cool", "eager",
    "earnest", "fair", "fleet", "fond", "frank", "gentle", "glad", "grand", "happy", "hardy", "hushed", "ideal",
    "jolly", "keen", "kind", "lively", "lucid", "merry", "modest", "noble", "placid", "proud", "quick", "quiet",
    "rapid", "ready", "serene", "sharp", "silent", "sincere", "steady", "subtle", "sunny", "tidy", "vivid", "wise",
];

const SURNAMES: [&str; 48] = [
    "adleman",
    "alberti",
    "babbage",
    "bellare",
    "boneh",
    "callimahos",
    "chaum",
    "clarke",
    "cocks",
    "damgard",
    "diffie",
    "driscoll",
    "ellis",
    "feistel",
    "feynman",
    "flowers",
    "friedman",
    "goldwasser",
    "hellman",
    "hopper",
    "kasiski",
    "katz",
    "kerckhoffs",
    "koblitz",
    "lamport",
    "lovelace",
    "mauborgne",
    "menezes",
    "merkle",
    "micali",
    "miller",
    "naor",
    "painvin",
    "porta",
    "rejewski",
    "rivest",
    "rogaway",
    "rozycki",
    "schnorr",
    "shamir",
    "shannon",
    "turing",
    "tutte",
    "vernam",
    "vigenere",
    "yao",
    "yardley",
    "zygalski",
];

/// The name that two random numbers give; `attempt` numbers further tries when it is taken.
pub(crate) fn name(random: [u8; 16], attempt: u32) -> String {
    let pick = |half: usize| u64::from_be_bytes(std::array::from_fn(|idx| random[half * 8 + idx]));
    let adjective = pick_from(&ADJECTIVES, pick(0));
    let surname = pick_from(&SURNAMES, pick(1));
    if attempt == 0 { format!("{adjective}_{surname}") } else { format!("{adjective}_{surname}{attempt}") }
}

fn pick_from(words: &[&'static str; 48], number: u64) -> &'static str {
    words[usize::try_from(number % 48).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use secretd_proto::name::ServiceName;

    use super::*;

    #[test]
    fn every_name_is_a_service_name() {
        for adjective in ADJECTIVES {
            for surname in SURNAMES {
                assert!(format!("{adjective}_{surname}").parse::<ServiceName>().is_ok());
            }
        }
        assert_eq!(name([0; 16], 0), "able_adleman");
        assert_eq!(name([0; 16], 7), "able_adleman7");
    }
}
