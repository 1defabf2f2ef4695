//! Packets of a recording in pcapng or pcap, from a tap or from a network.

use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::tap::{
    exchange::Time,
    pcapng::{BYTE_ORDER, INTERFACE, LINK_IP, PACKET, SECTION, TIME_UNIT},
};

/// The longest block that can be read.
const BLOCK: usize = 16 << 20;
const SIMPLE_PACKET: u32 = 3;
/// pcap's magic numbers, for microseconds and nanoseconds.
const PCAP_MICRO: u32 = 0xA1B2_C3D4;
const PCAP_NANO: u32 = 0xA1B2_3C4D;

/// The position of a packet's IP header, by link type.
const LINKS: [(u16, usize); 9] = [
    (LINK_IP, 0),
    (12, 0),
    (14, 0),
    (228, 0),
    (229, 0),
    // BSD's loopback, Ethernet, and Linux's "any".
    (0, 4),
    (108, 4),
    (113, 16),
    (276, 20),
];
const ETHERNET: u16 = 1;

/// The kind of a file, from its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Pcapng,
    Pcap {
        big_endian: bool,
        nanoseconds: bool,
    },
    /// Anything else: the bytes of a connection.
    Raw,
}

impl Kind {
    pub(super) fn of(start: &[u8]) -> Self {
        let Some(word) = start.first_chunk::<4>() else { return Self::Raw };
        let (little, big) = (u32::from_le_bytes(*word), u32::from_be_bytes(*word));
        match (little, big) {
            (SECTION, _) => Self::Pcapng,
            (PCAP_MICRO | PCAP_NANO, _) => {
                Self::Pcap { big_endian: false, nanoseconds: little == PCAP_NANO }
            }
            (_, PCAP_MICRO | PCAP_NANO) => {
                Self::Pcap { big_endian: true, nanoseconds: big == PCAP_NANO }
            }
            _ => Self::Raw,
        }
    }
}

/// A packet as it is in the file.
pub(super) struct Packet {
    pub(super) time: Time,
    link: u16,
    bytes: Vec<u8>,
}

/// Reads packets in order.
pub(super) struct Capture<R> {
    from: R,
    kind: Kind,
    big_endian: bool,
    interfaces: Vec<Interface>,
    is_cut: bool,
}

struct Interface {
    link: u16,
    /// Time units per second.
    units: u64,
}

impl<R: Read> Capture<R> {
    pub(super) fn new(from: R, kind: Kind) -> io::Result<Self> {
        let interfaces = Vec::new();
        let mut capture = Self { from, kind, big_endian: false, interfaces, is_cut: false };
        if let Kind::Pcap { big_endian, nanoseconds } = kind {
            capture.big_endian = big_endian;
            let mut header = [0; 24];
            capture.from.read_exact(&mut header)?;
            let link = capture.u32(&header[20..]) as u16;
            let units = if nanoseconds { 1_000_000_000 } else { 1_000_000 };
            capture.interfaces.push(Interface { link, units });
        }
        Ok(capture)
    }

    fn u16(&self, bytes: &[u8]) -> u16 {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Fills a buffer; `false` at the end of the file.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.from.read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.is_cut |= filled > 0;
                    return Ok(false);
                }
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Like [`fill`](Self::fill), within a block: a file that ends here is cut.
    fn fill_within(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let is_filled = self.fill(buffer)?;
        self.is_cut |= !is_filled;
        Ok(is_filled)
    }

    fn body(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        if length > BLOCK {
            return Err(bad("a block is too long"));
        }
        let mut body = vec![0; length];
        Ok(self.fill_within(&mut body)?.then_some(body))
    }

    /// Whether the file ended within a block, as a killed program may leave it.
    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The next packet.
    pub(super) fn next(&mut self) -> io::Result<Option<Packet>> {
        if let Kind::Pcap { .. } = self.kind {
            return self.next_pcap();
        }
        loop {
            let mut head = [0; 8];
            if !self.fill(&mut head)? {
                return Ok(None);
            }
            let kind = self.u32(&head);
            if kind == SECTION {
                // The block itself says in which byte order its length is.
                let mut order = [0; 4];
                if !self.fill_within(&mut order)? {
                    return Ok(None);
                }
                self.big_endian = match (u32::from_le_bytes(order), u32::from_be_bytes(order)) {
                    (BYTE_ORDER, _) => false,
                    (_, BYTE_ORDER) => true,
                    _ => return Err(bad("no byte order")),
                };
                self.interfaces.clear();
                let length = self.u32(&head[4..]) as usize;
                let rest = length.checked_sub(12).ok_or_else(|| bad("a block is too short"))?;
                if self.body(rest)?.is_none() {
                    return Ok(None);
                }
                continue;
            }
            let length = self.u32(&head[4..]) as usize;
            let rest = length.checked_sub(12).ok_or_else(|| bad("a block is too short"))?;
            let Some(body) = self.body(rest + 4)? else { return Ok(None) };
            let body = &body[..rest];
            match kind {
                INTERFACE => self.interface(body),
                PACKET => {
                    if let Some(packet) = self.packet(body) {
                        return Ok(Some(packet));
                    }
                }
                SIMPLE_PACKET => {
                    if let (Some(interface), Some(bytes)) = (self.interfaces.first(), body.get(4..))
                    {
                        let (link, bytes) = (interface.link, bytes.to_vec());
                        return Ok(Some(Packet { time: Time::ZERO, link, bytes }));
                    }
                }
                _ => {}
            }
        }
    }

    fn interface(&mut self, body: &[u8]) {
        let link = self.u16(body);
        let mut units = 1_000_000;
        let mut options = body.get(8..).unwrap_or_default();
        while let [_, _, _, _, rest @ ..] = options {
            let (code, length) = (self.u16(options), usize::from(self.u16(&options[2..])));
            if code == 0 {
                break;
            }
            if let (TIME_UNIT, Some(unit)) = (code, rest.first()) {
                let exponent = u32::from(unit & 0x7F);
                let base: u64 = if unit & 0x80 == 0 { 10 } else { 2 };
                units = base.checked_pow(exponent).unwrap_or(units);
            }
            options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        self.interfaces.push(Interface { link, units });
    }

    fn packet(&self, body: &[u8]) -> Option<Packet> {
        let interface = self.interfaces.get(self.u32(body) as usize)?;
        let time = u64::from(self.u32(body.get(4..)?)) << 32 | u64::from(self.u32(body.get(8..)?));
        let length = self.u32(body.get(12..)?) as usize;
        let bytes = body.get(20..)?.get(..length)?.to_vec();
        let seconds = Duration::from_secs(time / interface.units);
        let rest = u128::from(time % interface.units) * 1_000_000_000 / u128::from(interface.units);
        let time = seconds + Duration::from_nanos(rest as u64);
        Some(Packet { time, link: interface.link, bytes })
    }

    fn next_pcap(&mut self) -> io::Result<Option<Packet>> {
        let mut head = [0; 16];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let Some(Interface { link, units }) = self.interfaces.first() else { return Ok(None) };
        let nanoseconds = u64::from(self.u32(&head[4..])) * (1_000_000_000 / units);
        let link = *link;
        let seconds = Duration::from_secs(self.u32(&head).into());
        let time = seconds + Duration::from_nanos(nanoseconds);
        let length = self.u32(&head[8..]) as usize;
        Ok(self.body(length)?.map(|bytes| Packet { time, link, bytes }))
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A TCP segment.
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) payload: &'a [u8],
}

impl Packet {
    /// The segment in the packet, if it has one.
    pub(super) fn segment(&self) -> Option<Segment<'_>> {
        let at = if self.link == ETHERNET {
            // There may be one VLAN tag in between.
            match self.bytes.get(12..14)? {
                [0x81, 0x00] => 18,
                _ => 14,
            }
        } else {
            LINKS.iter().find(|(link, _)| *link == self.link)?.1
        };
        segment(self.bytes.get(at..)?)
    }
}

fn segment(ip: &[u8]) -> Option<Segment<'_>> {
    const TCP: u8 = 6;
    let (from, to, tcp): (IpAddr, IpAddr, &[u8]) = match ip.first()? >> 4 {
        4 => {
            let header = usize::from(ip[0] & 0xF) * 4;
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3FFF;
            if *ip.get(9)? != TCP || fragment != 0 {
                return None;
            }
            let address = |at: usize| ip.get(at..at + 4)?.first_chunk::<4>().copied();
            // A length of 0 means that the network card should have cut the packet.
            let end = if total == 0 { ip.len() } else { total.min(ip.len()) };
            let (from, to) = (Ipv4Addr::from(address(12)?), Ipv4Addr::from(address(16)?));
            (from.into(), to.into(), ip.get(header..end)?)
        }
        6 => {
            if *ip.get(6)? != TCP {
                return None;
            }
            let length = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            let address = |at: usize| ip.get(at..at + 16)?.first_chunk::<16>().copied();
            let end = if length == 0 { ip.len() } else { (40 + length).min(ip.len()) };
            let (from, to) = (Ipv6Addr::from(address(8)?), Ipv6Addr::from(address(24)?));
            (from.into(), to.into(), ip.get(40..end)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let sequence = u32::from_be_bytes(*tcp.get(4..8)?.first_chunk()?);
    let flags = *tcp.get(13)?;
    let payload = tcp.get(usize::from(*tcp.get(12)? >> 4) * 4..)?;
    Some(Segment {
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
        sequence,
        syn: flags & 2 != 0,
        ack: flags & 16 != 0,
        fin: flags & 1 != 0,
        rst: flags & 4 != 0,
        payload,
    })
}
