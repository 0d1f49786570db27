//! One connection to a broker, in two halves: frames out, frames in.
//!
//! The halves know nothing of each other, so that requests can be under way while answers come.
//! Who sends remembers what was asked; answers come in the order of the questions.

use corelane_net::api::ApiKey;
use corelane_net::frame::{self, FrameError};
use corelane_net::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_net::wire::{DecodeError, EncodeError, Request, Writer};
use futures_lite::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use glommio::GlommioError;
use glommio::net::TcpStream;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// No answer is larger: what was asked for is far below.
const FRAME_BYTES_MAX: u32 = 512 << 20;
const READ_BYTES_MIN: usize = 32 << 10;
/// What brokers see in their logs.
pub(crate) const CLIENT_ID: &str = "corelane-bench";

/// Why a connection is of no more use, or an answer is not one.
#[derive(Debug)]
pub(crate) enum LinkError {
    Io(io::Error),
    Closed,
    Frame(FrameError),
    Decode(DecodeError),
    Encode(EncodeError),
    /// The broker speaks no version of it that we do.
    Unsupported(ApiKey),
    /// Another question was answered.
    Order {
        asked: i32,
        answered: i32,
    },
    /// The broker said no.
    Refused {
        key: ApiKey,
        code: i16,
        about: String,
    },
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(it) => write!(f, "{it}"),
            Self::Closed => write!(f, "the broker closed the connection"),
            Self::Frame(it) => write!(f, "{it}"),
            Self::Decode(it) => write!(f, "{it}"),
            Self::Encode(it) => write!(f, "{it}"),
            Self::Unsupported(key) => write!(f, "the broker speaks no version of {key:?} we know"),
            Self::Order { asked, answered } => {
                write!(f, "request {asked} was answered as {answered}")
            }
            Self::Refused { key, code, about } => {
                let name = corelane_net::ErrorCode::from_code(*code);
                match name {
                    Some(name) => write!(f, "{key:?} of {about}: {name:?} ({code})"),
                    None => write!(f, "{key:?} of {about}: error {code}"),
                }
            }
        }
    }
}

impl std::error::Error for LinkError {}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<GlommioError<()>> for LinkError {
    fn from(error: GlommioError<()>) -> Self {
        Self::Io(error.into())
    }
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<DecodeError> for LinkError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for LinkError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// What a broker said it speaks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoken(Vec<(i16, i16, i16)>);

/// The newest version we use of some keys: later ones name topics by id, or say the same in lists.
fn newest(key: ApiKey) -> i16 {
    match key {
        ApiKey::Produce | ApiKey::Fetch | ApiKey::Metadata => 12,
        ApiKey::OffsetCommit => 9,
        ApiKey::OffsetFetch => 7,
        ApiKey::FindCoordinator => 3,
        ApiKey::LeaveGroup => 2,
        ApiKey::DeleteTopics => 5,
        _ => i16::MAX,
    }
}

impl Spoken {
    pub(crate) fn version_of<'a, R: Request<'a>>(&self) -> Result<i16, LinkError> {
        let unsupported = LinkError::Unsupported(R::KEY);
        let Some(row) = self.0.iter().find(|it| it.0 == R::KEY.code()) else {
            return Err(unsupported);
        };
        let version = row.2.min(R::VERSIONS.max).min(newest(R::KEY));
        if version < row.1.max(R::VERSIONS.min) { Err(unsupported) } else { Ok(version) }
    }
}

/// The half that sends.
pub(crate) struct Sender {
    half: WriteHalf<TcpStream>,
    spoken: Rc<Spoken>,
    next: i32,
    frame: Vec<u8>,
}

/// The half that receives.
pub(crate) struct Receiver {
    half: ReadHalf<TcpStream>,
    buffer: Vec<u8>,
    from: usize,
    until: usize,
}

/// Both halves, for one question at a time.
pub(crate) struct Link {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

impl Link {
    /// Connects and asks what is spoken there.
    pub(crate) async fn open(addr: SocketAddr) -> Result<Self, LinkError> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (read, write) = split(stream);
        let first = Spoken(vec![(ApiKey::ApiVersions.code(), 0, 0)]);
        let mut link = Self {
            sender: Sender { half: write, spoken: Rc::new(first), next: 0, frame: Vec::new() },
            receiver: Receiver { half: read, buffer: Vec::new(), from: 0, until: 0 },
        };
        let rows = {
            let answer = link.ask(&ApiVersionsRequest::default()).await?;
            let said: ApiVersionsResponse<'_> = answer.decode::<ApiVersionsRequest<'_>>()?;
            refuse(ApiKey::ApiVersions, said.error_code, "the connection")?;
            said.api_keys.iter().map(|it| (it.api_key, it.min_version, it.max_version)).collect()
        };
        link.sender.spoken = Rc::new(Spoken(rows));
        Ok(link)
    }

    /// Gives memory back until the next question, which may never come.
    pub(crate) fn rest(&mut self) {
        if self.receiver.from == self.receiver.until {
            self.receiver.buffer = Vec::new();
            (self.receiver.from, self.receiver.until) = (0, 0);
        }
        self.sender.frame = Vec::new();
        self.sender.spoken = Rc::default();
    }

    /// One question and its answer.
    pub(crate) async fn ask<'a, R: Request<'a>>(
        &mut self,
        request: &R,
    ) -> Result<Answer<'_>, LinkError> {
        let asked = self.sender.send(request).await?;
        let frame = self.receiver.frame().await?;
        Ok(Answer { asked, frame })
    }
}

/// What was asked: enough to read the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) id: i32,
    pub(crate) version: i16,
}

/// A frame that answers.
pub(crate) struct Answer<'f> {
    asked: Asked,
    frame: &'f [u8],
}

impl<'f> Answer<'f> {
    pub(crate) fn new(asked: Asked, frame: &'f [u8]) -> Self {
        Self { asked, frame }
    }

    /// Reads it as the answer to a request `R`.
    pub(crate) fn decode<'a, R: Request<'a>>(&self) -> Result<R::Response<'f>, LinkError> {
        let (answered, said) = frame::decode_response(R::KEY, self.asked.version, self.frame)?;
        if answered != self.asked.id {
            return Err(LinkError::Order { asked: self.asked.id, answered });
        }
        Ok(said)
    }
}

/// Nothing, or the refusal.
pub(crate) fn refuse(key: ApiKey, code: i16, about: &str) -> Result<(), LinkError> {
    if code == 0 { Ok(()) } else { Err(LinkError::Refused { key, code, about: about.to_owned() }) }
}

impl Sender {
    /// Writes the frame of a request into this half; [`Sender::flush`] sends it.
    pub(crate) fn prepare<'a, R: Request<'a>>(&mut self, request: &R) -> Result<Asked, LinkError> {
        let asked = Asked { id: self.next, version: self.spoken.version_of::<R>()? };
        self.next = self.next.wrapping_add(1);
        let writer = &mut Writer::copying(&mut self.frame);
        frame::encode_request(asked.version, asked.id, Some(CLIENT_ID), request, writer)?;
        Ok(asked)
    }

    pub(crate) async fn flush(&mut self) -> Result<(), LinkError> {
        let sent = self.half.write_all(&self.frame).await;
        self.frame.clear();
        Ok(sent?)
    }

    pub(crate) async fn send<'a, R: Request<'a>>(
        &mut self,
        request: &R,
    ) -> Result<Asked, LinkError> {
        let asked = self.prepare(request)?;
        self.flush().await?;
        Ok(asked)
    }
}

impl Receiver {
    /// The next frame, without its size.
    pub(crate) async fn frame(&mut self) -> Result<&[u8], LinkError> {
        self.fill(4).await?;
        let prefix = self.buffer[self.from..].first_chunk().expect("four bytes are there");
        let bytes = frame::size(*prefix, FRAME_BYTES_MAX)?;
        self.fill(4 + bytes).await?;
        let from = self.from + 4;
        self.from = from + bytes;
        Ok(&self.buffer[from..from + bytes])
    }

    /// Reads until `bytes` bytes are there.
    async fn fill(&mut self, bytes: usize) -> Result<(), LinkError> {
        while self.until - self.from < bytes {
            if self.from == self.until {
                (self.from, self.until) = (0, 0);
            }
            if self.buffer.len() - self.from < bytes.max(READ_BYTES_MIN) {
                self.buffer.copy_within(self.from..self.until, 0);
                (self.from, self.until) = (0, self.until - self.from);
                let wanted = bytes.max(READ_BYTES_MIN);
                if self.buffer.len() < wanted {
                    self.buffer.resize(wanted, 0);
                }
            }
            match self.half.read(&mut self.buffer[self.until..]).await? {
                0 => return Err(LinkError::Closed),
                read => self.until += read,
            }
        }
        Ok(())
    }
}
