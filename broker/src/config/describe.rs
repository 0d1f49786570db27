//! What the tools see of a resource's values: each with its source, type and other spellings.

use super::keys::BROKER_KEYS;
use super::layers::{Configs, Layers, Origin, Synonym, family};
use super::row::{Change, Row};
use super::topic::TOPIC_KEYS;
use super::value::Kind;

/// One key as DescribeConfigs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: &'static str,
    /// `None`: nothing is set and there is no default.
    pub value: Option<String>,
    pub origin: Origin,
    pub read_only: bool,
    /// Whether the value must not be shown. No key holds a secret yet.
    pub sensitive: bool,
    pub kind: Kind,
    pub doc: &'static str,
    /// Every place that says something about this key, the one that is heard first.
    pub synonyms: Vec<Synonym>,
}

/// Whether a request that names these keys, or none for all, asks for this one.
fn asked(wanted: Option<&[String]>, row: &Row) -> bool {
    wanted.is_none_or(|names| names.iter().any(|it| it == row.name))
}

/// The keys of a topic that has these values of its own. Names no key has are passed over.
#[must_use]
pub fn topic(own: &Configs, layers: &Layers<'_>, wanted: Option<&[String]>) -> Vec<Described> {
    let rows = TOPIC_KEYS.iter().filter(|it| asked(wanted, it));
    rows.map(|row| {
        let mut synonyms = layers.values(row.fallback);
        if synonyms.is_empty() {
            let value = row.default.expect("every topic key has a default").to_owned();
            synonyms.push(Synonym { name: row.name, value, origin: Origin::Default });
        }
        let mut value = layers.inherited(row);
        if let Some(own) = own.get(row.name) {
            value = Some(own.clone());
            let synonym = Synonym { name: row.name, value: own.clone(), origin: Origin::Topic };
            synonyms.insert(0, synonym);
        }
        described(row, value, false, synonyms)
    })
    .collect()
}

/// The keys of this broker.
#[must_use]
pub fn broker(layers: &Layers<'_>, wanted: Option<&[String]>) -> Vec<Described> {
    let rows = BROKER_KEYS.iter().filter(|it| asked(wanted, it));
    rows.map(|row| {
        let own = layers.values(&[row]).into_iter().next();
        // A coarser spelling that is heard first is told under its own name.
        let synonyms = layers.values(&family(row)).into_iter();
        let synonyms = synonyms.skip_while(|it| it.name != row.name).collect();
        described(row, own.map(|it| it.value), row.change == Change::Static, synonyms)
    })
    .collect()
}

/// The changes made for every broker of the cluster, and nothing else.
#[must_use]
pub fn cluster(layers: &Layers<'_>, wanted: Option<&[String]>) -> Vec<Described> {
    let rows = BROKER_KEYS.iter().filter(|it| asked(wanted, it));
    rows.filter_map(|row| {
        let value = layers.cluster.get(row.name)?.clone();
        let origin = Origin::DynamicDefaultBroker;
        let synonyms = vec![Synonym { name: row.name, value: value.clone(), origin }];
        Some(described(row, Some(value), false, synonyms))
    })
    .collect()
}

fn described(
    row: &'static Row,
    value: Option<String>,
    read_only: bool,
    synonyms: Vec<Synonym>,
) -> Described {
    let origin = synonyms.first().map_or(Origin::Default, |it| it.origin);
    let (name, kind, doc) = (row.name, row.kind, row.doc);
    Described { name, value, origin, read_only, sensitive: false, kind, doc, synonyms }
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::super::settings::{Settings, Source};
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn told(described: &[Described]) -> String {
        let [it] = described else { panic!("one key was asked for: {described:?}") };
        let synonyms = it.synonyms.iter();
        let synonyms: Vec<_> =
            synonyms.map(|it| format!("{:?}:{}={}", it.origin, it.name, it.value)).collect();
        format!(
            "{} from {:?} [{}]",
            it.value.as_deref().unwrap_or("-"),
            it.origin,
            synonyms.join(" ")
        )
    }

    #[test]
    fn a_topics_key_tells_every_place_that_says_something() {
        let mut settings = Settings::default();
        let wanted = ["retention.ms".to_owned()];
        assert_eq!(
            told(&topic(&configs(&[]), &Layers::of_start(&settings), Some(&wanted))),
            "604800000 from Default [Default:log.retention.hours=168]"
        );
        settings.give(&keys::LOG_RETENTION_MINUTES, "2", Source::Set).unwrap();
        assert_eq!(
            told(&topic(&configs(&[]), &Layers::of_start(&settings), Some(&wanted))),
            "120000 from StaticBroker [StaticBroker:log.retention.minutes=2 \
             Default:log.retention.hours=168]"
        );
        let (broker, cluster) =
            (configs(&[("log.retention.ms", "4")]), configs(&[("log.retention.ms", "3")]));
        let layers = Layers { settings: &settings, broker: &broker, cluster: &cluster };
        assert_eq!(
            told(&topic(&configs(&[("retention.ms", "5")]), &layers, Some(&wanted))),
            "5 from Topic [Topic:retention.ms=5 DynamicBroker:log.retention.ms=4 \
             DynamicDefaultBroker:log.retention.ms=3 StaticBroker:log.retention.minutes=2 \
             Default:log.retention.hours=168]"
        );
    }

    #[test]
    fn every_topic_key_is_shown_with_its_default_and_may_be_changed() {
        let settings = Settings::default();
        let all = topic(&configs(&[]), &Layers::of_start(&settings), None);
        assert_eq!(all.len(), TOPIC_KEYS.len());
        for (it, row) in all.iter().zip(TOPIC_KEYS) {
            assert_eq!(it.value.as_deref(), row.default, "{}", it.name);
            assert_eq!((it.origin, it.read_only), (Origin::Default, false), "{}", it.name);
        }
    }

    #[test]
    fn a_brokers_key_is_read_only_unless_dynamic() {
        let settings = Settings::default();
        let cluster_changes = configs(&[("log.retention.ms", "3")]);
        let layers = Layers { cluster: &cluster_changes, ..Layers::of_start(&settings) };
        let wanted = ["log.retention.ms".to_owned(), "node.id".to_owned(), "none".to_owned()];
        let both = broker(&layers, Some(&wanted));
        assert_eq!(told(&both[..1]), "1 from Default [Default:node.id=1]");
        assert!(both[0].read_only && !both[1].read_only);
        assert_eq!(
            told(&both[1..]),
            "3 from DynamicDefaultBroker [DynamicDefaultBroker:log.retention.ms=3 \
             Default:log.retention.hours=168]"
        );
        assert_eq!(
            told(&cluster(&layers, None)),
            "3 from DynamicDefaultBroker [DynamicDefaultBroker:log.retention.ms=3]"
        );
        let layers = Layers::of_start(&settings);
        assert_eq!(told(&broker(&layers, Some(&wanted[..1]))), "- from Default []");
    }
}
