"""feathertune: lightweight fine-tuning of pretrained encoders, that tells you what it bought you."""

__version__ = "0.1.0"
