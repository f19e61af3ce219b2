//! Filters of lists, as Docker's: values of one key are alternatives, different keys must all hold.

use std::collections::BTreeMap;

use secretd_proto::v1;

use crate::refusal::Refusal;

/// Filters of one call, checked against the keys that its list knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    by_key: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// The filters of a call.
    ///
    /// # Errors
    /// When a key is not one of `known`.
    pub(crate) fn parse(filters: Vec<v1::Filter>, known: &[&str]) -> Result<Self, Refusal> {
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for v1::Filter { key, value } in filters {
            if !known.contains(&key.as_str()) {
                return Err(Refusal::invalid(format!(
                    "invalid filter '{key}': it must be one of {}",
                    known.join(", ")
                )));
            }
            by_key.entry(key).or_default().push(value);
        }
        Ok(Self { by_key })
    }

    /// Refuses values of a key that can never match.
    ///
    /// # Errors
    /// When a value is not one of `known`.
    pub(crate) fn check(&self, key: &str, known: &[&str]) -> Result<(), Refusal> {
        match self.values(key).iter().find(|value| !known.contains(&value.as_str())) {
            Some(value) => {
                let known = known.join(", ");
                Err(Refusal::invalid(format!("invalid {key} filter: '{value}': it must be one of {known}")))
            }
            None => Ok(()),
        }
    }

    /// Whether one of the key's values satisfies `test`; a key without values does not restrict.
    pub(crate) fn holds(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.by_key.get(key).is_none_or(|values| values.iter().any(|value| test(value)))
    }

    /// Whether `text` begins with one of the key's values.
    pub(crate) fn prefix(&self, key: &str, text: &str) -> bool {
        self.holds(key, |value| text.starts_with(value))
    }

    /// Whether `text` is one of the key's values.
    pub(crate) fn exact(&self, key: &str, text: &str) -> bool {
        self.holds(key, |value| text == value)
    }

    /// Whether all of the key's values (`K` or `K=V`) are among `labels`.
    pub(crate) fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.by_key.get(key).is_none_or(|values| values.iter().all(|value| has(value)))
    }

    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &str)]) -> Result<Filters, Refusal> {
        let filters =
            pairs.iter().map(|(key, value)| v1::Filter { key: (*key).to_owned(), value: (*value).to_owned() });
        Filters::parse(filters.collect(), &["name", "id", "label"])
    }

    #[test]
    fn unknown_key_is_refused() {
        let refusal = filters(&[("colour", "red")]).unwrap_err();

        assert_eq!(refusal.message, "invalid filter 'colour': it must be one of name, id, label");
    }

    #[test]
    fn value_that_never_matches_is_refused() {
        let filters = filters(&[("name", "a"), ("name", "x")]).unwrap();

        assert_eq!(
            filters.check("name", &["a", "b"]).unwrap_err().message,
            "invalid name filter: 'x': it must be one of a, b"
        );
        assert!(filters.check("name", &["a", "x"]).is_ok() && filters.check("id", &["a"]).is_ok());
    }

    #[test]
    fn values_of_one_key_are_alternatives() {
        let filters = filters(&[("name", "ab"), ("name", "x")]).unwrap();

        assert!(filters.prefix("name", "abc") && filters.prefix("name", "xyz"));
        assert!(!filters.prefix("name", "bc"));
        assert!(filters.prefix("id", "anything"));
    }

    #[test]
    fn every_label_must_be_there() {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("team".to_owned(), "a".to_owned())]);

        assert!(filters(&[("label", "env"), ("label", "team=a")]).unwrap().labels("label", &labels));
        assert!(!filters(&[("label", "env"), ("label", "team=b")]).unwrap().labels("label", &labels));
        assert!(!filters(&[("label", "zone")]).unwrap().labels("label", &labels));
    }
}
