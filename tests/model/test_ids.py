"""Ids are safe wherever they go: in a URL, as a file name, as an argument."""

import os
import re

from dropmill.model.ids import new_file_id, new_job_id, new_submission_id


def test_an_id_is_32_lower_case_hexadecimal_digits() -> None:
    for new in (new_submission_id, new_file_id, new_job_id):
        assert re.fullmatch(r"[0-9a-f]{32}", new())


def test_no_two_ids_are_the_same() -> None:
    assert len({new() for new in (new_submission_id, new_file_id, new_job_id) for _ in range(1000)}) == 3000


def test_a_forked_child_gives_out_other_ids_than_its_parent() -> None:
    new_job_id()  # leaves some ready
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, new_job_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert theirs
    assert theirs not in {new_job_id() for _ in range(1000)}
