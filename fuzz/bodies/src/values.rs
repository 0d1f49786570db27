//! Good messages with made-up values, written from the schema text and not by the code under test.
//!
//! A message is written as Kafka would: a tagged field that has its default is left out, a length is
//! in its shortest form. So reading the bytes and writing what was read must give them back.

use std::sync::OnceLock;

use corelane_net::messages::catalogue::Entry;
use corelane_netgen::schema::{Family, Field, Message, Range, Struct, Type};
use corelane_netgen::{families, net_dir};

use crate::Dice;

/// Elements of one array; deeper ones have fewer, so that messages stay small.
const ELEMENTS_MAX: usize = 3;
const TEXT_BYTES_MAX: usize = 12;
/// A text or bytes may also be of about this size, where lengths take one byte more.
const LONG_BYTES: usize = 130;

/// The schema of all messages.
pub struct Schema(Vec<Family>);

impl Schema {
    /// Read once a process.
    ///
    /// # Panics
    /// When the schema of this workspace cannot be read.
    #[must_use]
    pub fn get() -> &'static Self {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| {
            Self(families(&net_dir().join("schema")).expect("the schema can be read"))
        })
    }

    /// Writes a message of this name with values that the dice choose.
    ///
    /// # Panics
    /// When there is no such message.
    #[must_use]
    pub fn message(&self, name: &str, version: i16, dice: &mut Dice) -> Vec<u8> {
        let mut messages = self.0.iter().flat_map(|it| &it.messages);
        let message = messages.find(|it| it.name == name).expect("the schema has every message");
        let flexible = message.flexible_from.is_some_and(|from| from <= version);
        let mut maker = Maker { message, version, flexible, dice, depth: 0, out: Vec::new() };
        maker.write_struct(&message.structs[0]);
        maker.out
    }
}

/// What was made up is read whole and written back to the byte.
///
/// # Panics
/// When it is not.
pub fn check(entry: &Entry, version: i16, body: &[u8]) {
    let mut out = Vec::new();
    let read = (entry.recode)(body, version, &mut out);
    assert_eq!(read, Ok(body.len()), "{} version {version} of {body:?}", entry.name);
    assert_eq!(out, body, "{} version {version}", entry.name);
}

struct Maker<'s, 'd> {
    message: &'s Message,
    version: i16,
    flexible: bool,
    dice: &'d mut Dice,
    depth: usize,
    out: Vec<u8>,
}

fn has(versions: Range, version: i16) -> bool {
    versions.min <= version && version <= versions.max
}

impl<'s> Maker<'s, '_> {
    fn find(&self, name: &str) -> &'s Struct {
        let mut structs = self.message.structs.iter();
        structs.find(|it| it.name == name).expect("a schema names structs it has")
    }

    fn write_struct(&mut self, it: &'s Struct) {
        let here = |field: &&Field| has(field.versions, self.version);
        let fields: Vec<&Field> = it.fields.iter().filter(here).collect();
        for field in fields.iter().filter(|it| it.tag.is_none()) {
            self.write_field(field);
        }
        if !self.flexible {
            return;
        }
        let mut tagged: Vec<&Field> = fields.into_iter().filter(|it| it.tag.is_some()).collect();
        tagged.sort_by_key(|it| it.tag);
        let mut written = Vec::new();
        for field in tagged {
            let default = self.apart(|it| it.write_default(field));
            let value = self.apart(|it| it.write_field(field));
            if value != default && !self.dice.once_in(3) {
                written.push((field.tag.expect("it is tagged"), value));
            }
        }
        self.uvarint(written.len());
        for (tag, value) in written {
            self.uvarint(tag as usize);
            self.uvarint(value.len());
            self.out.extend(value);
        }
    }

    /// What is written, but not into the message.
    fn apart(&mut self, write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let before = std::mem::take(&mut self.out);
        write(self);
        std::mem::replace(&mut self.out, before)
    }

    fn write_field(&mut self, field: &'s Field) {
        let nullable = field.nullable.is_some_and(|it| has(it, self.version));
        let null = nullable && self.dice.once_in(4);
        if nullable && matches!(field.kind, Type::Struct(_)) {
            self.struct_is_there(field, !null);
        }
        if null {
            self.write_null(&field.kind);
        } else {
            self.write_value(&field.kind);
        }
    }

    /// Structs that may be null say so before them, in another way when they are tagged.
    fn struct_is_there(&mut self, field: &Field, there: bool) {
        let (yes, no) = if field.tag.is_some() { (1, 0) } else { (1, 0xff) };
        self.out.push(if there { yes } else { no });
    }

    fn write_null(&mut self, kind: &Type) {
        match kind {
            Type::Struct(_) => {}
            Type::PlainString => self.out.extend([0xff; 2]),
            _ if self.flexible => self.out.push(0),
            Type::String => self.out.extend([0xff; 2]),
            _ => self.out.extend([0xff; 4]),
        }
    }

    fn write_value(&mut self, kind: &'s Type) {
        match kind {
            Type::Bool => self.out.push(u8::from(self.dice.once_in(2))),
            Type::I8 => self.number(1),
            Type::I16 | Type::U16 => self.number(2),
            Type::I32 | Type::U32 => self.number(4),
            Type::I64 => self.number(8),
            // No NaN: there are several, and whether they keep their bits is the machine's business.
            Type::F64 => {
                let value = f64::from(self.dice.draw() as i32) / 16.0;
                self.out.extend(value.to_be_bytes());
            }
            Type::Uuid => {
                for _ in 0..16 {
                    let byte = self.dice.byte();
                    self.out.push(byte);
                }
            }
            Type::String | Type::PlainString => {
                let text = self.text();
                self.length(text.len(), kind);
                self.out.extend(text.as_bytes());
            }
            Type::Bytes | Type::Records => {
                let length = self.size();
                self.length(length, kind);
                for _ in 0..length {
                    let byte = self.dice.byte();
                    self.out.push(byte);
                }
            }
            Type::Struct(name) => self.write_struct(self.find(name)),
            Type::Array(element) => {
                let count = self.dice.below(ELEMENTS_MAX + 1) >> (self.depth / 2);
                self.length(count, kind);
                self.depth += 1;
                for _ in 0..count {
                    self.write_value(element);
                }
                self.depth -= 1;
            }
        }
    }

    /// What a tagged field is when it is not said.
    fn write_default(&mut self, field: &'s Field) {
        let null = field.nullable.is_some();
        match (&field.kind, field.default.as_deref()) {
            (kind, Some("null")) => {
                if matches!(kind, Type::Struct(_)) {
                    self.struct_is_there(field, false);
                }
                self.write_null(kind);
            }
            (Type::Bool, it) => self.out.push(u8::from(it == Some("true"))),
            (Type::I8, it) => self.default_number(it, 1),
            (Type::I16 | Type::U16, it) => self.default_number(it, 2),
            (Type::I32 | Type::U32, it) => self.default_number(it, 4),
            (Type::I64, it) => self.default_number(it, 8),
            (Type::F64, _) => self.out.extend([0; 8]),
            (Type::Uuid, _) => self.out.extend([0; 16]),
            (Type::Records, None) if null => self.write_null(&field.kind),
            (kind @ (Type::String | Type::PlainString | Type::Bytes | Type::Records), _)
            | (kind @ Type::Array(_), _) => self.length(0, kind),
            (Type::Struct(name), _) => {
                if null {
                    self.struct_is_there(field, true);
                }
                let it = self.find(name);
                for field in it.fields.iter().filter(|it| it.tag.is_none()) {
                    if has(field.versions, self.version) {
                        self.write_default(field);
                    }
                }
                self.uvarint(0);
            }
        }
    }

    fn default_number(&mut self, text: Option<&str>, bytes: usize) {
        let value: i64 = text.map_or(0, |it| it.parse().expect("a default is a number"));
        self.out.extend(&value.to_be_bytes()[8 - bytes..]);
    }

    /// Small numbers and those at the ends are likelier than chance would have them.
    fn number(&mut self, bytes: usize) {
        let value = match self.dice.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (8 * bytes - 1),
            3 => (1 << (8 * bytes - 1)) - 1,
            4 => self.dice.draw() % 256,
            _ => self.dice.draw(),
        };
        self.out.extend(&value.to_be_bytes()[8 - bytes..]);
    }

    fn size(&mut self) -> usize {
        if self.dice.once_in(16) { LONG_BYTES } else { self.dice.below(TEXT_BYTES_MAX) }
    }

    fn text(&mut self) -> String {
        let size = self.size();
        let mut text = String::new();
        while text.len() < size {
            text.push(*self.dice.one_of(&['a', 'Z', '0', '-', '\0', 'é', '€', '🦀']));
        }
        text
    }

    fn length(&mut self, length: usize, of: &Type) {
        match of {
            Type::PlainString => self.length16(length),
            _ if self.flexible => self.uvarint(length + 1),
            Type::String => self.length16(length),
            _ => self.out.extend(u32::try_from(length).expect("short").to_be_bytes()),
        }
    }

    fn length16(&mut self, length: usize) {
        self.out.extend(u16::try_from(length).expect("short").to_be_bytes());
    }

    fn uvarint(&mut self, mut value: usize) {
        while 0x7f < value {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push((value & 0x7f) as u8);
    }
}
