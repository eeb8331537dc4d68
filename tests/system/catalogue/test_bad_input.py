"""The catalogue of bad inputs, played against one server; what is looked at after each case is in `play`."""

import contextlib
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from tests.system.catalogue.cases import Case, Unplayable, cases, frame
from tests.system.catalogue.run_case import PLAYS, Target, raw_socket


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for all."""
    made = Target(tmp_path_factory.mktemp("catalogue") / "server")
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("case", cases(*PLAYS), ids=lambda case: case.id)
def test_a_bad_input_is_answered_as_such_and_leaves_nothing(target: Target, case: Case) -> None:
    try:
        target.play(case)
    except Unplayable as error:
        pytest.skip(str(error))


def test_the_catalogue_says_what_is_expected_of_each_case() -> None:
    found = cases()
    assert all(case.is_known and case.surface in PLAYS for case in found)
    assert len({case.id for case in found}) == len(found)
    assert len(found) > 290


@pytest.mark.parametrize("path", ["submissions/{}", "submissions/{}/files", "jobs/{}", "jobs/{}/output"])
@pytest.mark.parametrize("name", ["none", "..", "../../config.yaml", "%", "\0", "a" * 5000, "\u202e", "x' OR 1=1--"])
def test_an_id_that_does_not_exist_is_not_found(target: Target, path: str, name: str) -> None:
    answer = target.server.http.get("/api/v1/" + path.format(quote(name, safe="")))
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_many_silent_sockets_do_not_keep_others_from_being_served(target: Target) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(100):
            silent.enter_context(raw_socket(target.server))
        assert target.server.http.get("/healthz").status_code == 200
        with raw_socket(target.server) as one_more:
            one_more.connection.sendall(frame(b"{}"))
            assert one_more.hear()["ok"] is False
