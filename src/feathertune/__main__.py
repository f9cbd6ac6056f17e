"""Entry point of ``python -m feathertune`` and the command ``feathertune``.

Loads nothing at import, because worker processes import the program's main module.
"""

import gc

# Python collects after 700 new objects, so a tenth of the imports' time went to scans of objects that stay.
_NEW_OBJECTS = 50_000


def main() -> None:
    """Run the command line and exit."""
    gc.set_threshold(_NEW_OBJECTS)
    from feathertune.cli import main as run

    try:
        run()
    finally:
        # Skip the final garbage collection, which takes a second with torch loaded.
        gc.freeze()


if __name__ == "__main__":
    main()
