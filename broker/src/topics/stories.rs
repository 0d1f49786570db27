//! The rules of topics, told as stories: what is asked, and what is answered.

use super::configs::{self, Named, Wish};
use super::create::{self, NewTopic, Rules};
use super::event::Event;
use super::grow::{self, Growth};
use super::image::Image;
use super::internal;
use super::remove::{self, Target};
use crate::config::alter::{Alteration, Operation};
use crate::config::keys;
use crate::config::settings::{Settings, Source};
use corelane_core::ids::{BrokerId, TopicId};
use std::collections::BTreeSet;

const NODE: BrokerId = BrokerId(1);

/// A node, as the handlers would drive it.
pub(super) struct World {
    pub(super) image: Image,
    pub(super) settings: Settings,
    drawn: u8,
}

impl World {
    pub(super) fn new(set: &[(&str, &str)]) -> Self {
        let mut settings = Settings::default();
        for (key, value) in set {
            settings.give(keys::find(key).unwrap(), value, Source::Set).unwrap();
        }
        Self { image: Image::default(), settings, drawn: 0 }
    }

    fn plan<T>(
        &mut self,
        plan: impl FnOnce(&Image, &Rules<'_>, &mut dyn FnMut() -> TopicId) -> T,
    ) -> T {
        let drawn = &mut self.drawn;
        let mut draw = || {
            *drawn += 1;
            TopicId([*drawn; 16])
        };
        let rules = Rules { layers: self.image.layers(&self.settings, NODE), node: NODE };
        plan(&self.image, &rules, &mut draw)
    }

    /// Applies what was granted, and tells every answer.
    fn commit<E: ToString>(&mut self, answers: Vec<Result<Event, E>>) -> String {
        let mut told = Vec::new();
        for answer in answers {
            told.push(match answer {
                Ok(event) => {
                    self.image.apply(&event).unwrap();
                    self.image.check();
                    "done".to_owned()
                }
                Err(error) => error.to_string(),
            });
        }
        told.join("\n")
    }

    fn create(&mut self, wishes: &[NewTopic]) -> String {
        let answers = self.plan(|image, rules, draw| create::plan(image, rules, wishes, draw));
        self.commit(answers)
    }

    fn create_named(&mut self, names: &str) -> String {
        let wishes: Vec<_> = names.split(' ').map(NewTopic::named).collect();
        self.create(&wishes)
    }

    fn grow(&mut self, wishes: &[Growth]) -> String {
        let answers = self.plan(|image, rules, _| grow::plan(image, rules, wishes));
        self.commit(answers)
    }

    fn remove(&mut self, targets: &[Target]) -> String {
        let answers = remove::plan(&self.image, true, targets);
        self.commit(answers)
    }

    /// `name:partitions` of all topics.
    fn topics(&self) -> String {
        let told = self.image.topics_from("").map(|it| format!("{}:{}", it.name, it.partitions));
        told.collect::<Vec<_>>().join(" ")
    }

    fn id(&self, name: &str) -> TopicId {
        self.image.topic_named(name).unwrap().id
    }
}

fn shaped(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { partitions, replication_factor, ..NewTopic::named(name) }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    let brokers = |it: &[i32]| it.iter().copied().map(BrokerId).collect();
    let assignments = assignments.iter().map(|(partition, it)| (*partition, brokers(it))).collect();
    NewTopic { assignments, ..NewTopic::named(name) }
}

#[test]
fn a_topic_takes_what_it_asks_for_and_the_defaults_for_the_rest() {
    let mut world = World::new(&[("num.partitions", "3")]);
    assert_eq!(world.create(&[NewTopic::named("a"), shaped("b", 5, 1)]), "done\ndone");
    assert_eq!(world.create(&[assigned("c", &[(1, &[1]), (0, &[1])])]), "done");
    assert_eq!(world.topics(), "a:3 b:5 c:2");
    assert_eq!(world.image.partition_count(), 10);
}

#[test]
fn a_name_is_taken_once_and_so_is_its_folded_form() {
    let mut world = World::new(&[]);
    assert_eq!(world.create_named("a.b"), "done");
    assert_eq!(
        world.create_named("a.b a_b x.y x_y d d"),
        "Topic 'a.b' already exists.\nTopic 'a_b' collides with existing topic: a.b\ndone\n\
         Topic 'x_y' collides with existing topic: x.y\nDuplicate topic name.\nDuplicate topic name."
    );
    assert_eq!(
        world.create_named("a/b"),
        "Topic name is invalid: 'a/b' contains one or more \
        characters other than ASCII alphanumerics, '.', '_' and '-'"
    );
    assert_eq!(
        world.create_named("__cluster_metadata"),
        "Creation of internal topic __cluster_metadata is prohibited."
    );
    assert_eq!(world.topics(), "a.b:1 x.y:1");
}

#[test]
fn a_shape_this_node_cannot_have_is_refused() {
    let set = [("corelane.create.partitions.max", "10"), ("corelane.partitions.max", "15")];
    let mut world = World::new(&set);
    for (wish, said) in [
        (shaped("t", 0, 1), "Number of partitions was set to an invalid non-positive value."),
        (shaped("t", -2, 1), "Number of partitions was set to an invalid non-positive value."),
        (
            shaped("t", 1, 0),
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            shaped("t", 1, 3),
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot \
             be reached because only 1 broker(s) are registered.",
        ),
        (
            NewTopic { partitions: 1, ..assigned("t", &[(0, &[1])]) },
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            NewTopic { replication_factor: 1, ..assigned("t", &[(0, &[1])]) },
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        ),
        (
            assigned("t", &[(0, &[1]), (0, &[1])]),
            "Found multiple manual partition assignments for partition 0",
        ),
        (
            assigned("t", &[(1, &[1])]),
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            assigned("t", &[(-1, &[1]), (0, &[1])]),
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            assigned("t", &[(0, &[])]),
            "The manual partition assignment includes an empty replica list.",
        ),
        (
            assigned("t", &[(0, &[1, 2])]),
            "The manual partition assignment includes broker 2, but no such broker is registered.",
        ),
        (
            assigned("t", &[(0, &[1, 1])]),
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (shaped("t", 11, 1), "Excessively large number of partitions per request: more than 10."),
    ] {
        assert_eq!(world.create(&[wish]), said);
    }
    let two = [shaped("a", 6, 1), shaped("b", 5, 1), shaped("c", 4, 1)];
    assert_eq!(
        world.create(&two),
        "done\nExcessively large number of partitions per request: more than 10.\ndone"
    );
    assert_eq!(
        world.create(&[shaped("d", 6, 1)]),
        "This broker has 10 partitions, and 6 more would pass corelane.partitions.max, which is 15."
    );
}

#[test]
fn the_brokers_default_of_copies_is_no_way_around() {
    let mut world = World::new(&[("default.replication.factor", "2")]);
    assert!(world.create_named("t").starts_with("Unable to replicate the partition 2 time(s)"));
    assert_eq!(world.create(&[shaped("t", 1, 1)]), "done");
}

#[test]
fn a_topic_starts_with_configs_that_can_stand() {
    let mut world = World::new(&[]);
    let with = |key: &str, value: Option<&str>| NewTopic {
        configs: vec![(key.to_owned(), value.map(str::to_owned))],
        ..NewTopic::named("t")
    };
    for (wish, said) in [
        (with("no.such", Some("1")), "Unknown topic config name: no.such"),
        (with("segment.ms", None), "Null value not supported for topic configs: segment.ms"),
        (
            with("cleanup.policy", Some("keep")),
            "Invalid value keep for configuration cleanup.policy: String must be one of: compact, \
             delete",
        ),
    ] {
        assert_eq!(world.create(&[wish]), said);
    }
    assert_eq!(world.create(&[with("cleanup.policy", Some("compact"))]), "done");
    let topic = world.image.topic_named("t").unwrap();
    let layers = world.image.layers(&world.settings, NODE);
    let settings = world.image.settings_of(topic, &layers);
    assert!(settings.compact && !settings.delete);
    assert_eq!(settings.retention_ms, Some(604_800_000));
    assert_eq!(settings.retention_bytes, None);
}

#[test]
fn ids_are_drawn_until_one_is_fresh_and_harmless() {
    let world = World::new(&[]);
    let rules = Rules { layers: world.image.layers(&world.settings, NODE), node: NODE };
    // 0xf8 starts the text of an id with a dash; then one id twice.
    let mut draws = [0xf8, 7, 7, 8].into_iter();
    let mut draw = || TopicId([draws.next().unwrap(); 16]);
    let wishes = [NewTopic::named("a"), NewTopic::named("b")];
    let answers = create::plan(&world.image, &rules, &wishes, &mut draw);
    let ids: Vec<TopicId> = answers
        .into_iter()
        .map(|it| match it {
            Ok(Event::TopicCreated { id, .. }) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    let starts: Vec<u8> = ids.iter().map(|it| it.0[0]).collect();
    assert_eq!(starts, [7, 8]);
    assert_eq!((ids[0].0[6], ids[0].0[8]), (0x47, 0x87), "the marks of a random UUID");
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut world = World::new(&[("corelane.create.partitions.max", "10")]);
    world.create_named("t u __consumer_offsets");
    let grow = |name: &str, count| Growth { name: name.to_owned(), count, assignments: None };
    let placed = |brokers: &[i32]| Growth {
        assignments: Some(vec![brokers.iter().copied().map(BrokerId).collect()]),
        ..grow("t", 5)
    };
    assert_eq!(world.grow(&[grow("t", 4)]), "done");
    for (wish, said) in [
        (grow("t", 4), "Topic already has 4 partition(s)."),
        (grow("t", 3), "The topic t currently has 4 partition(s); 3 would not be an increase."),
        (grow("t", -1), "The topic t currently has 4 partition(s); -1 would not be an increase."),
        (grow("x", 4), "This server does not host this topic-partition."),
        (
            grow("__consumer_offsets", 4),
            "The number of partitions of internal topic __consumer_offsets is settled when it is \
             created.",
        ),
        (grow("t", 15), "Excessively large number of partitions per request: more than 10."),
        (
            Growth { count: 6, ..placed(&[1]) },
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            placed(&[4]),
            "The manual partition assignment includes broker 4, but no such broker is registered.",
        ),
    ] {
        assert_eq!(world.grow(&[wish]), said);
    }
    assert_eq!(
        world.grow(&[grow("t", 9), grow("t", 8)]),
        "Duplicate topic name.\nDuplicate topic name."
    );
    assert_eq!(world.grow(&[placed(&[1]), grow("u", 2)]), "done\ndone");
    assert_eq!(world.topics(), "__consumer_offsets:1 t:5 u:2");
}

#[test]
fn a_topic_goes_by_name_or_by_id_and_its_name_is_free_again() {
    let mut world = World::new(&[]);
    world.create_named("a.b b c d");
    let named = |name: &str| Target { name: Some(name.to_owned()), id: TopicId::ZERO };
    let with_id = |id| Target { name: None, id };
    let (b, c, d) = (world.id("b"), world.id("c"), world.id("d"));
    assert_eq!(world.remove(&[named("a.b"), with_id(b)]), "done\ndone");
    assert_eq!(world.create_named("a_b"), "done");
    assert_eq!(
        world.remove(&[named("b"), with_id(b), with_id(TopicId::ZERO)]),
        "This server does not host this topic-partition.\n\
         This server does not host this topic ID.\nNeither topic name nor id were specified."
    );
    assert_eq!(
        world.remove(&[named("c"), with_id(c), with_id(d), with_id(d), named("x"), named("x")]),
        "The provided topic name maps to an ID that was already supplied.\n\
         The provided topic name maps to an ID that was already supplied.\n\
         Duplicate topic id.\nDuplicate topic id.\nDuplicate topic name.\nDuplicate topic name."
    );
    let both = Target { name: Some("c".to_owned()), id: d };
    assert_eq!(
        world.remove(std::slice::from_ref(&both)),
        "You may not specify both topic name and topic id."
    );
    let disabled = remove::plan(&world.image, false, &[named("c")]);
    assert_eq!(disabled[0].as_ref().unwrap_err().to_string(), "Topic deletion is disabled.");
    assert_eq!(world.topics(), "a_b:1 c:1 d:1");
}

#[test]
fn a_topic_somebody_names_is_made_if_both_sides_want_it() {
    let mut world = World::new(&[("offsets.topic.num.partitions", "7")]);
    world.create_named("a.b");
    let mut missing = |names: &[&'static str], client_allows: bool| {
        let names: BTreeSet<&str> = names.iter().copied().collect();
        let answers = world.plan(|image, rules, draw| {
            internal::plan_missing(image, rules, &names, client_allows, draw)
        });
        assert!(answers.keys().eq(&names), "one answer for each name");
        world.commit(answers.into_values().collect())
    };
    let unknown = "This server does not host this topic-partition.";
    assert_eq!(missing(&["x"], false), unknown);
    assert_eq!(
        missing(&["", "__consumer_offsets", "__transaction_state", "a_b", "x"], true),
        format!(
            "Topic name is invalid: the empty string is not allowed\ndone\n{unknown}\n\
             Topic 'a_b' collides with existing topic: a.b\ndone"
        )
    );
    assert_eq!(world.topics(), "__consumer_offsets:7 a.b:1 x:1");
    let offsets = world.image.topic_named("__consumer_offsets").unwrap();
    assert_eq!(offsets.configs["cleanup.policy"], "compact");

    let mut world = World::new(&[("auto.create.topics.enable", "false")]);
    let names = BTreeSet::from(["x"]);
    let answers =
        world.plan(|image, rules, draw| internal::plan_missing(image, rules, &names, true, draw));
    assert_eq!(answers["x"].as_ref().unwrap_err().to_string(), unknown);
}

#[test]
fn a_change_of_values_says_only_what_is_different() {
    let mut world = World::new(&[]);
    world.create_named("t");
    let set = |key: &str, value: &str| Alteration {
        key: key.to_owned(),
        operation: Operation::Set,
        value: Some(value.to_owned()),
    };
    let mut change = |named: &Named, wish: Wish| {
        let planned = configs::plan(&world.image, &world.settings, NODE, named, &wish);
        match planned {
            Err(error) => error.to_string(),
            Ok(None) => "nothing".to_owned(),
            Ok(Some(event)) => {
                world.image.apply(&event).unwrap();
                world.image.check();
                let Event::ConfigsChanged { changes, .. } = event else { panic!("{event:?}") };
                format!("{changes:?}")
            }
        }
    };
    let topic = Named::Topic("t".to_owned());
    let alter = Wish::Alter(vec![set("segment.ms", "5"), set("retention.ms", "6")]);
    assert_eq!(
        change(&topic, alter.clone()),
        r#"{"retention.ms": Some("6"), "segment.ms": Some("5")}"#
    );
    assert_eq!(change(&topic, alter), "nothing");
    let replace = Wish::Replace(vec![("segment.ms".to_owned(), Some("7".to_owned()))]);
    assert_eq!(change(&topic, replace), r#"{"retention.ms": None, "segment.ms": Some("7")}"#);

    let retention = Wish::Alter(vec![set("log.retention.ms", "9")]);
    let changed = r#"{"log.retention.ms": Some("9")}"#;
    assert_eq!(change(&Named::Broker(String::new()), retention.clone()), changed);
    assert_eq!(change(&Named::Broker("1".to_owned()), retention.clone()), changed);
    assert_eq!(
        change(&Named::Broker("2".to_owned()), retention.clone()),
        "Unexpected broker id, expected 1 or empty string, but received 2"
    );
    assert_eq!(change(&Named::Topic("u".to_owned()), retention), "The topic 'u' does not exist.");
    let fixed = Wish::Alter(vec![set("node.id", "9")]);
    assert_eq!(
        change(&Named::Broker("1".to_owned()), fixed),
        "Cannot update these configs dynamically: [node.id]"
    );
    let nothing_left = Wish::Replace(Vec::new());
    assert_eq!(
        change(&Named::Broker("1".to_owned()), nothing_left),
        r#"{"log.retention.ms": None}"#
    );
    let topic = world.image.topic_named("t").unwrap();
    let layers = world.image.layers(&world.settings, NODE);
    assert_eq!(world.image.settings_of(topic, &layers).retention_ms, Some(9));
}
