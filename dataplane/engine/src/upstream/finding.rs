//! What a probe found, with the cause of a failure, in words that an operator can act on.
//!
//! What the gateway itself lacked to make a probe says nothing about the node.

use std::fmt;

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// An HTTP answer.
    Status(u16),
    /// A connection was made, which is all that was asked for.
    Connected,
    /// None was made, or it broke, or what came was not what was asked for.
    Failed(ProbeFault),
    /// It took too long.
    TimedOut(Stage),
    /// It could not be made.
    Unmade(Lack),
}

/// Why a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are below")]
pub enum ProbeFault {
    Connect,
    Broken,
    NotHttp,
    NotTls,
    Refused,
    UnknownIssuer,
    Expired,
    NotYetValid,
    WrongName,
    Certificate,
    Handshake,
}

/// How far a probe had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are below")]
pub enum Stage {
    Connect,
    Handshake,
    Answer,
}

/// What the gateway did not have for a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are below")]
pub enum Lack {
    Descriptor,
    Roots,
    Name,
}

impl ProbeFault {
    /// What the matter is.
    pub fn words(self) -> &'static str {
        match self {
            ProbeFault::Connect => "no connection was made",
            ProbeFault::Broken => "the connection ended before an answer",
            ProbeFault::NotHttp => "the answer is not HTTP",
            ProbeFault::NotTls => "it does not speak TLS",
            ProbeFault::Refused => "it refused the TLS handshake",
            ProbeFault::UnknownIssuer => "its certificate is of no authority that this host trusts",
            ProbeFault::Expired => "its certificate has expired",
            ProbeFault::NotYetValid => "its certificate is not valid yet",
            ProbeFault::WrongName => "its certificate is made out to another name",
            ProbeFault::Certificate => "its certificate is not acceptable",
            ProbeFault::Handshake => "the TLS handshake failed",
        }
    }
}

impl Stage {
    /// Where it stood still.
    pub fn words(self) -> &'static str {
        match self {
            Stage::Connect => "while connecting",
            Stage::Handshake => "in the TLS handshake",
            Stage::Answer => "without an answer",
        }
    }
}

impl Lack {
    /// What was missing.
    pub fn words(self) -> &'static str {
        match self {
            Lack::Descriptor => "the gateway has no file descriptor left",
            Lack::Roots => "this host has no file of trusted certificates",
            Lack::Name => "there is no name that its certificate could be held against; give \"host\"",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Status(status) => write!(f, "{status}"),
            Finding::Connected => f.write_str("connected"),
            Finding::Failed(fault) => write!(f, "failed: {}", fault.words()),
            Finding::TimedOut(stage) => write!(f, "timed out {}", stage.words()),
            Finding::Unmade(lack) => write!(f, "not made: {}", lack.words()),
        }
    }
}
