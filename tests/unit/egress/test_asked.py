"""What a program asks of the proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.egress.asked import Asked, read_head


def test_connect_names_host_and_port() -> None:
    assert read_head(b"CONNECT PyPI.org:443 HTTP/1.1\r\nHost: pypi.org:443\r\n\r\n") == Asked("pypi.org", 443)


def test_a_request_for_an_http_address_becomes_one_of_the_host_itself() -> None:
    asked = read_head(
        b"POST http://example.org/a?b=c HTTP/1.1\r\nHost: example.org\r\nProxy-Authorization: secret\r\n"
        b"Connection: keep-alive\r\nContent-Length: 3\r\n\r\n"
    )
    assert (asked.host, asked.port) == ("example.org", 80)
    assert asked.opening == (
        b"POST /a?b=c HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "first"), [(b"http://a.b:81", b"GET / HTTP/1.1"), (b"http://a.b:81?q", b"GET /?q HTTP/1.1")]
)
def test_an_address_without_a_path_means_the_root(target: bytes, first: bytes) -> None:
    asked = read_head(b"GET " + target + b" HTTP/1.1\r\n\r\n")
    assert asked.destination == "a.b:81"
    assert asked.opening.startswith(first + b"\r\n")


WRONG = """
GET / HTTP/1.1|CONNECT pypi.org HTTP/1.1|CONNECT pypi.org:0 HTTP/1.1|CONNECT a:65536 HTTP/1.1|CONNECT [::1]:443 HTTP/1.1
CONNECT u@pypi.org:443 HTTP/1.1|GET https://a/ HTTP/1.1|GET http://u@a/ HTTP/1.1|CONNECT a:443|CONNECT  a:443 HTTP/1.1|CONNECT a.b:443\0 HTTP/1.1
"""


@pytest.mark.parametrize("line", [line for row in WRONG.split("\n") for line in row.split("|")])
def test_anything_else_is_refused_in_words(line: str) -> None:
    with pytest.raises(ValueError, match=r"this proxy does|is no HOST:PORT"):
        read_head(line.encode() + b"\r\n\r\n")


@given(st.binary(max_size=200))
def test_whatever_a_program_says_is_a_connection_or_a_refusal(line: bytes) -> None:
    try:
        read_head(b"CONNECT " + line + b" HTTP/1.1\r\n\r\n")
    except ValueError:
        return
