"""Saves and value edits of real, commented YAML files: whatever is installed with packages and on the system.

What an edit did is judged without the code under test: by loading both texts with ruamel alone, by the part of the text
that differs, and by the marks of a plain `compose`.
"""

import contextlib
import itertools
import os
import random
import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.configfile.yaml.edit_cases import MEMBERS, REASONS, VALUES, Case, Tally
from tests.support.fakes.config_ledger import FakeLedger, location_of
from tests.support.scenarios import CALLER

from dropmill.configfile import file_sync
from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.revisions import ConfigFile
from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.findings import MAX_BYTES

PROJECT = Path(__file__).parents[2]
ROOTS = [
    PROJECT,
    Path(sys.prefix),
    PROJECT / "frontend" / "node_modules",
    *map(Path, ("/usr/share", "/usr/lib", "/etc")),
]
SKIPPED = {".git", ".venv", "node_modules", "tests", "data", "build", "dist"}  # of the project itself
COMMENT = re.compile(rb"(?m)(?:^|[ \t])#")
TAG = re.compile(rb"(?<=[ \[{])![A-Za-z]\w* ?")
PRETTY_LARGE = 20_000  # bytes; larger ones are edited in full size only, since each edit reads the whole text thrice
LEAVES, LEAVES_IN_FULL = 200, 4_000
FILES = 60
SAVES = 30
REFUSED_AT_MOST = 0.03


@dataclass(frozen=True)
class Real:
    """A real file."""

    path: Path
    text: bytes


@dataclass(frozen=True)
class Corpus:
    """Real files in an order of chance.

    Attributes:
        found: how many different commented files were found.
        real: those of them that are accepted, as far as they are wanted here.
    """

    seed: int
    is_full: bool
    found: int
    real: list[Real]

    def __str__(self) -> str:
        return f"{len(self.real)} of {self.found} real files, seed {self.seed}"


@pytest.fixture(scope="module")
def corpus(request: pytest.FixtureRequest) -> Corpus:
    """Commented YAML files that are accepted, each text once.

    Many real files hold a list, or tags that only their own program knows. Where that alone keeps a file from being
    accepted, a key is put above the list, and the tags are left out; all else stays as it was found.
    """
    found: dict[bytes, Path] = {}
    for path in _yaml_files():
        with contextlib.suppress(OSError):
            text = path.read_bytes()
            if len(text) <= MAX_BYTES and COMMENT.search(text) and _is_utf8(text):
                found.setdefault(text, path)
    is_full = bool(request.config.getoption("--full"))
    seed = random.SystemRandom().randrange(1 << 32)
    texts = sorted(text for text in found if is_full or len(text) <= PRETTY_LARGE)
    random.Random(seed).shuffle(texts)
    real: list[Real] = []
    for text in texts:
        untagged = TAG.sub(b"", text)
        attempts = (text, untagged, b"documents:\n" + untagged)
        accepted = next((attempt for attempt in attempts if examine(attempt).report.is_valid), None)
        if accepted is not None:
            real.append(Real(found[text], accepted))
        if len(real) >= FILES and not is_full:
            break
    return Corpus(seed=seed, is_full=is_full, found=len(found), real=real)


def _yaml_files() -> Iterator[Path]:
    for root in ROOTS:
        for folder, folders, files in os.walk(root):
            if root == PROJECT:
                folders[:] = [name for name in folders if name not in SKIPPED]
            yield from (Path(folder, name) for name in files if name.endswith((".yaml", ".yml")))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_edits_of_real_files_change_their_nodes_alone(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(corpus.seed)
    replace, add, remove = tallies = (Tally("replace"), Tally("add"), Tally("remove"))
    cases = [case for real in corpus.real if (case := Case.of(real.text)).leaves]
    assert cases, "nothing is installed that could be edited, not even the project's own config"
    for case in itertools.cycle(cases):
        if replace.count >= (LEAVES_IN_FULL if corpus.is_full else LEAVES):
            break
        for path in chance.sample(case.leaves, min(4, len(case.leaves))):
            case.replace(path, chance.choice(VALUES), replace)
        for path in chance.sample(case.blocks, min(2, len(case.blocks))):
            case.add(path, chance.choice(MEMBERS), add)
        for path in chance.sample(case.several, min(2, len(case.several))):
            case.remove(path, remove)
    with capsys.disabled():
        print(f"\n  {corpus}: " + "; ".join(map(str, tallies)))
    for tally in tallies:
        assert not tally.wrong, "\n".join(tally.wrong)
        assert tally.refused.keys() <= REASONS
        assert tally.refused["not_exact"] <= max(REFUSED_AT_MOST * tally.count, 1)
    if corpus.is_full:  # what files hold is theirs to say: in a small sample, one with many anchors outweighs the rest
        assert replace.refused.total() <= REFUSED_AT_MOST * replace.count


def test_point_15_real_files_with_tags_are_accepted_as_they_are(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is accepted once its tags are left out is accepted with them when they are kept."""
    is_full = bool(request.config.getoption("--full"))
    seed = random.SystemRandom().randrange(1 << 32)
    tagged: set[bytes] = set()
    for path in _yaml_files():
        with contextlib.suppress(OSError):
            if path.stat().st_size <= PRETTY_LARGE and _is_utf8(text := path.read_bytes()) and TAG.search(text):
                tagged.add(text)
    texts = sorted(tagged)
    random.Random(seed).shuffle(texts)
    count = {"refused": 0, "kept": 0}
    for text in texts[: None if is_full else FILES]:
        for above in (b"", b"documents:\n"):
            if examine(above + TAG.sub(b"", text)).report.is_valid:
                count["refused"] += not examine(above + text).report.is_valid
                count["kept"] += examine(above + text, keeps_tags=True).report.is_valid
                assert examine(above + text, keeps_tags=True).report.errors == (), f"seed {seed}"
    with capsys.disabled():
        print(f"\n  of {len(texts)} real files with tags: {count}, seed {seed}")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def parser() -> AsyncIterator[ParserProcess]:
    parser = ParserProcess()
    yield parser
    await parser.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_real_files_are_saved_byte_for_byte(
    corpus: Corpus, tmp_path: Path, parser: ParserProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = corpus.real if corpus.is_full else corpus.real[:SAVES]
    base = b"before: them\n"
    path = tmp_path / "config.yaml"
    path.write_bytes(base)
    ledger = FakeLedger()
    config = ConfigFile(location_of(path), ledger, parser, aside=tmp_path / "aside")
    await config.open()
    for real in texts:
        revision = await config.save(CALLER, real.text, file_sync.sha256_of(base), None)
        assert path.read_bytes() == real.text, real.path
        assert await ledger.revision_text(revision.sha256) == real.text, real.path
        base = real.text
    with capsys.disabled():
        print(f"\n  {len(texts)} real files saved byte for byte, seed {corpus.seed}")
