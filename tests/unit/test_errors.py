import pickle

import pytest

from feathertune.errors import EncoderError, MissingExtraError, RunFailedError, UnknownNameError


@pytest.mark.parametrize(
    "error",
    [
        EncoderError("no weights"),
        MissingExtraError("samples", "sample:minilm"),
        RunFailedError("out of memory"),
        UnknownNameError("sample", "minilmm", ["other", "minilm"]),
    ],
)
def test_errors_come_whole_out_of_another_process(error):
    came = pickle.loads(pickle.dumps(error))
    assert type(came) is type(error)
    assert (str(came), vars(came)) == (str(error), vars(error))
