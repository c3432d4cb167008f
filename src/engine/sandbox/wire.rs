//! What the caller and its starter say to each other, as bytes.
//!
//! Both ends are the same executable, so there is no version. Every field is length-prefixed or of fixed size,
//! little-endian. Decoding never trusts a length further than the bytes that are there.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Collects fields.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn number(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn flag(&mut self, value: bool) -> &mut Self {
        self.bytes.push(u8::from(value));
        self
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.number(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    pub(super) fn path(&mut self, value: &Path) -> &mut Self {
        self.bytes(value.as_os_str().as_bytes())
    }

    pub(super) fn text(&mut self, value: &OsStr) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A number or its absence.
    pub(super) fn option(&mut self, value: Option<u64>) -> &mut Self {
        self.flag(value.is_some()).number(value.unwrap_or(0))
    }

    /// Its length, then the fields.
    fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(self.bytes.len() + 8);
        frame.extend_from_slice(&(self.bytes.len() as u64).to_le_bytes());
        frame.extend_from_slice(&self.bytes);
        frame
    }

    /// Sends all of it as one frame.
    pub(super) fn send(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(&self.frame())
    }

    /// The same, with a descriptor, which the other side comes to own a copy of.
    pub(super) fn send_with(&self, mut to: &UnixStream, file: BorrowedFd<'_>) -> io::Result<()> {
        let frame = self.frame();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        control.push(SendAncillaryMessage::ScmRights(&files));
        let sent = loop {
            match sendmsg(to, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                sent => break sent?,
            }
        };
        to.write_all(&frame[sent..])
    }
}

/// Takes fields, in the order in which they were written.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a message is cut off"));
        };
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// The length of a list that follows.
    pub(super) fn count(&mut self) -> io::Result<usize> {
        usize::try_from(self.number()?).map_err(io::Error::other)
    }

    pub(super) fn flag(&mut self) -> io::Result<bool> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    pub(super) fn path(&mut self) -> io::Result<PathBuf> {
        Ok(PathBuf::from(self.text()?))
    }

    pub(super) fn text(&mut self) -> io::Result<OsString> {
        Ok(OsString::from_vec(self.bytes()?.to_vec()))
    }

    pub(super) fn option(&mut self) -> io::Result<Option<u64>> {
        let some = self.flag()?;
        let value = self.number()?;
        if !some && value != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what is absent has a value"));
        }
        Ok(some.then_some(value))
    }

    /// Sees that nothing is left over.
    pub(super) fn end(&self) -> io::Result<()> {
        match self.rest {
            [] => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long")),
        }
    }
}

/// Reads one frame and the descriptor that came with it, if one did; `None` at the end of the stream.
pub(super) fn receive_with(
    mut from: &UnixStream,
) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut length = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut first = [IoSliceMut::new(&mut length)];
    let have = loop {
        match recvmsg(from, &mut first, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?.bytes,
        }
    };
    if have == 0 {
        return Ok(None);
    }
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    from.read_exact(&mut length[have..])?;
    Ok(Some((body(from, length)?, file)))
}

/// Reads one frame; `None` at the end of the stream.
pub(super) fn receive(mut from: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    let mut have = 0;
    while have < length.len() {
        match from.read(&mut length[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    body(from, length).map(Some)
}

fn body(from: impl Read, length: [u8; 8]) -> io::Result<Vec<u8>> {
    let length = u64::from_le_bytes(length);
    let mut frame = Vec::new();
    from.take(length).read_to_end(&mut frame)?;
    if frame.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were_sent() {
        let mut writer = Writer::default();
        writer
            .number(7)
            .flag(true)
            .bytes(b"\0x")
            .text(OsStr::new("t"))
            .option(None)
            .option(Some(3));
        let mut sent = Vec::new();
        writer.send(&mut sent).unwrap();
        assert_eq!(sent[..8], 46u64.to_le_bytes());
        let frame = receive(&sent[..]).unwrap().unwrap();
        let mut reader = Reader::new(&frame);
        assert_eq!(reader.number().unwrap(), 7);
        assert!(reader.flag().unwrap());
        assert_eq!(reader.bytes().unwrap(), b"\0x");
        assert_eq!(reader.text().unwrap(), "t");
        assert_eq!(reader.option().unwrap(), None);
        assert_eq!(reader.option().unwrap(), Some(3));
        assert!(reader.number().is_err());
    }

    #[test]
    fn a_descriptor_travels_with_its_frame_and_no_other() {
        let (one, other) = UnixStream::pair().unwrap();
        let (from, to) = io::pipe().unwrap();
        let long = vec![b'x'; 100_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use std::os::fd::AsFd as _;
                let mut writer = Writer::default();
                writer.bytes(&long);
                writer.send_with(&one, to.as_fd()).unwrap();
                Writer::default().send(&one).unwrap();
            });
            let (frame, file) = receive_with(&other).unwrap().unwrap();
            assert_eq!(Reader::new(&frame).bytes().unwrap(), &long[..]);
            std::fs::File::from(file.unwrap()).write_all(b"through").unwrap();
            let (frame, file) = receive_with(&other).unwrap().unwrap();
            assert!(frame.is_empty() && file.is_none());
        });
        drop((one, to));
        assert!(receive_with(&other).unwrap().is_none());
        assert_eq!(io::read_to_string(from).unwrap(), "through");
    }

    #[test]
    fn a_hostile_length_is_an_error_and_no_allocation() {
        assert!(receive(&u64::MAX.to_le_bytes()[..]).is_err());
        assert!(Reader::new(&u64::MAX.to_le_bytes()).bytes().is_err());
        assert!(receive(&[][..]).unwrap().is_none());
        assert!(receive(&[1, 0][..]).is_err());
    }
}
