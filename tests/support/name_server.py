"""A DNS server that answers names with the addresses that a test gives them, as those of headless Services are."""

from __future__ import annotations

import socketserver
import threading
from collections import defaultdict
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset


class NameServer:
    """Listens on a UDP port, a free one where none is given. addresses: IPv4, by name; what is answered from now on."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.addresses: defaultdict[str, list[str]] = defaultdict(list)
        self._server = socketserver.ThreadingUDPServer((host, port), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def target(self, name: str, port: int) -> str:
        """What gRPC is given to ask this server for a name."""
        return f"dns://127.0.0.1:{self._server.server_address[1]}/{name}:{port}"

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        names = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire, socket = self.request
                socket.sendto(names._answer(dns.message.from_wire(wire)).to_wire(), self.client_address)

        return Handler

    def _answer(self, query: Any) -> dns.message.Message:
        answer = dns.message.make_response(query)
        (question,) = query.question
        addresses = list(self.addresses[question.name.to_text(omit_final_dot=True)])
        if question.rdtype == dns.rdatatype.A and addresses:
            answer.answer.append(dns.rrset.from_text_list(question.name, 5, "IN", "A", addresses))
        return answer
