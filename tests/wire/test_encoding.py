"""JSON as text."""

import json

import pytest

from dropmill.wire.encoding import dumps, loads_strict, loads_unique


def test_a_message_is_one_line_of_ascii_whatever_it_holds() -> None:
    text = dumps({"name": "a\r\n\u2028\u0085\u202e\ud800</script>"})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["name"] == "a\r\n\u2028\u0085\u202e\ud800</script>"


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '[{"b":{"a":1,"a":1}}]', "", "[" * 100_000])
def test_a_key_given_twice_is_no_json_here(text: str) -> None:
    for load in (loads_unique, lambda text: loads_strict(text.encode())):
        with pytest.raises((ValueError, RecursionError)):
            load(text)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", '{"a":[1e400]}'])
def test_a_number_that_is_none_in_rfc_8259_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"NaN|Infinity|1e400"):
        loads_strict(text.encode())
