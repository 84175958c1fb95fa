use super::*;

fn config() -> SocketConfig {
    SocketConfig {
        source_ports: SourcePorts::MAX,
        ..SocketConfig::new(0)
    }
}

#[test]
fn one_source_port_is_one_socket_of_each_lane() {
    let sockets = Sockets::open(SocketConfig::new(0)).unwrap();
    let families = Family::ALL
        .into_iter()
        .filter(|family| sockets.has(*family));
    assert_eq!(sockets.ports.len(), 2, "one for each kind of sensors");
    assert_eq!(sockets.all().count(), families.count() * 2);
}

#[test]
fn ports_are_dynamic_ascending_and_the_same_in_both_families() {
    let sockets = Sockets::open(config()).unwrap();
    let count = usize::from(SourcePorts::MAX.get());
    assert_eq!(sockets.ports.len(), 2 * count);
    assert!(sockets.ports[0] >= FIRST_SOURCE_PORT);
    assert!(sockets.ports.is_sorted_by(|a, b| a < b));
    for family in Family::ALL
        .into_iter()
        .filter(|family| sockets.has(*family))
    {
        let kinds = [Kind::Sniffer, Kind::Socket];
        for (kind, ports) in kinds.into_iter().zip(sockets.ports.chunks(count)) {
            for (index, port) in (0..).zip(ports) {
                let socket = sockets.get(family.lane(kind), PortIndex(index)).unwrap();
                let address = socket.local_addr().unwrap().as_socket().unwrap();
                assert_eq!(address, family.wildcard(*port));
            }
        }
    }
}

#[test]
fn sensors_with_a_tunnel_have_one_port_that_a_duplicate_reads() {
    let without = Sockets::open(config()).unwrap();
    assert!(without.tunnel_port.is_none());
    assert!(without.tunnels().unwrap().iter().all(Option::is_none));
    let sockets = Sockets::open(SocketConfig {
        has_tunnel: true,
        ..config()
    })
    .unwrap();
    let port = sockets.tunnel_port.unwrap();
    assert!(!sockets.ports.contains(&port));
    let [duplicate, _] = sockets.tunnels().unwrap();
    let duplicate = std::net::UdpSocket::from(duplicate.unwrap());
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut keepalive = [0; 32];
    keepalive[0] = 4;
    other.send_to(&keepalive, ("127.0.0.1", port)).unwrap();
    let nothing = duplicate.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    let sensors = [Ipv4Addr::LOCALHOST.into()].into_iter();
    crate::receive_answers(&duplicate, sensors).unwrap();
    other.send_to(&keepalive, ("127.0.0.1", port)).unwrap();
    assert_eq!(duplicate.recv(&mut [0; 64]).unwrap(), 32);
}

#[test]
fn two_sets_share_no_port() {
    let one = Sockets::open(config()).unwrap();
    let two = Sockets::open(config()).unwrap();
    assert!(one.ports.iter().all(|port| !two.ports.contains(port)));
}

#[test]
fn a_missing_capability_is_named_with_its_remedy() {
    let text = OpenError::NotPermitted { mark: 0x706f }.to_string();
    assert!(
        text.contains("0x706f") && text.contains(r#"add: ["NET_RAW"]"#),
        "{text}"
    );
}
