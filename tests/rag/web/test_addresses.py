"""Which addresses are of the public internet."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.rag.web.addresses import Access, is_public

PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.1.2.3
    168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1
    192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
    64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378::1
    2001:db8::1 2002:7f00:1:: 2002:a00:1:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1
    fe80::1%eth0 2600::1%eth0 fec0::1 ff02::1 ff0e::1 4000::1
    127.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 127.0.0.01 localhost example.org
""".split()
PUBLIC = """
    1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0
    192.0.1.0 198.17.255.255 223.255.255.255 168.63.129.17
    2001:4860:4860::8888 2600::1 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
""".split()


@pytest.mark.parametrize("address", [*PRIVATE, ""])
def test_what_is_not_of_the_internet_is_refused(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_of_the_internet_is_allowed(address: str):
    assert is_public(address)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_address_in_another_is_judged_as_itself(address: IPv4Address):
    assert is_public(f"::ffff:{address}") == is_public(str(address))
    assert is_public(f"64:ff9b::{address}") == is_public(str(address))


def test_a_host_is_allowed_by_name_and_port():
    access = Access(hosts=["Intranet.example", "127.0.0.1:8080", "[::1]:80"])
    assert access.permits("intranet.example", 9, "10.0.0.1")
    assert access.permits("127.0.0.1", 8080, "127.0.0.1")
    assert access.permits("::1", 80, "::1")
    assert access.permits("example.org", 80, "8.8.8.8")
    assert not access.permits("127.0.0.1", 8081, "127.0.0.1")
    assert not access.permits("::1", 81, "::1")
    assert not access.permits("evil.example", 8080, "127.0.0.1")


def test_everything_may_be_allowed():
    assert Access(private=True).permits("x", 1, "127.0.0.1")


@pytest.mark.parametrize("hosts", ["127.0.0.1", ["http://x/"], ["u@h"], ["a b"], [""]])
def test_what_is_no_host_is_refused(hosts: list[str]):
    with pytest.raises(UsageError):
        Access(hosts=hosts)
