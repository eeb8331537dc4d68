"""Every error of the operating system has one meaning."""

import errno
import os

import pytest

from dropmill.model.errors import OutOfSpace, StorageUnavailable
from dropmill.model.faults import FULL, OF_THE_FILE, fault_of, translated


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_number_is_a_507_or_a_503(number: int) -> None:
    fault = fault_of(OSError(number, os.strerror(number), "/secret/path"), "The file store")
    assert type(fault) is (OutOfSpace if number in FULL else StorageUnavailable)
    assert fault.status == (507 if number in FULL else 503)
    assert os.strerror(number) in fault.detail
    assert "secret" not in fault.detail


def test_a_full_disk_is_read_only_too() -> None:
    assert {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS} == FULL


def test_a_shortage_of_the_machine_is_no_property_of_a_file() -> None:
    shortages = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EROFS, errno.EAGAIN}
    assert not shortages & OF_THE_FILE


def test_an_error_is_translated_and_keeps_its_cause() -> None:
    with pytest.raises(StorageUnavailable) as caught, translated("The file store"):
        os.close(-1)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.detail == "The file store is not available now: Bad file descriptor. Try again in a moment."
