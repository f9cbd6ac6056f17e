"""``python -m feathertune``, and the command ``feathertune``.

Loads nothing at import: worker processes import the module that the program began with.
"""

import gc


def main() -> None:
    """Run the command line and exit."""
    from feathertune.cli import main as run

    try:
        run()
    finally:
        # What is loaded goes with the process: looking through torch's objects for the last time takes a second.
        gc.freeze()


if __name__ == "__main__":
    main()
