"""The bytes of a DHCPRELEASE: pure."""

from net.services.release import release_for


def test_a_release_names_the_lease_and_the_server() -> None:
    message = release_for(server="10.9.0.1", address="10.9.0.10", mac="52:54:00:12:34:56")
    assert len(message) == 300
    assert message[:4] == bytes((1, 1, 6, 0)), "a request, from Ethernet"
    assert message[12:16] == bytes((10, 9, 0, 10)), "ciaddr"
    assert message[28:34] == bytes.fromhex("525400123456"), "chaddr"
    assert message[236:250] == bytes.fromhex("6382536335010736040a090001ff")
