"""Forms as .NET's HttpClient and PowerShell's `-Form` write them, from their documentation: neither is installed here.

.NET (`MultipartFormDataContent.Add(content, name, fileName)`, `ContentDispositionHeaderValue`): names are tokens where
they can be, else in quotes; one that is not ASCII becomes one encoded word (RFC 2047, B); `filename*` (RFC 5987) comes
beside it always. A quote or a line end in a name is refused by .NET itself.

PowerShell 7 (`Invoke-WebRequest -Form`): the same, but field and file name always in quotes, and no `filename*`.
"""

import base64
import re
from collections.abc import Sequence
from urllib.parse import quote

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
BOUNDARY = "7f3a1c52-0d4e-4c7b-9a53-2f6b8f0f9d11"


def dotnet(names: Sequence[str]) -> bytes:
    """The request of a .NET program that sends files of these names.

    Raises:
        ValueError: .NET would refuse one.
    """
    return _request([f"name=file; filename={_encoded(name)}; filename*=utf-8''{_extended(name)}" for name in names])


def powershell(names: Sequence[str]) -> bytes:
    """The request of `Invoke-WebRequest -Form` with files of these names.

    Raises:
        ValueError: .NET would refuse one.
    """
    plain = [f'"{_word(name)}"' for name in names]
    return _request([f'name="file"; filename={name}' for name in plain], "Content-Type: application/octet-stream\r\n")


def _word(name: str) -> str:
    if set('"\r\n') & set(name):
        raise ValueError(f"The format of value {name!r} is invalid.")
    return name if name.isascii() else f"=?utf-8?B?{base64.b64encode(name.encode()).decode()}?="


def _encoded(name: str) -> str:
    return name if TOKEN.fullmatch(name) else f'"{_word(name)}"'


def _extended(name: str) -> str:
    return quote(name, safe="!#$&+^`|")


def _request(dispositions: Sequence[str], more: str = "") -> bytes:
    parts = [f"--{BOUNDARY}\r\n{more}Content-Disposition: form-data; {one}\r\n\r\nx\r\n" for one in dispositions]
    body = ("".join(parts) + f"--{BOUNDARY}--\r\n").encode()
    head = (
        "POST /api/v1/submissions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f'Content-Type: multipart/form-data; boundary="{BOUNDARY}"\r\nContent-Length: {len(body)}\r\n\r\n'
    )
    return head.encode() + body
