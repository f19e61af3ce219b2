//! Where this node listens and where others reach it, from what operators say: an IP address or the name of a network
//! interface, with or without a port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The port that managers listen on.
pub(crate) const PORT: u16 = 7377;

/// An address of this system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
}

/// The addresses of this system on interfaces that are up, without those that mean this system alone.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn of_system() -> std::io::Result<Vec<Own>> {
    let mut found = Vec::new();
    for one in getifaddrs()? {
        let Some(address) = one.address.as_ref().and_then(ip) else { continue };
        let is_own = one.flags.contains(InterfaceFlags::IFF_UP) && !address.is_loopback() && !is_link_local(&address);
        if is_own {
            found.push(Own { interface: one.interface_name, address });
        }
    }
    Ok(found)
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Where to listen; on every address when nothing is said.
///
/// # Errors
/// One line for people.
pub(crate) fn listen(text: &str, system: &[Own]) -> Result<SocketAddr, String> {
    if text.is_empty() {
        return Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT));
    }
    let rule =
        "listening address must be an IP address or network interface (with optional port number) (--listen-addr)";
    match parse(text, PORT, system)? {
        Some(address) if address.port() == 0 => {
            Err("listening port must be from 1 to 65535 (--listen-addr)".to_owned())
        }
        Some(address) => Ok(address),
        None => Err(rule.to_owned()),
    }
}

/// Where others reach this node, which listens at `listen`.
///
/// # Errors
/// One line for people.
pub(crate) fn advertise(text: &str, listen: SocketAddr, system: &[Own]) -> Result<SocketAddr, String> {
    if text.is_empty() {
        let ip = if listen.ip().is_unspecified() { only(system)? } else { listen.ip() };
        return Ok(SocketAddr::new(ip, listen.port()));
    }
    let rule = "advertise address must be a non-zero IP address or network interface (with optional port number) (--advertise-addr)";
    match parse(text, listen.port(), system)? {
        Some(address) if !address.ip().is_unspecified() => reachable(address),
        Some(_) | None => Err(rule.to_owned()),
    }
}

fn reachable(address: SocketAddr) -> Result<SocketAddr, String> {
    let is_for_many = match address.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local(),
    };
    if is_for_many || address.port() == 0 {
        return Err(format!(
            "other nodes cannot reach {address}: give the address of one system, and a port from 1 to 65535 (--advertise-addr)"
        ));
    }
    Ok(address)
}

/// An address that is no address and no interface is `None`.
fn parse(text: &str, port: u16, system: &[Own]) -> Result<Option<SocketAddr>, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Some(address));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Some(SocketAddr::new(ip, port)));
    }
    let (interface, port) = match text.split_once(':') {
        Some((interface, given)) => match given.parse() {
            Ok(given) => (interface, given),
            Err(_) => return Ok(None),
        },
        None => (text, port),
    };
    let here: Vec<IpAddr> = system.iter().filter(|own| own.interface == interface).map(|own| own.address).collect();
    let v4: Vec<&IpAddr> = here.iter().filter(|address| address.is_ipv4()).collect();
    match (v4.as_slice(), here.as_slice()) {
        ([one], _) => Ok(Some(SocketAddr::new(**one, port))),
        ([first, second, ..], _) => Err(format!(
            "interface {interface} has more than one IPv4 address ({first} and {second}): give one of them"
        )),
        ([], [first, ..]) => Ok(Some(SocketAddr::new(*first, port))),
        ([], []) => Ok(None),
    }
}

/// The address of a system that has one alone; IPv4 before IPv6.
fn only(system: &[Own]) -> Result<IpAddr, String> {
    let v4: Vec<&Own> = system.iter().filter(|own| own.address.is_ipv4()).collect();
    let candidates = if v4.is_empty() { system.iter().collect() } else { v4 };
    match candidates.as_slice() {
        [] => Err("could not find the system's IP address: specify one with --advertise-addr".to_owned()),
        [one] => Ok(one.address),
        [first, second, ..] => {
            let place = if first.interface == second.interface {
                format!("interface {} ({} and {})", first.interface, first.address, second.address)
            } else {
                format!(
                    "different interfaces ({} on {} and {} on {})",
                    first.address, first.interface, second.address, second.interface
                )
            };
            Err(format!(
                "could not choose an IP address to advertise since this system has multiple addresses on {place}: specify one with --advertise-addr"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(interface: &str, address: &str) -> Own {
        Own { interface: interface.to_owned(), address: address.parse().unwrap() }
    }

    #[test]
    fn an_address_or_an_interface_is_taken_with_or_without_a_port() {
        let system = [
            own("eth0", "10.0.0.1"),
            own("eth0", "fd00::1"),
            own("six", "fd00::2"),
            own("two", "10.0.0.2"),
            own("two", "10.0.0.3"),
        ];
        let everywhere = listen("", &system).unwrap();
        assert_eq!(everywhere.to_string(), "0.0.0.0:7377");
        for (text, expected) in [
            ("10.0.0.9", Ok("10.0.0.9:7377")),
            ("10.0.0.9:1", Ok("10.0.0.9:1")),
            ("[fd00::9]:1", Ok("[fd00::9]:1")),
            ("fd00::9", Ok("[fd00::9]:7377")),
            ("eth0", Ok("10.0.0.1:7377")),
            ("eth0:88", Ok("10.0.0.1:88")),
            ("six", Ok("[fd00::2]:7377")),
            ("two", Err("interface two has more than one IPv4 address (10.0.0.2 and 10.0.0.3): give one of them")),
            (
                "0.0.0.0",
                Err(
                    "advertise address must be a non-zero IP address or network interface (with optional port number) (--advertise-addr)",
                ),
            ),
            (
                "host.example",
                Err(
                    "advertise address must be a non-zero IP address or network interface (with optional port number) (--advertise-addr)",
                ),
            ),
            (
                "eth0:http",
                Err(
                    "advertise address must be a non-zero IP address or network interface (with optional port number) (--advertise-addr)",
                ),
            ),
            (
                "10.0.0.1:0",
                Err(
                    "other nodes cannot reach 10.0.0.1:0: give the address of one system, and a port from 1 to 65535 (--advertise-addr)",
                ),
            ),
            (
                "224.0.0.1",
                Err(
                    "other nodes cannot reach 224.0.0.1:7377: give the address of one system, and a port from 1 to 65535 (--advertise-addr)",
                ),
            ),
            (
                "fe80::1",
                Err(
                    "other nodes cannot reach [fe80::1]:7377: give the address of one system, and a port from 1 to 65535 (--advertise-addr)",
                ),
            ),
        ] {
            let found = advertise(text, everywhere, &system).map(|address| address.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
        assert_eq!(listen("eth0:0", &system).unwrap_err(), "listening port must be from 1 to 65535 (--listen-addr)");
        assert!(listen("host.example:1", &system).unwrap_err().starts_with("listening address must be an IP"));
    }

    #[test]
    fn a_system_with_one_address_needs_not_be_told_which() {
        let everywhere = listen("", &[]).unwrap();
        let of = |system: &[Own]| advertise("", everywhere, system).map(|address| address.to_string());

        assert_eq!(of(&[own("eth0", "10.0.0.1"), own("eth0", "fd00::1")]), Ok("10.0.0.1:7377".to_owned()));
        assert_eq!(advertise("", "10.1.1.1:5".parse().unwrap(), &[]).unwrap().to_string(), "10.1.1.1:5");
        expect(&of(&[]), "could not find the system's IP address: specify one with --advertise-addr");
        expect(
            &of(&[own("a", "10.0.0.1"), own("b", "10.0.0.2")]),
            "could not choose an IP address to advertise since this system has multiple addresses on different interfaces (10.0.0.1 on a and 10.0.0.2 on b): specify one with --advertise-addr",
        );
        expect(
            &of(&[own("a", "10.0.0.1"), own("a", "10.0.0.2")]),
            "could not choose an IP address to advertise since this system has multiple addresses on interface a (10.0.0.1 and 10.0.0.2): specify one with --advertise-addr",
        );
    }

    fn expect(found: &Result<String, String>, error: &str) {
        assert_eq!(*found, Err(error.to_owned()));
    }
}
