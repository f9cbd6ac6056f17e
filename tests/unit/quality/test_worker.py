import os
import time

import pytest

from feathertune.errors import DataError
from feathertune.quality.worker import process_beside


def test_work_is_done_in_another_process():
    with process_beside() as pool:
        assert pool.submit(os.getpid).result() != os.getpid()


def leave(error):
    with process_beside() as pool:
        pool.submit(os.getpid).result()
        pool.submit(time.sleep, 90)
        raise error


@pytest.mark.parametrize("error", [DataError, KeyboardInterrupt])
def test_an_error_does_not_wait_for_it(error):
    start = time.monotonic()
    with pytest.raises(error):
        leave(error)
    assert time.monotonic() - start < 60
