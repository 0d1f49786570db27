//! Keys and values of records in internal topics: messages behind two bytes that say what they are.
//!
//! A key begins with the number of its type and is always in version 0; a value begins with its
//! version. Lag tools read these, so they are Kafka's to the byte.

use super::{DecodeError, EncodeError, Message, Reader};

/// The key of a record: its type says which message key and value are.
pub trait RecordKey<'a>: Message<'a> {
    const TYPE: i16;

    /// Appends type and key to `out`.
    ///
    /// # Errors
    /// When a string in it is too long. `out` is as before then.
    fn encode_key(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        behind(Self::TYPE, out, |it| self.encode(0, it))
    }

    /// Reads a key whose [`record_type`] is this one.
    ///
    /// # Errors
    /// When the bytes are not such a key.
    fn decode_key(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let number = record_type(bytes)?;
        if number != Self::TYPE {
            return Err(DecodeError::RecordType { number, expected: Self::TYPE });
        }
        Ok(Self::decode(&bytes[2..], 0)?.0)
    }
}

/// The number at the start of a key.
///
/// # Errors
/// When there are not even two bytes.
pub fn record_type(key: &[u8]) -> Result<i16, DecodeError> {
    Reader::new(key, 0, false).i16()
}

/// Appends version and value to `out`.
///
/// # Errors
/// When the value cannot be said in this version. `out` is as before then.
pub fn encode_value<'a, M: Message<'a>>(
    version: i16,
    value: &M,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    behind(version, out, |it| value.encode(version, it))
}

/// Reads a value, in the version it says.
///
/// # Errors
/// When the version is unknown or the bytes are not such a value.
pub fn decode_value<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<M, DecodeError> {
    let version = record_type(bytes)?;
    Ok(M::decode(&bytes[2..], version)?.0)
}

fn behind(
    number: i16,
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let length = out.len();
    out.extend_from_slice(&number.to_be_bytes());
    let result = encode(out);
    if result.is_err() {
        out.truncate(length);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::consumer_offsets::{OffsetCommitKey, OffsetCommitValue};

    #[test]
    fn a_committed_offset_is_written_as_lag_tools_read_it() {
        let key = OffsetCommitKey { group: "g", topic: "t", partition: 1 };
        let mut bytes = Vec::new();
        key.encode_key(&mut bytes).unwrap();
        assert_eq!(bytes, [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 1]);
        assert_eq!(OffsetCommitKey::decode_key(&bytes), Ok(key));

        let value = OffsetCommitValue { offset: 5, metadata: "m", ..Default::default() };
        let mut bytes = Vec::new();
        encode_value(3, &value, &mut bytes).unwrap();
        assert_eq!(bytes[..10], [0, 3, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(decode_value(&bytes), Ok(value));
    }

    #[test]
    fn a_key_of_another_type_is_refused() {
        let error = OffsetCommitKey::decode_key(&[0, 2, 0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "a record key of type 2 where 1 was expected");
        assert!(OffsetCommitKey::decode_key(&[0]).is_err());
    }
}
