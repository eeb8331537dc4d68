"""Promise 7: a save replaces the config whole or not at all, whoever is killed when, and nobody is overwritten."""

import collections
import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.support.server import Server, read_answer
from tests.system.faults.config_writer import LARGE, WAYS, text_of
from tests.system.faults.killed_saves import Saver, Story, killing, put, sha256

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]


def test_killed_at_random_moments_file_and_history_hold_the_old_or_the_new_text_whole(
    saver: Saver, tmp_path: Path, chance: random.Random, is_full: bool
) -> None:
    kills = 900 if is_full else 40
    stories = [Story(saver, tmp_path / f"{number}") for number in range(max(1, kills // 100))]
    writing = dict.fromkeys(WAYS, 0.01)  # seconds from the end of the check to the answer, as it took last
    for number in range(kills):
        story, way = stories[number % len(stories)], chance.choice(WAYS)
        pid = story.start(way)
        story.go()
        for _ in range(chance.randrange(2)):
            assert story.follow("checked")
            began = time.perf_counter()
            assert story.follow("saved")
            writing[way] = time.perf_counter() - began
        assert story.follow("checked")
        time.sleep(chance.random() * writing[way])
        os.kill(pid, signal.SIGKILL)
        story.follow("over")
        story.look()
    for story in stories:
        os.kill(story.start("save"), signal.SIGKILL)
        story.follow("over")
    fell = sum((story.fell for story in stories), collections.Counter[str]())
    print(f"{kills} kills: {dict(fell)}")
    if is_full:
        require_all_places(fell)


def require_all_places(fell: Mapping[str, int]) -> None:
    """The kills hit a save in each of its parts."""
    for place in ("before the commit", "between commit and rename", "behind the rename"):
        assert fell[place], place


CALLS = ("openat", "write", "fchown", "fchmod", "fsync", "renameat2", "unlink", "pwrite64", "fdatasync")
THAT_COUNT = ("fsync", "renameat2", "unlink", "fdatasync")


@pytest.mark.usefixtures("strace")
def test_killed_before_each_call_to_the_kernel_file_and_history_hold_the_old_or_the_new_text_whole(
    saver: Saver, tmp_path: Path, is_full: bool
) -> None:
    """The random kills above seldom hit the time between two calls; here each is hit."""
    story = Story(saver, tmp_path / "0")
    kills = 0
    for way in WAYS if is_full else ["save"]:
        for call in CALLS if is_full else THAT_COUNT:
            for number in range(1, 31):  # a large text is written to the ledger by many calls, all alike
                pid = story.start(way)
                with killing(pid, call, number):
                    story.go()
                    if story.follow("saved"):
                        os.kill(pid, signal.SIGKILL)
                        story.follow("over")
                    story.look()
                if story.is_answered:
                    break
                kills += 1
            assert number > 1, f"{call} was never called"
    print(f"{kills} kills: {dict(story.fell)}")
    require_all_places(story.fell)


# --- the whole server ------------------------------------------------------------------------------------------------


def history(server: Server) -> list[str]:
    """SHA-256 of all revisions, the oldest first."""
    found: list[str] = []
    before = ""
    while True:
        page = server.get(f"/config/revisions?limit=1000{before}")
        found += [revision["sha256"] for revision in page["items"]]
        if page["next"] is None:
            return found[::-1]
        before = f"&before={page['next']}"


def test_a_server_killed_while_it_saves_has_the_old_or_the_new_config_and_every_one_that_it_answered(
    make_server: Make, chance: random.Random, is_full: bool
) -> None:
    server = make_server().start()
    now = server.config.read_bytes()
    saved = [sha256(now)]
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(0, 200 if is_full else 16, 2):
        size = chance.choice((100, 10_000, LARGE))
        with server.connect() as connection:
            began = time.perf_counter()
            text = text_of(number, size)
            connection.sendall(put(server, now, text))
            assert read_answer(connection)[0] == 200
            took = time.perf_counter() - began
            now, new = text, text_of(number + 1, size)
            saved.append(sha256(now))
            connection.sendall(put(server, now, new))
            time.sleep(chance.random() * took)
            server.kill()
            is_answered = read_answer(connection)[0] == 200
        on_disk = server.config.read_bytes()
        assert on_disk in ([new] if is_answered else [now, new])
        server.start()
        answer = server.http.get("/api/v1/config")
        assert answer.content in ([new] if is_answered else [on_disk, new])
        assert answer.headers["ETag"] == f'"{sha256(answer.content)}"'
        assert server.config.read_bytes() == answer.content
        assert [path.name for path in server.folder.iterdir() if path.name.startswith(".")] == []
        outcomes["answered" if is_answered else "saved" if answer.content == new else "not saved"] += 1
        if answer.content == new:
            now = new
            saved.append(sha256(now))
        assert history(server) == saved
    print(dict(outcomes))
    assert server.stop() == 0


def test_of_two_writers_with_one_etag_exactly_one_wins_and_the_other_is_told(
    make_server: Make, chance: random.Random, is_full: bool
) -> None:
    server = make_server().start()
    now = server.config.read_bytes()
    saved, firsts = [sha256(now)], 0
    with contextlib.ExitStack() as connections:
        for number in range(10_000 if is_full else 500):
            if number % 400 == 0:  # a server ends a connection after 1,000 requests
                writers = [connections.enter_context(server.connect()) for _ in range(2)]
                for writer in writers:
                    writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            texts = [b"# race %d\nwriter: %d\n" % (number, writer) for writer in range(2)]
            first = chance.randrange(2)
            one, other = (put(server, now, texts[writer]) for writer in (first, not first))
            held_back = chance.choice((0, 1, len(one)))  # bytes of the first one's that come behind the other's
            writers[first].sendall(one[: len(one) - held_back])
            if chance.random() < 0.5:
                time.sleep(chance.random() * 0.004)
            writers[not first].sendall(other)
            writers[first].sendall(one[len(one) - held_back :])
            answers = [read_answer(writer) for writer in writers]
            assert sorted(status for status, _, _ in answers) == [200, 412], answers
            winner = [status for status, _, _ in answers].index(200)
            now, (_, headers, _), (_, _, refusal) = texts[winner], answers[winner], answers[not winner]
            problem = json.loads(refusal)
            assert problem["code"] == "config_conflict"
            assert (problem["current"].encode(), problem["current_etag"]) == (now, headers["etag"])
            assert headers["etag"] == f'"{sha256(now)}"'
            assert server.config.read_bytes() == now
            saved.append(sha256(now))
            firsts += winner == first
    print(f"{len(saved) - 1} races; {firsts} won by who was first to send")
    assert history(server) == saved
    assert server.stop() == 0


def test_of_a_save_and_an_edit_on_disk_at_once_none_is_lost(
    make_server: Make, chance: random.Random, is_full: bool
) -> None:
    server = make_server().start()
    now = server.config.read_bytes()
    outcomes: collections.Counter[str] = collections.Counter()
    beside = server.folder / "edited.yaml"
    for number in range(500 if is_full else 10):
        saved, edited = b"# race %d\nby: save\n" % number, b"# race %d\nby: editor\n" % number
        beside.write_bytes(edited)
        with server.connect() as writer:
            writer.sendall(put(server, now, saved))
            time.sleep(chance.random() * 0.008)
            os.replace(beside, server.config)
            status, _, _ = read_answer(writer)
        assert status in (200, 412)
        now = server.http.get("/api/v1/config").content
        outcomes[str(status)] += 1
        newest = [sha256(edited)] if status == 412 else [sha256(saved), sha256(edited)]
        assert now == edited, (status, now)
        assert server.config.read_bytes() == edited
        assert history(server)[-len(newest) :] == newest
    print(dict(outcomes))
    assert server.stop() == 0
