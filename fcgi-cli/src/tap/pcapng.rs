//! The file format pcapng, as far as a recording needs it.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

use super::exchange::Time;

/// Block types.
pub(crate) const SECTION: u32 = 0x0A0D_0D0A;
pub(crate) const INTERFACE: u32 = 1;
pub(crate) const PACKET: u32 = 6;
pub(crate) const BYTE_ORDER: u32 = 0x1A2B_3C4D;
/// The link type of packets that start with their IP header.
pub(crate) const LINK_IP: u16 = 101;
/// An interface option: the unit of its times.
pub(crate) const TIME_UNIT: u16 = 9;
/// Descriptive options: an interface's name and text, and the program that wrote the section.
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const PROGRAM: u16 = 4;
const NANOSECONDS: u8 = 9;

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + 12) as u32;
    let mut out = Vec::with_capacity(length as usize);
    out.extend(kind.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(body);
    out.extend(length.to_le_bytes());
    out
}

fn option(code: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The start of a file; `description` says what was recorded.
pub(crate) fn start(description: &str) -> Vec<u8> {
    let mut section = BYTE_ORDER.to_le_bytes().to_vec();
    // Version 1.0, with an unknown length.
    section.extend([1, 0, 0, 0]);
    section.extend((-1_i64).to_le_bytes());
    option(PROGRAM, concat!("fcgi ", env!("CARGO_PKG_VERSION")).as_bytes(), &mut section);
    option(0, &[], &mut section);

    let mut interface = LINK_IP.to_le_bytes().to_vec();
    // Reserved, and no limit on a packet's length.
    interface.extend([0; 6]);
    option(NAME, b"fcgi tap", &mut interface);
    option(DESCRIPTION, description.as_bytes(), &mut interface);
    option(TIME_UNIT, &[NANOSECONDS], &mut interface);
    option(0, &[], &mut interface);
    [block(SECTION, &section), block(INTERFACE, &interface)].concat()
}

/// One packet.
pub(crate) fn packet(time: Time, bytes: &[u8]) -> Vec<u8> {
    let time = time.as_nanos() as u64;
    let length = (bytes.len() as u32).to_le_bytes();
    let mut body = Vec::with_capacity(bytes.len() + 24);
    body.extend([0; 4]);
    body.extend(((time >> 32) as u32).to_le_bytes());
    body.extend((time as u32).to_le_bytes());
    body.extend(length);
    body.extend(length);
    body.extend(bytes);
    pad(&mut body);
    block(PACKET, &body)
}

/// A file that blocks are written to. If a block does not fit on a full disk, no part of it stays
/// in the file.
pub(crate) enum Output {
    /// A regular file, with its length.
    File(File, u64),
    /// A pipe, a terminal, a device.
    Other(Box<dyn Write + Send>),
}

impl Output {
    /// The kind of `file`, at its start.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        Ok(if file.metadata()?.is_file() {
            Self::File(file, 0)
        } else {
            Self::Other(Box::new(file))
        })
    }

    pub(crate) fn write(&mut self, block: &[u8]) -> io::Result<()> {
        match self {
            Self::Other(out) => out.write_all(block).and_then(|()| out.flush()),
            Self::File(file, length) => match file.write_all(block) {
                Ok(()) => {
                    *length += block.len() as u64;
                    Ok(())
                }
                Err(error) => {
                    file.set_len(*length)?;
                    file.seek(SeekFrom::Start(*length))?;
                    Err(error)
                }
            },
        }
    }
}
