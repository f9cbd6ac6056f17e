import gc
import weakref

from feathertune.gc_freeze import gc_frozen


class Cycle:
    """Holds itself."""


def test_what_is_loaded_is_not_looked_at_and_comes_back():
    gc.unfreeze()  # of the suite
    with gc_frozen():
        assert gc.get_freeze_count() > 10_000
        made = Cycle()
        made.itself, gone = made, weakref.ref(made)
        del made
        with gc_frozen():  # the outer one ends it
            pass
        assert gc.get_freeze_count() > 10_000
        gc.collect()
        assert gone() is None
    assert gc.get_freeze_count() == 0
    gc.freeze()
