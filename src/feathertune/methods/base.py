"""Types of a method: its options in PEFT's words, its traits, and the function that prepares a model.

One file holds one family and exports its values; `feathertune.methods` lists them. The engine receives only the
prepared model, in which the trained parameters have ``requires_grad``, and a `TrainingHook` if the method needs one.
Traits are fields, so that no other code depends on a method's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from feathertune.errors import ConfigError
from feathertune.records import Kind
from feathertune.training_hook import TrainingHook

if TYPE_CHECKING:
    from torch import Tensor, nn

    from feathertune.encoders import LoadedEncoder


class Options(BaseModel):
    """Settings of a method, each with the method's own default. Subclasses add PEFT's words.

    Attributes:
        learning_rate: The highest rate; ``train.learning_rate`` sets it for all methods.
        own: Names of options that PEFT's configuration of the method does not have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    own: ClassVar[frozenset[str]] = frozenset({"learning_rate"})

    learning_rate: float = Field(gt=0)


@dataclass(frozen=True)
class Job:
    """Facts about the training that a method prepares a model for.

    Attributes:
        seed: Of all its random draws.
        n_steps: Optimizer steps of the whole plan.
        max_length: Maximum tokens of a text.
        batches: Returns training batches as the model takes them; ``None`` if only the prepared model's shape matters.
    """

    seed: int
    n_steps: int = 1_000
    max_length: int = 0
    batches: Callable[[], Iterable[dict[str, Tensor]]] | None = None


Shapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Size:
    """The option that sets how many parameters a method trains.

    Attributes:
        option: Its name.
        values: From the shapes ``(out, in)`` of the target layers to the possible values; the number of trained
            parameters rises or falls along them.
    """

    option: str
    values: Callable[[Shapes], Sequence[Any]]


def _fits_all(_encoder: LoadedEncoder) -> str:
    return ""


def _as_it_is(_options: Any) -> bool:  # noqa: ANN401 - any Options
    return False


def _all_alike(_options: Any) -> Callable[[str], float] | None:  # noqa: ANN401 - any Options
    return None


@dataclass(frozen=True)
class Method:
    """A way to train an encoder and its head.

    Attributes:
        name: The word on the command line.
        kind: ``peft`` if little is trained and shipped, ``full`` if all weights are.
        summary: One sentence.
        when: When to take it, and when not, in a sentence.
        source: The paper.
        options: The class of its settings.
        build: Prepares an encoder that the method can serve.
        mergeable: Its update can be added into the encoder's weights.
        zero_init: The prepared model answers as the encoder did, so its head may be fitted first.
        rereads: From options to True if its head does not read the encoder's usual output, and is fitted on its own.
        changes_input: It puts its own tokens before the text, or states before each layer's.
        size: Makes it larger or smaller; ``None`` if it has one size.
        search_space: Values to try, by option; numbers ascend.
        refusal: Returns why it cannot serve an encoder, as a clause; empty if it can.
        rates: From options to the factor of the learning rate by a parameter's name; ``None`` means 1 for all.
        hook: Makes the `TrainingHook` of a prepared model.
        finish: Brings the trained model into the form that is shipped, with the same answers.
    """

    name: str
    kind: Kind
    summary: str
    source: str
    options: type[Options]
    build: Callable[[LoadedEncoder, Any, Job], nn.Module]
    when: str = ""
    mergeable: bool = True
    zero_init: bool = True
    changes_input: bool = False
    size: Size | None = None
    search_space: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)
    refusal: Callable[[LoadedEncoder], str] = _fits_all
    rereads: Callable[[Any], bool] = _as_it_is
    rates: Callable[[Any], Callable[[str], float] | None] = _all_alike
    hook: Callable[[nn.Module, Any, Job], TrainingHook] | None = None
    finish: Callable[[nn.Module], None] | None = None

    def prepare(self, encoder: LoadedEncoder, options: Any, job: Job) -> nn.Module:  # noqa: ANN401 - its Options
        """Change an encoder in place into the model to train.

        Args:
            encoder: With an untrained head.
            options: Of the class `options`.
            job: The training that follows.

        Returns:
            A ``PeftModel``, or the encoder's model itself. Exactly the trained parameters have ``requires_grad``.

        Raises:
            ConfigError: If the method cannot serve the encoder, or an option does not fit it.
        """
        if why := self.refusal(encoder):
            raise ConfigError(f"Method '{self.name}' cannot serve {encoder.id}: {why}.")
        return self.build(encoder, options, job)
