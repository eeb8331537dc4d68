"""A token is not sent where others could read it."""

from pathlib import Path

import pytest

from dropmill.cli import main
from dropmill.client.address import ServerAddress
from dropmill.client.errors import ClientError

LOCAL = ("127.0.0.1:8000", "http://localhost", "http://[::1]:8000", "HTTP://127.1.2.3")
ELSEWHERE = ("http://drop.example", "drop.example:8000", "http://192.0.2.1", "http://localhost.example")


@pytest.mark.parametrize("server", [*LOCAL, "https://drop.example"])
def test_a_token_goes_to_this_machine_and_over_https(server: str) -> None:
    assert ServerAddress(server, "secret").headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("server", ELSEWHERE)
def test_a_token_goes_elsewhere_over_plain_http_only_when_told_to(server: str) -> None:
    with pytest.raises(ClientError, match="--insecure-http"):
        ServerAddress(server, "secret")
    assert "Authorization" in ServerAddress(server, "secret", insecure_http=True).headers
    assert "Authorization" not in ServerAddress(server, None).headers


@pytest.mark.parametrize("words", [["send", "x"], ["send", "--abandon", "x"], ["watch"], ["notice", "text"]])
def test_every_command_refuses_it_with_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("DROPMILL_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("DROPMILL_SERVER", "http://drop.example")
    with pytest.raises(SystemExit) as caught:
        main(words, prog_name="dropmill")
    err = capsys.readouterr().err
    assert (caught.value.code, err.count("\n")) == (1, 1)
    assert "others on the network could read the token" in err


def test_a_token_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DROPMILL_TOKEN_FILE", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit) as caught:
        main(["watch"], prog_name="dropmill")
    assert caught.value.code == 2
    assert "DROPMILL_TOKEN_FILE" in capsys.readouterr().err
