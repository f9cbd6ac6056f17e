"""Entry point of ``python -m feathertune`` and the command ``feathertune``.

Loads nothing at import, because worker processes import the program's main module.
"""

import gc


def main() -> None:
    """Run the command line and exit."""
    from feathertune.cli import main as run

    try:
        run()
    finally:
        # Skip the final garbage collection, which takes a second with torch loaded.
        gc.freeze()


if __name__ == "__main__":
    main()
