"""Request models of the API, as described in its OpenAPI document. Importing this module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from zaozi.core.sampling import Guidance, Sampling

MAX_PROMPT, MAX_STEPS, MAX_PIXELS = 300, 120, 2**19
STOPPING = "the server is stopping"
Side = Literal["left", "right", "top", "bottom"]
Word = Annotated[str, Field(min_length=1, max_length=64)]


def _known_sampler(name: str) -> str:
    from zaozi.core.components import samplers

    if name not in samplers:
        raise ValueError(f"unknown sampler (known: {', '.join(samplers)})")
    return name


class Init(BaseModel):
    """A picture to start from."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    pixels: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_PIXELS,
            description="Base64 of little-endian float32 in [-1, 1], channel by channel and row by row, as large as the "
            "model's pictures.",
        ),
    ]
    keep: Annotated[Side | None, Field(description="The half that is kept as it is; null for none.")] = None
    strength: Annotated[float, Field(gt=0, le=1, description="The share of the steps that is walked.")] = 1.0


class Ask(BaseModel):
    """One glyph to draw."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    prompt: Annotated[str, Field(max_length=MAX_PROMPT, description="What to draw; empty to draw without a text.")]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = Sampling.steps
    sampler: Annotated[str, Field(max_length=40, description="ddim, dpmpp-2m, ..."), AfterValidator(_known_sampler)] = (
        Sampling.sampler
    )
    guidance: Annotated[float, Field(ge=0, le=30)] = Guidance.scale
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Sampling.seed
    picture: Annotated[int, Field(ge=0, le=2**20, description="Which of the seed's pictures.")] = 0
    properties: Annotated[
        dict[Word, Word | float],
        Field(
            max_length=16,
            description="What else is asked for, by the model's columns: structure, strokes, radical (a character or its "
            "number), ...",
        ),
    ] = {}
    to: Annotated[str, Field(max_length=MAX_PROMPT, description="Draw on the way from the prompt to this one.")] = ""
    share: Annotated[float, Field(ge=0, le=1, description="How far on the way to `to`.")] = 0.5
    init: Annotated[Init, Field(description="A picture to start from.")] = None  # type: ignore[assignment]
    quiet: Annotated[bool, Field(description="Send the picture alone, without the steps.")] = False


@dataclass(frozen=True)
class Limits:
    """Limits of the API."""

    room: int = 16
    """Maximum requests in the queue, including the one in progress; further requests get a 429 response."""
    seconds: float = 60.0
    """Time limit per request, including waiting, generating and sending."""
