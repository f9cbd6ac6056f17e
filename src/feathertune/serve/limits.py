"""Limits and budgets of a server, set by options of ``feathertune serve``."""

from __future__ import annotations

from dataclasses import dataclass

from feathertune.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Limits and budgets of a server.

    Attributes:
        token_budget: Maximum padded tokens per pass, unless a single text has more.
        latency_budget_s: Maximum seconds that the oldest text of a pass waits for more texts.
        request_texts: Maximum texts per request, of `text_characters` each and `body_bytes` together.
        drain_s: Seconds during which a stopping server answers new requests with 503.
        header_bytes: Maximum size of a request's first line and header, of `headers` fields.
        header_s, body_s: Maximum seconds for a complete header, or body, to arrive.
        idle_s: Maximum seconds between two requests of a connection.
        answer_s: Maximum seconds for a client to read its answer.
        load_s: Maximum seconds to load a bundle while the server runs.
    """

    token_budget: int = 2048
    latency_budget_s: float = 0.01
    queue_texts: int = 1024
    request_texts: int = 256
    text_characters: int = 20_000
    body_bytes: int = 1 << 20
    timeout_s: float = 30.0
    drain_s: float = 1.0
    connections: int = 512
    header_bytes: int = 16_384
    headers: int = 100
    header_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 5.0
    answer_s: float = 60.0
    load_s: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("latency_budget_s", "drain_s"):
                is_good, expected = 0 <= value < float("inf"), "0 or more seconds"
            elif name.endswith("_s"):
                is_good, expected = 0 < value < float("inf"), "more than 0 seconds"
            else:
                is_good, expected = value >= 1, "1 or more"
            if not is_good:
                raise ConfigError(f"The limit {name} is {value}. Expected {expected}.")
        if self.request_texts > self.queue_texts:
            raise ConfigError(
                f"A request may hold {self.request_texts} texts, but the queue only {self.queue_texts}. "
                "Expected a queue of at least one full request."
            )
