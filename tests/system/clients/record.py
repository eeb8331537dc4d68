"""Records what Go and Java send, and writes what .NET and PowerShell would: `python -m tests.system.clients.record`.

Needs Debian's golang-go and a JDK. The requests are kept whole in `recorded/`, so that `make test` replays them.
"""

import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.system.clients import dotnet
from tests.system.clients.names import CLIENTS

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
GO = ("go", "run", str(HERE / "form.go"))
JAVA = ("java", str(HERE / "Form.java"))
ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def as_lines(names: Sequence[str]) -> str:
    """Names as the programs read them."""
    return "".join(f"{name.encode().hex()}\n" for name in names)


def words_of(client: str, url: str) -> list[str]:
    """What starts a client's program."""
    return [*GO, url] if client == "go" else [*JAVA, url, client.partition("-")[2]]


def recorded(client: str, names: Sequence[str]) -> bytes:
    """The one request that a client sends for files of these names."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        received: list[bytes] = []

        def take() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(2)
                try:
                    while data := connection.recv(65536):
                        received.append(data)
                except TimeoutError:
                    pass
                connection.sendall(ANSWER)

        taking = threading.Thread(target=take)
        taking.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        subprocess.run(words_of(client, url), input=as_lines(names), text=True, check=True, timeout=300)
        taking.join()
        return b"".join(received)


def main() -> None:
    """Renew every file."""
    RECORDED.mkdir(exist_ok=True)
    (RECORDED / "dotnet.http").write_bytes(dotnet.dotnet(CLIENTS["dotnet"].carried))
    (RECORDED / "powershell.http").write_bytes(dotnet.powershell(CLIENTS["powershell"].carried))
    for client in ("go", "java-HttpURLConnection", "java-HttpClient"):
        (RECORDED / f"{client}.http").write_bytes(recorded(client, CLIENTS[client].carried))
    (RECORDED / "go-refused.http").write_bytes(recorded("go", list(CLIENTS["go"].cannot)))


if __name__ == "__main__":
    main()
