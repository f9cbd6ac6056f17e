"""Types of a method: options in PEFT's words, traits as fields, and the function that prepares a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

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


SomeOptions = TypeVar("SomeOptions", bound=Options)


def at_rate(options: type[SomeOptions], rate: float) -> type[SomeOptions]:
    """Return the same options with another default learning rate."""
    return create_model(options.__name__, __base__=options, learning_rate=(float, Field(default=rate, gt=0)))


@dataclass(frozen=True)
class Job:
    """The training that a method prepares a model for; `batches` is ``None`` if only the model's shape matters."""

    seed: int
    n_steps: int = 1_000
    max_length: int = 0
    batches: Callable[[], Iterable[dict[str, Tensor]]] | None = None


Shapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Size:
    """The option that sets how many parameters a method trains, which rise or fall along its values."""

    option: str
    values: Callable[[Shapes], Sequence[Any]]


@dataclass(frozen=True)
class Method:
    """A way to train an encoder and its head.

    Attributes:
        name: The word on the command line.
        kind: ``peft`` if little is trained and shipped, ``full`` if all weights are.
        when: When to take it, and when not, in a sentence.
        build: Prepares an encoder that the method can serve.
        mergeable: Its update can be added into the encoder's weights.
        zero_init: The prepared model answers as the encoder did, so its head may be fitted first.
        changes_input: It puts its own tokens before the text, or states before each layer's.
        conv1d: It can adapt GPT-2's linear layers, which are transformers' ``Conv1D``.
        size: Makes it larger or smaller; ``None`` if it has one size.
        search_space: Values to try, by option; numbers ascend.
        refusal: Returns why it cannot serve an encoder, as a clause; empty if it can.
        rereads: True for options with which its head does not read the encoder's usual output.
        rates: From options to the factor of the learning rate by a parameter's name; ``None`` means 1 for all.
        hook: Makes the `TrainingHook` of a prepared model.
        finish: Brings the trained model into the form that is shipped, with the same answers.
        is_fused: After training its logits are fused with those of a word model.
        peft_config: Name of PEFT's configuration class, whose adapters bundles may hold; empty without PEFT.
    """

    name: str
    summary: str
    source: str
    options: type[Options]
    build: Callable[[LoadedEncoder, Any, Job], nn.Module]
    kind: Kind = "peft"
    when: str = ""
    mergeable: bool = True
    zero_init: bool = True
    changes_input: bool = False
    conv1d: bool = True
    size: Size | None = None
    search_space: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)
    refusal: Callable[[LoadedEncoder], str] = lambda _encoder: ""
    rereads: Callable[[Any], bool] = lambda _options: False
    rates: Callable[[Any], Callable[[str], float] | None] = lambda _options: None
    hook: Callable[[nn.Module, Any, Job], TrainingHook] | None = None
    finish: Callable[[nn.Module], None] | None = None
    is_fused: bool = False
    peft_config: str = ""

    def prepare(self, encoder: LoadedEncoder, options: Any, job: Job) -> nn.Module:  # noqa: ANN401 - its Options
        """Change an encoder in place into the model to train; ConfigError if the method or an option does not fit."""
        if why := self.refusal(encoder):
            raise ConfigError(f"Method '{self.name}' cannot serve {encoder.id}: {why}.")
        return self.build(encoder, options, job)
