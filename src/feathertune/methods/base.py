"""What a method is: a value with a name, options in PEFT's words, traits, and a function that prepares a model.

One file holds one family and exports its values; `feathertune.methods` lists them. The engine never sees a method,
only the prepared model, in which exactly what shall move has ``requires_grad``, and a `TrainingHook` where the method
takes part in the training. What others ask about a method is a field here, so that nobody asks for its name.
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
    """What a method may need to know of the training that it prepares a model for.

    Attributes:
        seed: Of whatever it draws.
        n_steps: Optimizer steps of the whole plan.
        max_length: Of a text, in tokens.
        batches: Training batches as the model takes them, for methods that look at data first; ``None`` where only
            the shape of the prepared model is asked for.
    """

    seed: int
    n_steps: int = 1_000
    max_length: int = 0
    batches: Callable[[], Iterable[dict[str, Tensor]]] | None = None


Shapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Size:
    """The option that says how many parameters a method trains.

    Attributes:
        option: Its name.
        values: From the shapes ``(out, in)`` of the target layers to the values that can be taken; the number of
            trained parameters rises or falls along them.
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
        kind: ``peft`` where little is trained and shipped, ``full`` where all weights are.
        summary: What it does, in a sentence.
        when: When to take it, and when not, in a sentence.
        source: The paper.
        options: The class of its settings.
        build: What `prepare` does, for an encoder that is known to be served.
        mergeable: What it has learned can be added into the encoder's weights.
        zero_init: The prepared model answers as the encoder did, so that its head may be fitted first.
        rereads: Options to whether its head reads something else than the encoder's own, of which it is fitted first.
        changes_input: It puts tokens of its own before the text, or states before each layer's.
        size: How it is made larger or smaller; ``None`` where it has one size.
        search_space: Values worth trying, by option, ascending where they are numbers.
        refusal: Why it cannot serve an encoder, in words; nothing where it can.
        rates: Options to the factor of the learning rate by a parameter's name; ``None`` means all alike.
        hook: Makes what goes along with the training of a prepared model.
        finish: Brings the trained model into the form that is shipped, giving the same answers.
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
            job: What for.

        Returns:
            A ``PeftModel``, or the encoder's model itself. Exactly what shall move has ``requires_grad``.

        Raises:
            ConfigError: If the method cannot serve the encoder, or an option does not fit it.
        """
        if why := self.refusal(encoder):
            raise ConfigError(f"Method '{self.name}' cannot serve {encoder.id}: {why}.")
        return self.build(encoder, options, job)
