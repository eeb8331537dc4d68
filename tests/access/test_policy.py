"""Who may do what, and whose things somebody sees."""

from dataclasses import replace

import pytest
from tests.support.callers import ADA, BOB, CALLERS, OPAL, READER, ROOT, SENDER, VISITORS
from tests.support.scenarios import CALLER, GUEST

from dropmill.access.policy import RULES, Action, Policy, visible_to
from dropmill.model.caller import EVERY_SCOPE, Caller, Role
from dropmill.model.errors import Forbidden
from dropmill.model.ids import BrowserKey, Owner
from dropmill.model.internal import Internal

POLICY = Policy()
BROWSER = replace(CALLER, owner=Owner("browser:" + "b" * 64), browser=BrowserKey("b" * 64))

VIEWERS = {Action.SEND, Action.READ, Action.READ_RESULTS, Action.CONTROL, Action.MANAGE_SIGN_INS}
OPERATORS = VIEWERS | {
    *(
        Action.FOLLOW_ALL,
        Action.SEE_SERVER,
        Action.POST_NOTICE,
        Action.READ_CONFIG,
        Action.SEE_AUTHORS,
        Action.MAKE_LINKS,
    )
}


def allowed(caller: Caller, policy: Policy = POLICY) -> set[Action]:
    return {action for action in Action if policy.may(caller, action)}


def test_every_action_has_a_rule() -> None:
    assert set(RULES) == set(Action)


def test_each_role_includes_the_one_before_it() -> None:
    assert allowed(ADA) == VIEWERS
    assert allowed(OPAL) == OPERATORS
    assert allowed(ROOT) == set(Action)


def test_a_credential_does_what_its_scopes_say_whatever_the_role_is() -> None:
    assert allowed(SENDER) == {Action.SEND, Action.CONTROL}
    assert allowed(READER) == {Action.READ, Action.READ_RESULTS, Action.FOLLOW_ALL, Action.SEE_SERVER}
    assert allowed(replace(ROOT, scopes=frozenset())) == set()


def test_on_an_open_server_everybody_may_do_everything() -> None:
    assert allowed(CALLER) == set(Action)
    assert visible_to(CALLER) is None


def test_a_browser_that_is_known_by_its_cookie_may_do_all_but_look_at_others() -> None:
    assert allowed(BROWSER) == set(Action) - {Action.FOLLOW_ALL, Action.READ_AUDIT}
    assert visible_to(BROWSER) == BROWSER.owner


def test_an_account_sees_everything_by_its_role_also_in_a_browser_with_a_cookie() -> None:
    assert visible_to(replace(OPAL, browser=BrowserKey("b" * 64))) is None
    assert visible_to(replace(ADA, browser=BrowserKey("b" * 64))) == ADA.owner


def test_operators_see_everybodys_things_and_viewers_their_own() -> None:
    assert {name: visible_to(caller) for name, caller in CALLERS.items() if caller.role is Role.VIEWER} == {
        "ada": ADA.owner,
        "bob": BOB.owner,
    }
    assert visible_to(OPAL) is visible_to(ROOT) is None
    assert visible_to(GUEST) == GUEST.owner


@pytest.mark.parametrize("internal", Internal)
def test_the_server_itself_sees_everything(internal: Internal) -> None:
    assert visible_to(internal) is None


def test_what_somebody_may_do_to_their_own_things_they_may_not_do_to_those_of_others() -> None:
    for action in VIEWERS - {Action.MANAGE_SIGN_INS}:  # which has no owner but the caller
        assert POLICY.may(ADA, action, ADA.owner)
        assert not POLICY.may(ADA, action, BOB.owner)
        assert POLICY.may(OPAL, action, BOB.owner)
        assert not POLICY.may(BROWSER, action, ADA.owner)


def test_a_config_that_is_readable_is_so_to_viewers_and_no_more_than_that() -> None:
    policy = Policy(is_config_readable=True)
    assert allowed(ADA, policy) == VIEWERS | {Action.READ_CONFIG}
    assert allowed(ROOT, policy) == set(Action)
    assert allowed(ADA) == VIEWERS  # the other server's


@pytest.mark.parametrize("policy", [POLICY, Policy(is_config_readable=True)], ids=["strict", "config readable"])
def test_a_visitor_of_a_link_may_send_and_look_and_nothing_else(policy: Policy) -> None:
    of = {name: allowed(caller, policy) for name, caller in VISITORS.items()}
    assert of == {
        "visitor": {Action.SEND, Action.READ, Action.READ_RESULTS},
        "visitor who only sends": {Action.SEND, Action.READ},
        "visitor who looks": {Action.READ, Action.READ_RESULTS},
    }
    for caller in VISITORS.values():
        assert visible_to(caller) == caller.owner
        assert allowed(replace(caller, role=Role.ADMIN, scopes=EVERY_SCOPE), policy) <= {
            *(Action.SEND, Action.READ, Action.READ_RESULTS)
        }


@pytest.mark.parametrize(
    ("caller", "action", "words"),
    [
        (ADA, Action.READ_CONFIG, "the role operator; your account is viewer"),
        (OPAL, Action.CHANGE_CONFIG, "the role admin; your account is operator"),
        (READER, Action.SEND, "the scope send"),
        (BROWSER, Action.FOLLOW_ALL, "your own"),
        (VISITORS["visitor"], Action.CONTROL, "not for this"),
    ],
)
def test_a_refusal_says_what_is_missing(caller: Caller, action: Action, words: str) -> None:
    with pytest.raises(Forbidden, match=words):
        POLICY.require(caller, action)


def test_nothing_is_said_to_whoever_may() -> None:
    POLICY.require(ROOT, Action.CHANGE_CONFIG)
