"""Method types: options with PEFT's names, traits, and the function that prepares a model."""

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
    """Options of a method with its defaults; subclasses add options with PEFT's names.

    Attributes:
        learning_rate: Peak learning rate; ``train.learning_rate`` sets it for all methods.
        own: Names of options that are not in PEFT's configuration.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    own: ClassVar[frozenset[str]] = frozenset({"learning_rate"})

    learning_rate: float = Field(gt=0)


SomeOptions = TypeVar("SomeOptions", bound=Options)


def at_rate(options: type[SomeOptions], rate: float) -> type[SomeOptions]:
    """Return the same options with another default learning rate."""
    return create_model(options.__name__, __base__=options, learning_rate=(float, Field(default=rate, gt=0)))


@dataclass(frozen=True)
class ScaledRate:
    """A learning rate that falls as one over the width, and with the square root of the number of steps.

    Source for the width: Yang et al. 2022, arXiv:2203.03466, table 3. The steps: our own (benchmarks/LOG.md).

    Attributes:
        highest: Rate of base models up to `hidden_size` in trainings of up to `n_steps` steps.
        lowest: Smallest rate.
    """

    highest: float
    lowest: float
    hidden_size: int
    n_steps: int

    def at(self, hidden_size: int, n_steps: int) -> float:
        """Return the rate of a training, in two digits."""
        factor = self.hidden_size / hidden_size * (self.n_steps / max(1, n_steps)) ** 0.5
        return float(f"{min(self.highest, max(self.lowest, factor * self.highest)):.2g}")


@dataclass(frozen=True)
class Job:
    """The training to prepare a model for; `batches` is ``None`` if only the model's shape matters."""

    seed: int
    n_steps: int = 1_000
    max_length: int = 0
    batches: Callable[[], Iterable[dict[str, Tensor]]] | None = None


Shapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Size:
    """The option that sets a method's number of trained parameters, which is monotonic along its values."""

    option: str
    values: Callable[[Shapes], Sequence[Any]]


@dataclass(frozen=True)
class Method:
    """A method to train an encoder and its head.

    Attributes:
        name: Name on the command line.
        kind: ``peft`` if few weights are trained and shipped, ``full`` if all are.
        when: When to use the method, and when not to.
        build: Prepares an encoder that the method supports.
        mergeable: True if the update can be merged into the encoder's weights.
        zero_init: True if the prepared model has the encoder's outputs, which allows fitting its head first.
        changes_input: True if the method puts tokens before the text, or states before each layer's.
        conv1d: True if the method can adapt GPT-2's linear layers, which are transformers' ``Conv1D``.
        size: The option that sets the method's size; ``None`` if it is fixed.
        scaled_rate: Default learning rate by width and length of the training, instead of the option's own default.
        search_space: Values to try, by option; numbers ascend.
        refusal: Returns why an encoder is not supported, as a clause; empty if it is.
        rereads: Returns True for options with which the head does not read the encoder's usual output.
        rates: Maps options to a function from a parameter's name to its learning-rate factor; ``None`` means 1 for all.
        hook: Creates the `TrainingHook` of a prepared model.
        finish: Converts the trained model into the shipped form, with the same outputs.
        is_fused: True if the trained model's logits are fused with those of a word model.
        peft_config: Name of PEFT's configuration class, whose adapters a bundle may hold; empty without PEFT.
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
    scaled_rate: ScaledRate | None = None
    search_space: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)
    refusal: Callable[[LoadedEncoder], str] = lambda _encoder: ""
    rereads: Callable[[Any], bool] = lambda _options: False
    rates: Callable[[Any], Callable[[str], float] | None] = lambda _options: None
    hook: Callable[[nn.Module, Any, Job], TrainingHook] | None = None
    finish: Callable[[nn.Module], None] | None = None
    is_fused: bool = False
    peft_config: str = ""

    def given(self, options: Options) -> dict[str, Any]:
        """Return the options as JSON values, without a learning rate that each training scales for itself."""
        is_scaled = self.scaled_rate is not None and "learning_rate" not in options.model_fields_set
        return options.model_dump(mode="json", exclude={"learning_rate"} if is_scaled else None)

    def options_for(self, given: Mapping[str, Any], *, hidden_size: int, n_steps: int) -> Options:
        """Return the options of one training from those of `given`, which fills in a scaled learning rate."""
        if self.scaled_rate is not None and "learning_rate" not in given:
            given = {**given, "learning_rate": self.scaled_rate.at(hidden_size, n_steps)}
        return self.options.model_validate(given)

    def prepare(self, encoder: LoadedEncoder, options: Any, job: Job) -> nn.Module:  # noqa: ANN401 - its Options
        """Turn an encoder into the model to train, in place; ConfigError if the method or an option does not fit."""
        if why := self.refusal(encoder):
            raise ConfigError(f"Method '{self.name}' does not support {encoder.id}: {why}.")
        return self.build(encoder, options, job)
