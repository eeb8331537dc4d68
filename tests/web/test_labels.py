from dropmill.model.events import EventName
from dropmill.model.jobs import AttemptState, JobState
from dropmill.model.uploads import UploadState
from dropmill.web.labels import EVENT_WORDS, STATE_WORDS, state_word


def test_every_event_and_every_state_has_a_word_and_no_word_is_for_nothing() -> None:
    assert set(EVENT_WORDS) == {name.value for name in EventName}
    of_the_page = {"paused", "retrying", "refused"}
    assert set(STATE_WORDS) == {*UploadState, *JobState, *AttemptState, "open", "processing", "settled"} | of_the_page


def test_an_unknown_state_reads_as_itself() -> None:
    assert state_word("queued") == "Waiting"
    assert state_word("surprising") == "surprising"
