"""``python -m feathertune``."""

from feathertune.cli import main

if __name__ == "__main__":
    main()
