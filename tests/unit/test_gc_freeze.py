import gc
import weakref

from feathertune.gc_freeze import loaded_objects_aside


class Cycle:
    """Holds itself."""


def test_what_is_loaded_is_not_looked_at_and_comes_back():
    gc.unfreeze()  # of the suite
    with loaded_objects_aside():
        assert gc.get_freeze_count() > 10_000
        made = Cycle()
        made.itself, gone = made, weakref.ref(made)
        del made
        with loaded_objects_aside():  # the outer one ends it
            pass
        assert gc.get_freeze_count() > 10_000
        gc.collect()
        assert gone() is None
    assert gc.get_freeze_count() == 0
    gc.freeze()
