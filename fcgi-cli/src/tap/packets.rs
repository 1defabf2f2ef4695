//! A connection as TCP/IP packets, whatever it really was: as if it had been captured on a network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::exchange::Time;
use crate::trace::Direction;

/// The port that stands for a unix socket: the usual one for FastCGI.
pub(crate) const PORT: u16 = 9000;
/// How much of a stream one packet carries: an IP packet has at most 65,535 bytes.
const SEGMENT: usize = 65_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Takes packets; `false` if there was no room.
pub(crate) type Take<'a> = dyn FnMut(Time, Vec<u8>) -> bool + 'a;

/// The state of a connection's packets.
#[derive(Debug)]
pub(crate) struct Packets {
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    address: SocketAddr,
    /// The sequence number of the next byte.
    sequence: u32,
    /// The start of a record was dropped, so the rest of it is dropped too. The remaining packets
    /// stay readable.
    dropping: bool,
}

impl Packets {
    /// Packets between two addresses. If one is missing, as for a unix socket, both become
    /// loopback.
    pub(crate) fn new(
        connection: u64,
        web_server: Option<SocketAddr>,
        application: Option<SocketAddr>,
    ) -> Self {
        let pair = match (web_server, application) {
            (Some(web_server), Some(application))
                if web_server.is_ipv4() == application.is_ipv4() =>
            {
                [web_server, application]
            }
            (web_server, application) => {
                let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                // Outside of the usual ports of servers.
                let any = 10_000 + (connection % 50_000) as u16;
                [
                    loopback(web_server.map_or(any, |address| address.port())),
                    loopback(application.map_or(PORT, |address| address.port())),
                ]
            }
        };
        Self { ends: pair.map(|address| End { address, sequence: 0, dropping: false }) }
    }

    /// The handshake.
    pub(crate) fn open(&mut self, time: Time, take: &mut Take<'_>) {
        let up = Direction::ToApplication;
        self.packet(up, SYN, &[], time, take);
        self.ends[0].sequence = 1;
        self.packet(Direction::ToWebServer, SYN | ACK, &[], time, take);
        self.ends[1].sequence = 1;
        self.packet(up, ACK, &[], time, take);
    }

    /// Bytes of one record, or of a part of it. `starts` means that they start with its header.
    pub(crate) fn data(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        starts: bool,
        time: Time,
        take: &mut Take<'_>,
    ) {
        for (n, segment) in bytes.chunks(SEGMENT).enumerate() {
            let at_start = starts && n == 0;
            let dropping = self.ends[direction as usize].dropping && !at_start;
            let taken = !dropping && self.packet(direction, PSH | ACK, segment, time, take);
            let end = &mut self.ends[direction as usize];
            end.dropping = !taken;
            end.sequence = end.sequence.wrapping_add(segment.len() as u32);
        }
    }

    /// The end of a direction.
    pub(crate) fn close(
        &mut self,
        direction: Direction,
        reset: bool,
        time: Time,
        take: &mut Take<'_>,
    ) {
        let flags = if reset { RST | ACK } else { FIN | ACK };
        self.packet(direction, flags, &[], time, take);
        let end = &mut self.ends[direction as usize];
        end.sequence = end.sequence.wrapping_add(u32::from(!reset));
    }

    fn packet(
        &self,
        direction: Direction,
        flags: u8,
        payload: &[u8],
        time: Time,
        take: &mut Take<'_>,
    ) -> bool {
        let [web_server, application] = &self.ends;
        let (from, to) = match direction {
            Direction::ToApplication => (web_server, application),
            Direction::ToWebServer => (application, web_server),
        };
        let mut tcp = Vec::with_capacity(20 + payload.len());
        tcp.extend(from.address.port().to_be_bytes());
        tcp.extend(to.address.port().to_be_bytes());
        tcp.extend(from.sequence.to_be_bytes());
        let acknowledged = if flags & ACK == 0 { 0 } else { to.sequence };
        tcp.extend(acknowledged.to_be_bytes());
        // The header has five words; the window has its maximum.
        tcp.extend([5 << 4, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
        tcp.extend(payload);
        take(time, ip(from.address.ip(), to.address.ip(), tcp))
    }
}

fn ip(from: IpAddr, to: IpAddr, mut tcp: Vec<u8>) -> Vec<u8> {
    const TCP: u8 = 6;
    const TTL: u8 = 64;
    let length = tcp.len();
    let (addresses, mut header) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let total = (20 + length) as u16;
            // No options, no fragments.
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0x40, 0, TTL, TCP, 0, 0]);
            header.extend(&addresses);
            let sum = checksum([&header[..]]);
            header[10..12].copy_from_slice(&sum);
            (addresses, header)
        }
        (from, to) => {
            let octets = |ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            let addresses = [octets(from), octets(to)].concat();
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((length as u16).to_be_bytes());
            header.extend([TCP, TTL]);
            header.extend(&addresses);
            (addresses, header)
        }
    };
    let length = (length as u32).to_be_bytes();
    let sum = checksum([&addresses[..], &length, &[0, 0, 0, TCP], &tcp]);
    tcp[16..18].copy_from_slice(&sum);
    header.append(&mut tcp);
    header
}

/// The internet checksum of parts. All but the last must have an even length.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> [u8; 2] {
    let mut sum = 0_u64;
    for part in parts {
        let words = part.chunks_exact(2);
        if let [last] = words.remainder() {
            sum += u64::from(*last) << 8;
        }
        sum += words.map(|word| u64::from(word[0]) << 8 | u64::from(word[1])).sum::<u64>();
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
