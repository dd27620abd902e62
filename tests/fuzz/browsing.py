"""What no browser would send: requests of odd words, and frames of sockets."""

from __future__ import annotations

import base64
import gzip
import struct
from collections.abc import Callable
from random import Random

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import picture_files

TOKEN = "watcher"
"""Of a person who may look at the page."""

Case = Callable[[Random], bytes]

_METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "CONNECT", "get", "\0")
_PATHS = (
    *("/", "/healthz", "/login", "/logout", "/perceive", "/cameras", "/camera", "*", "?", "/%", "/\xe9", "http://[/"),
    *("/page/main.js", "/page/", "/page/../settings.py", "/page/..%2f..%2fsettings.py", "/page//etc/passwd"),
    *("/page/%00", "/page/" + "a" * 3000, "//page/main.js", "http://elsewhere.test/page/main.js"),
)
_CAMERAS = ("gate", "", "%ff%fe", "%ed%a0%80", "%00%0d%0a", "a" * 5000, "[", "gate&camera=b", "gate&agent=b")
_HEADERS = (
    *("Host: ", "Host: [", "Host: a:b:c", "Host: " + "h" * 4000, "Accept-Encoding: gzip", "Accept: text/html"),
    *("Origin: null", "Origin: http://[", "Origin: http://a:99999", "traceparent: 00-zz", "Authorization: Bearer \xe9"),
    *(
        "Content-Length: 5",
        "Content-Length: 0",
        "Content-Length: -1",
        "Content-Length: 9999999999",
        "X: " + "x" * 20_000,
    ),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Expect: 100-continue", "Expect: the worst"),
    *("Content-Encoding: gzip", "Content-Encoding: deflate", "Content-Encoding: br", "Content-Encoding: moon"),
    *("Content-Type: application/x-www-form-urlencoded; charset=moon", "Content-Type: image/jpeg", "Content-Type: ;;="),
    *("Content-Type: multipart/form-data", "Content-Type: multipart/form-data; boundary=b", ": nameless", "no colon"),
    *(
        "Cookie: perception_token=",
        "Cookie: " + "a=b; " * 1000,
        'Cookie: a="\\377; =;',
        "Cookie: perception_token=\xe9",
    ),
    *("Range: bytes=5-1", "Range: bytes=-0", "Range: bytes=0-99999999999999999999", "Range: moons=1", " folded: 1"),
    *("If-Modified-Since: Thu, 01 Jan 9999999 00:00:00 GMT", "If-None-Match: " + '"a",' * 1500, "If-Range: \xe9"),
    *("Connection: close", "Connection: upgrade", "Upgrade: websocket", "Upgrade: h2c", "Upgrade: moon"),
    *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 0", "Sec-WebSocket-Protocol: " + "p," * 2000),
    *("Sec-WebSocket-Key: a", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99"),
)
_BODIES = (
    *(b"", b"token=watcher", b"token=" + b"x" * 5000, b"a=1&" * 4000, b"%ff%fe=%", b"token=%ed%a0%80", b"\xff\xfe\x00"),
    *(b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\nx", b"-1\r\n", b"1;" + b"e" * 9000 + b"\r\nx\r\n"),
    *(b"--b\r\n\r\nx\r\n--b--", b'--b\r\nContent-Disposition: form-data; name="token"; filename="f"\r\n\r\nx\r\n--b--'),
    *(gzip.compress(b"a&" * 2**22), gzip.compress(bytes(2**26)), bytes(2**21)),
)
_WORDS = (*(f"{header}\r\n".encode("latin-1") for header in _HEADERS if len(header) < 100), b"\r\n\r\n", b"%00", b"%ff")
_OPCODES = (0x0, 0x1, 0x1, 0x2, 0x3, 0x8, 0x9, 0xA, 0xF)
_LENGTHS = (0, 1, 64, 65, 125, 126, 65536, 2**31, 2**63)


def cases(agent: str) -> tuple[Case, ...]:
    """Ways to make a case. agent: the address of an agent that the viewer knows, with a camera `gate`."""
    good = _good(agent)
    return (
        lambda random: mutated(good, _WORDS, random),
        lambda random: _odd_request(agent, random),
        lambda random: upgrade(random.choice(("/cameras", f"/camera?agent={agent}&camera=gate"))) + _frames(random),
    )


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """A request as it crosses the wire, of somebody who is signed in."""
    lines = [f"{method} {path} HTTP/1.1", "Host: viewer", f"Cookie: perception_token={TOKEN}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def upgrade(path: str) -> bytes:
    """The request that opens a socket."""
    key = base64.b64encode(bytes(16)).decode()
    socket = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    return request("GET", path, *socket)


def frame(payload: bytes, opcode: int = 0x1, first_bits: int = 0x80) -> bytes:
    """A frame of a socket, masked as a browser does."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + struct.pack("!H", length)
    return bytes([first_bits | opcode]) + size + bytes(4) + payload


def _good(agent: str) -> list[bytes]:
    form = "Content-Type: application/x-www-form-urlencoded"
    chunks = b"4\r\ntoke\r\n9\r\nn=watcher\r\n0\r\n\r\n"
    return [
        request("GET", "/"),
        request("GET", "/page/main.js", "Range: bytes=0-9", "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
        request("POST", "/login", form, "Content-Length: 13", "Origin: http://viewer", body=b"token=watcher"),
        request("POST", "/login", form, "Transfer-Encoding: chunked", body=chunks),
        request("POST", "/logout", "Content-Length: 0"),
        *(
            request("POST", "/perceive", f"Content-Length: {len(picture)}", body=picture)
            for picture in picture_files(2_000)
        ),
        upgrade("/cameras") + frame(b"drawn"),
        upgrade(f"/camera?agent={agent}&camera=gate") + frame(b"drawn") * 3 + frame(b"\x03\xe8", 0x8),
    ]


def _odd_request(agent: str, random: Random) -> bytes:
    watched = f"/camera?agent={agent}&camera={random.choice(_CAMERAS)}"
    path = random.choice((*_PATHS, *[watched] * 6))
    if path == watched and random.random() < 0.7:
        return upgrade(path)
    headers = random.sample(_HEADERS, random.choice((0, 1, 2, 3, 200)) % len(_HEADERS))
    body = random.choice(_BODIES)
    if random.random() < 0.7:
        headers.append(f"Content-Length: {len(body)}")
    one = request(random.choice(_METHODS), path, *headers, body=body)
    return one * random.choice((1, 1, 1, 50))


def _frames(random: Random) -> bytes:
    """Well-made ones, parts of one, unmasked, and those that claim a length which never comes."""
    made = []
    for _ in range(random.choice((1, 3, 30))):
        opcode, first_bits = random.choice(_OPCODES), random.choice((0x80, 0x80, 0x00, 0xC0, 0xF0))
        kind = random.random()
        if kind < 0.6:
            made.append(frame(random.randbytes(random.choice((0, 1, 2, 5, 64, 65, 3000))), opcode, first_bits))
        elif kind < 0.9:
            claimed = bytes([0xFF]) + struct.pack("!Q", random.choice(_LENGTHS))
            made.append(bytes([first_bits | opcode]) + claimed + random.randbytes(random.choice((0, 10, 70_000))))
        else:
            made.append(random.randbytes(random.randint(1, 300)))
    return b"".join(made)
