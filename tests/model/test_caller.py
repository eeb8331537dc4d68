"""Who asks, and that nobody from outside can pass for this machine."""

from typing import get_type_hints

from dropmill.model.caller import EVERY_SCOPE, Authentication, Caller, Role
from dropmill.model.client import ClientIdentity
from dropmill.model.internal import Internal

CLIENT = ClientIdentity(ip="192.0.2.7")


def test_everyone_may_do_everything_without_having_signed_in() -> None:
    """On an open server every request counts as an admin's."""
    caller = Caller.everyone(CLIENT)
    assert (caller.client, caller.account, caller.browser, caller.link) == (CLIENT, None, None, None)
    assert (caller.role, caller.scopes, caller.authentication) == (Role.ADMIN, EVERY_SCOPE, Authentication.NONE)


def test_whoever_acts_on_this_machine_is_on_record_without_client_and_account() -> None:
    assert {(who.client, who.account) for who in Internal} == {(None, None)}


def test_a_caller_has_a_client_and_whoever_acts_on_this_machine_is_of_another_type() -> None:
    """So no caller that was made for a request passes for the server, and no text names one (`Internal("server")`)."""
    assert get_type_hints(Caller)["client"] is ClientIdentity
    assert not issubclass(Internal, Caller)
    assert not issubclass(Caller, Internal)
    assert not any(isinstance(who.value, str) for who in Internal)
