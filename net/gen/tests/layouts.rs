//! Names and types of all fields, against those that Kafka publishes of itself.
//!
//! Golden bytes do not show a name: two fields of one type could change places unseen. The oracle
//! keeps a hash of each message's layout in each version, and one of the defaults of all fields
//! in it, however deep; here the schema gives the same.

use corelane_netgen::schema::{Field, Message, Struct, Type};
use std::{collections::BTreeMap, fs};

#[test]
fn every_field_has_kafkas_name_and_type_at_kafkas_place() {
    let net = corelane_netgen::net_dir();
    let kafka = fs::read_to_string(net.join("tests/golden/layouts.txt")).unwrap();
    let kafka: BTreeMap<(&str, i16), &str> = kafka
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next().unwrap(), words.next().unwrap());
            ((name, version.parse().unwrap()), words.next().unwrap())
        })
        .collect();
    let families = corelane_netgen::families(&net.join("schema")).unwrap();
    let mut checked = 0;
    for message in families.iter().flat_map(|it| &it.messages) {
        for version in message.versions.min..=message.versions.max {
            let ours = layout(message, &message.structs[0], version);
            let theirs = kafka.get(&(message.name.as_str(), version)).copied();
            let hash = format!("{:016x}", fnv1a(&ours));
            assert_eq!(theirs, Some(hash.as_str()), "{} {version}: {ours}", message.name);
            checked += 1;
        }
    }
    assert_eq!(checked, kafka.len());
}

#[test]
fn every_default_is_kafkas_however_deep_it_lies() {
    let net = corelane_netgen::net_dir();
    let kafka = fs::read_to_string(net.join("tests/golden/defaults.txt")).unwrap();
    let kafka: BTreeMap<&str, &str> =
        kafka.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let families = corelane_netgen::families(&net.join("schema")).unwrap();
    let mut checked = 0;
    for message in families.iter().flat_map(|it| &it.messages) {
        let ours = defaults(message, &message.structs[0]);
        let hash = format!("{:016x}", fnv1a(&ours));
        let theirs = kafka.get(message.name.as_str()).copied();
        assert_eq!(theirs, Some(hash.as_str()), "{}: {ours}", message.name);
        checked += 1;
    }
    assert_eq!(checked, kafka.len());
}

fn defaults(message: &Message, it: &Struct) -> String {
    let inner = |kind: &Type| match kind {
        Type::Struct(name) => {
            defaults(message, message.structs.iter().find(|it| it.name == *name).unwrap())
        }
        _ => String::new(),
    };
    let fields: BTreeMap<&str, String> = it
        .fields
        .iter()
        .map(|field| {
            let null = field.default.as_deref() == Some("null");
            let value = match (&field.kind, field.default.as_deref()) {
                // Kafka keeps no records as null, even where null cannot be sent.
                (Type::Records, _) | (_, Some("null")) => "null",
                (Type::String | Type::PlainString, _) => "''",
                (Type::Bool, it) => it.unwrap_or("false"),
                (Type::F64, it) => it.unwrap_or("0.0"),
                (Type::Uuid, _) => "zero",
                (Type::Bytes, _) => "bytes",
                (Type::Array(_), _) => "[]",
                (Type::Struct(_), _) => "",
                (_, number) => number.unwrap_or("0"),
            };
            let inner = match &field.kind {
                Type::Array(element) => inner(element),
                kind => inner(kind),
            };
            assert!(!null || field.nullable.is_some(), "{} cannot be null", field.name);
            (field.name.as_str(), format!("{value}{inner}"))
        })
        .collect();
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", fields.join(", "))
}

fn layout(message: &Message, it: &Struct, version: i16) -> String {
    let there = |field: &&Field| field.versions.min <= version && version <= field.versions.max;
    let mut text = String::from("{");
    for field in it.fields.iter().filter(there).filter(|it| it.tag.is_none()) {
        text += &format!("{}:{} ", field.name, kind(message, field, version));
    }
    if message.flexible_from.is_some_and(|from| from <= version) {
        let mut tagged: Vec<_> = it.fields.iter().filter(there).collect();
        tagged.retain(|it| it.tag.is_some());
        tagged.sort_by_key(|it| it.tag);
        text += "<";
        for field in tagged {
            let tag = field.tag.unwrap();
            text += &format!("{tag} {}:{} ", field.name, kind(message, field, version));
        }
        text += ">";
    }
    text + "}"
}

fn kind(message: &Message, field: &Field, version: i16) -> String {
    let nullable = field.nullable.is_some_and(|it| it.min <= version && version <= it.max);
    simple(message, &field.kind, version) + if nullable { "?" } else { "" }
}

fn simple(message: &Message, kind: &Type, version: i16) -> String {
    match kind {
        Type::Bool => "boolean".into(),
        Type::I8 => "int8".into(),
        Type::I16 => "int16".into(),
        Type::U16 => "uint16".into(),
        Type::I32 => "int32".into(),
        Type::U32 => "uint32".into(),
        Type::I64 => "int64".into(),
        Type::F64 => "float64".into(),
        Type::Uuid => "uuid".into(),
        Type::String | Type::PlainString => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Records => "records".into(),
        Type::Array(element) => format!("[{}]", simple(message, element, version)),
        Type::Struct(name) => {
            let it = message.structs.iter().find(|it| it.name == *name).unwrap();
            layout(message, it, version)
        }
    }
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
