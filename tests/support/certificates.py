"""Certificates that nobody trusts, made by openssl."""

import shutil
import subprocess
from pathlib import Path

from tests.support.missing import missing

NAME = "box.example"  # as which the server is known beyond its machine


def make_certificate(folder: Path, *, days: int = 30) -> tuple[Path, Path]:
    """A certificate for localhost, 127.0.0.1 and `NAME`, and its key."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = f"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:{NAME}"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=localhost")
    made = (
        "openssl",
        "req",
        "-x509",
        *kind,
        "-days",
        str(days),
        "-addext",
        names,
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    )
    subprocess.run(made, check=True, capture_output=True)
    return certificate, key
