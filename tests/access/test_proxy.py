"""What the headers of a proxy are taken for."""

import pytest

from dropmill.access.proxy import Claim, Vouched, claim_of
from dropmill.model.caller import Role
from dropmill.model.errors import BadRequest

ROLES = [(Role.ADMIN, "ops"), (Role.OPERATOR, "staff"), (Role.OPERATOR, "night shift")]


def claim(name: bytes, *groups: bytes) -> Claim | None:
    return claim_of(Vouched(names=[name], groups=groups), ROLES)


def test_a_name_is_one_as_accounts_have() -> None:
    assert claim(b" Ada \xc3\xbc") == Claim(name="Ada ü", role=Role.VIEWER)
    assert claim(b"e\xcc\x81") == Claim(name="é", role=Role.VIEWER)


def test_an_empty_or_missing_name_is_nobody() -> None:
    assert claim(b"") is claim(b"  ") is claim_of(Vouched(names=[]), ROLES) is None
    assert claim_of(Vouched(names=[], groups=[b"ops"]), ROLES) is None


@pytest.mark.parametrize(
    "vouched",
    [
        Vouched(names=[b"ada", b"root"]),
        Vouched(names=[b"", b"root"]),
        Vouched(names=[b"ada"], groups=[b"staff", b"ops"]),
        Vouched(names=[b"\xff"]),
        Vouched(names=[b"ada"], groups=[b"\xff"]),
        Vouched(names=[], groups=[b"\xff"]),  # a client has sent it, and would do better with somebody's name
        Vouched(names=[b"a" * 65]),
        Vouched(names=[b"a\tb"]),
        Vouched(names=["a\u202eb".encode()]),
    ],
)
def test_what_is_malformed_or_sent_twice_is_refused(vouched: Vouched) -> None:
    with pytest.raises(BadRequest, match="--auth-"):
        claim_of(vouched, ROLES)


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (b"", Role.VIEWER),
        (b"others", Role.VIEWER),
        (b"OPS", Role.VIEWER),
        (b"staff", Role.OPERATOR),
        (b"others,night shift", Role.OPERATOR),
        (b"staff, ops", Role.ADMIN),
        (b"ops|staff", Role.ADMIN),
        (b"opsstaff", Role.VIEWER),
    ],
)
def test_the_highest_role_of_all_groups_counts(groups: bytes, role: Role) -> None:
    assert claim(b"ada", groups) == Claim(name="ada", role=role)


def test_without_a_mapping_groups_decide_nothing() -> None:
    assert claim_of(Vouched(names=[b"ada"], groups=[b"ops"]), []) == Claim(name="ada", role=None)
