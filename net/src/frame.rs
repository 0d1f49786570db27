//! What surrounds a message on a connection: the size, the header, and the rules about both.
//!
//! A frame is four bytes of size and so many bytes. A request's header says which message in
//! which version follows; a response's only says which request it answers, so who reads it must
//! remember. Frames are handed in and out here without their size read twice: [`size`] looks at
//! the four bytes, everything else at the bytes after them.

use crate::{
    api::{Api, ApiKey, api_versions_refusal},
    messages::headers::{RequestHeader, ResponseHeader},
    wire::{DecodeError, EncodeError, Message, Reader, Request, Versions, Writer},
};
use std::fmt;

/// A frame that cannot be answered. The connection it came on has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    Negative {
        bytes: i32,
    },
    TooLarge {
        bytes: u32,
        bytes_max: u32,
    },
    /// No key of the protocol.
    UnknownKey {
        key: i16,
        version: i16,
    },
    /// A key or version that was not announced.
    NotOffered {
        key: ApiKey,
        version: i16,
        accepted: Option<Versions>,
    },
    Malformed(DecodeError),
}

impl From<DecodeError> for FrameError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative { bytes } => write!(f, "a frame of {bytes} bytes"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "a frame of {bytes} bytes where {bytes_max} are allowed")
            }
            Self::UnknownKey { key, version } => {
                write!(f, "request key {key} version {version} is not of this protocol")
            }
            Self::NotOffered { key, version, accepted: Some(accepted) } => {
                write!(f, "{key:?} version {version} is not offered, only {accepted}")
            }
            Self::NotOffered { key, version, accepted: None } => {
                write!(f, "{key:?} version {version} is not offered")
            }
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FrameError {}

/// How many bytes follow the four that announce them.
///
/// # Errors
/// When the number is negative or above `bytes_max`.
pub fn size(prefix: [u8; 4], bytes_max: u32) -> Result<usize, FrameError> {
    let bytes = i32::from_be_bytes(prefix);
    let bytes = u32::try_from(bytes).map_err(|_| FrameError::Negative { bytes })?;
    if bytes > bytes_max {
        return Err(FrameError::TooLarge { bytes, bytes_max });
    }
    Ok(bytes as usize)
}

/// What a request's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    pub key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

/// A frame whose header has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// An offered request; decode `body` as the request of `head.key` in `head.version`.
    Request { head: Head<'a>, body: &'a [u8] },
    /// ApiVersions in a version nobody knows: answer with [`encode_refusal`], stay connected.
    UnknownApiVersions { version: i16, correlation_id: i32 },
}

/// Reads the header of a request's frame.
///
/// # Errors
/// When it is malformed, or names a request that is not offered.
pub fn open(frame: &[u8]) -> Result<Incoming<'_>, FrameError> {
    let mut start = Reader::new(frame, 0, false);
    let (key, version) = (start.i16()?, start.i16()?);
    let correlation_id = start.i32()?;
    let Some(key) = ApiKey::from_code(key) else {
        return Err(FrameError::UnknownKey { key, version });
    };
    let api = Api::of(key);
    if !api.accepts(version) {
        if key == ApiKey::ApiVersions {
            return Ok(Incoming::UnknownApiVersions { version, correlation_id });
        }
        return Err(FrameError::NotOffered { key, version, accepted: api.accepted() });
    }
    let client_id = start.plain_nullable_string()?;
    if is_flexible(key, version) {
        start.skip_tags()?;
    }
    let head = Head { key, version, correlation_id, client_id };
    Ok(Incoming::Request { head, body: start.rest() })
}

/// The version of the header before a request.
#[must_use]
pub const fn request_header_version(key: ApiKey, version: i16) -> i16 {
    if is_flexible(key, version) { 2 } else { 1 }
}

/// The version of the header before a response. That of ApiVersions never has tagged fields: a
/// client that does not know yet how old the other side is must be able to read it.
#[must_use]
pub const fn response_header_version(key: ApiKey, version: i16) -> i16 {
    match key {
        ApiKey::ApiVersions => 0,
        _ if is_flexible(key, version) => 1,
        _ => 0,
    }
}

const fn is_flexible(key: ApiKey, version: i16) -> bool {
    match FLEXIBLE_FROM[key.code() as usize] {
        Some(from) => from <= version,
        None => false,
    }
}

/// By key: every request and every response asks.
static FLEXIBLE_FROM: [Option<i16>; KEYS] = {
    let mut from = [None; KEYS];
    let mut at = 0;
    while at < ApiKey::ALL.len() {
        let key = ApiKey::ALL[at];
        from[key.code() as usize] = key.facts().flexible_from;
        at += 1;
    }
    from
};

/// One more than the newest key.
const KEYS: usize = ApiKey::ALL[ApiKey::ALL.len() - 1].code() as usize + 1;

/// Writes a whole request frame, size included.
///
/// # Errors
/// When the request cannot be said in this version. The output is as before then.
pub fn encode_request<'a, R: Request<'a>>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
    writer: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id,
    };
    writer.frame(|it| {
        header.encode_with(request_header_version(R::KEY, version), it)?;
        request.encode_with(version, it)
    })
}

/// Writes a whole response frame, size included.
///
/// # Errors
/// When the response cannot be said in this version. The output is as before then.
pub fn encode_response<'a, M: Message<'a>>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
    writer: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    writer.frame(|it| {
        let header = ResponseHeader { correlation_id };
        header.encode_with(response_header_version(key, version), it)?;
        response.encode_with(version, it)
    })
}

/// Writes the answer to an ApiVersions request in a version nobody knows.
pub fn encode_refusal(correlation_id: i32, out: &mut Vec<u8>) {
    let writer = &mut Writer::copying(out);
    encode_response(ApiKey::ApiVersions, 0, correlation_id, &api_versions_refusal(), writer)
        .expect("the refusal has no field that version 0 lacks");
}

/// Reads the frame of a response to a request `R` that was sent in `version`; gives the id of
/// the request it answers, too.
///
/// # Errors
/// When header or body are malformed.
pub fn decode_response<'a, M: Message<'a>>(
    key: ApiKey,
    version: i16,
    frame: &'a [u8],
) -> Result<(i32, M), DecodeError> {
    let header_version = response_header_version(key, version);
    let (header, length) = ResponseHeader::decode(frame, header_version)?;
    let (response, _) = M::decode(&frame[length..], version)?;
    Ok((header.correlation_id, response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{
        api_versions::ApiVersionsRequest, metadata::MetadataRequest, produce::ProduceRequest,
    };

    fn frame_of<'a, R: Request<'a>>(version: i16, request: &R) -> Vec<u8> {
        let mut out = Vec::new();
        encode_request(version, 7, Some("me"), request, &mut Writer::copying(&mut out)).unwrap();
        assert_eq!(size(out[..4].try_into().unwrap(), 1000).unwrap(), out.len() - 4);
        out.split_off(4)
    }

    #[test]
    fn a_request_is_opened_as_it_was_sent() {
        for version in 3..=11 {
            let frame = frame_of(version, &ProduceRequest { acks: -1, ..Default::default() });
            let Ok(Incoming::Request { head, body }) = open(&frame) else {
                panic!("not opened: {frame:?}");
            };
            let sent =
                Head { key: ApiKey::Produce, version, correlation_id: 7, client_id: Some("me") };
            assert_eq!(head, sent);
            let (request, length) = ProduceRequest::decode(body, version).unwrap();
            assert_eq!((request.acks, length), (-1, body.len()));
        }
    }

    /// Clients stop for good when a single byte of this answer differs.
    #[test]
    fn api_versions_from_the_future_is_answered_in_version_0() {
        let mut frame = frame_of(4, &ApiVersionsRequest::default());
        frame[3] = 99;
        let version = 99;
        assert_eq!(open(&frame), Ok(Incoming::UnknownApiVersions { version, correlation_id: 7 }));
        let mut out = Vec::new();
        encode_refusal(7, &mut out);
        assert_eq!(
            out,
            [
                [0, 0, 0, 16].as_slice(), // size
                &[0, 0, 0, 7],            // correlation id
                &[0, 35],                 // error
                &[0, 0, 0, 1],            // one range
                &[0, 18, 0, 0, 0, 4],     // key, from, to
            ]
            .concat()
        );
    }

    #[test]
    fn what_is_not_offered_is_refused_with_a_reason() {
        let mut frame = frame_of(9, &MetadataRequest::default());
        frame[3] = 14;
        let told = open(&frame).unwrap_err().to_string();
        assert_eq!(told, "Metadata version 14 is not offered, only 0-13");
        frame[1] = 68;
        let told = open(&frame).unwrap_err().to_string();
        assert_eq!(told, "ConsumerGroupHeartbeat version 14 is not offered");
        frame[1] = 5;
        let told = open(&frame).unwrap_err().to_string();
        assert_eq!(told, "request key 5 version 14 is not of this protocol");
    }

    #[test]
    fn a_size_is_never_believed_beyond_its_limit() {
        assert_eq!(size([0, 0, 0, 9], 9), Ok(9));
        assert_eq!(size([0, 0, 0, 9], 8), Err(FrameError::TooLarge { bytes: 9, bytes_max: 8 }));
        assert_eq!(size([0xff; 4], 8), Err(FrameError::Negative { bytes: -1 }));
    }

    #[test]
    fn the_header_before_api_versions_never_has_tags() {
        for version in 0..=5 {
            assert_eq!(response_header_version(ApiKey::ApiVersions, version), 0);
        }
        assert_eq!(response_header_version(ApiKey::Metadata, 8), 0);
        assert_eq!(response_header_version(ApiKey::Metadata, 9), 1);
    }
}
