//! Frames on the local socket, both ways at once.
//!
//! Reading has its own task, so that a large frame on its way out does not keep answers from being heard and a dropped wait never
//! loses half a frame. A peer that takes nothing for ten seconds ends the connection.

use std::io;
use std::time::Duration;

use ringway_snapshot::frame::{FrameKind, HEADER_BYTES, Header};
use ringway_snapshot::message::ToControlplane;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Lost, SILENCE_MAX};

/// Messages read and not yet looked at. The data plane answers what it was sent, so that few are under way.
const INCOMING_MAX: usize = 16;
/// Bytes of one answer: its list of faults is the longest part.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes handed to the socket at a time: progress is looked at after each.
const CHUNK_BYTES: usize = 256 << 10;
/// For one chunk to be taken.
const CHUNK_MAX: Duration = Duration::from_secs(10);

/// What comes in.
pub(super) struct Incoming {
    messages: mpsc::Receiver<Result<ToControlplane, Lost>>,
    task: JoinHandle<()>,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Incoming {
    /// Reads from now on.
    pub(super) fn start(mut read: OwnedReadHalf) -> Incoming {
        let (send, messages) = mpsc::channel(INCOMING_MAX);
        let task = tokio::spawn(async move {
            loop {
                let message = receive(&mut read).await;
                let ended = message.is_err();
                if send.send(message).await.is_err() || ended {
                    return;
                }
            }
        });
        Incoming { messages, task }
    }

    /// The next message. May be dropped and called again without loss.
    pub(super) async fn next(&mut self) -> Result<ToControlplane, Lost> {
        self.messages.recv().await.unwrap_or(Err(Lost::Protocol("the connection is closed")))
    }
}

async fn receive(read: &mut OwnedReadHalf) -> Result<ToControlplane, Lost> {
    let mut header = [0; HEADER_BYTES];
    if let Err(error) = read.read_exact(&mut header).await {
        return Err(match error.kind() {
            io::ErrorKind::UnexpectedEof => Lost::Protocol("the data plane closed the connection"),
            _ => error.into(),
        });
    }
    let header = Header::decode(&header)?;
    if header.payload_bytes > ANSWER_BYTES_MAX {
        return Err(Lost::Protocol("the data plane's answer is too long"));
    }
    let mut payload = vec![0; header.payload_bytes];
    timeout(SILENCE_MAX, read.read_exact(&mut payload)).await.map_err(|_| Lost::Silent(SILENCE_MAX))??;
    Ok(header.open(FrameKind::ToControlplane, &payload)?)
}

/// Writes one frame.
pub(super) async fn send(write: &mut OwnedWriteHalf, frame: &[u8]) -> Result<(), Lost> {
    for chunk in frame.chunks(CHUNK_BYTES) {
        timeout(CHUNK_MAX, write.write_all(chunk)).await.map_err(|_| Lost::Silent(CHUNK_MAX))??;
    }
    Ok(())
}
