"""Request models of the API, as described in its OpenAPI document. Importing this module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from zaozi.core.sampling import Editing, Sampling

MAX_PROMPT, MAX_STEPS, MAX_PIXELS, MAX_SCALE, MAX_SEED = 300, 120, 2**19, 30, 2**32 - 1
STOPPING = "the server is stopping"
Word = Annotated[str, Field(min_length=1, max_length=64)]


def _limited(how: Sampling) -> Sampling:
    """Raises ValueError if a number is beyond the limits of the API."""
    for name, value, low, high in (
        ("steps", how.steps, 1, MAX_STEPS),
        ("guidance.scale", how.guidance.scale, 0, MAX_SCALE),
        ("seed", how.seed, 0, MAX_SEED),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is out of range; use {low} to {high}")
    return how


def _known(edit: Editing) -> Editing:
    """Raises ValueError if the picture is too large, or the half to keep is unknown."""
    from zaozi.data.pictures import KEPT

    if len(edit.init) > MAX_PIXELS:
        raise ValueError(f"init is too long; use {MAX_PIXELS} characters or fewer")
    if edit.keep and edit.keep not in KEPT:
        raise ValueError(f"keep is unknown; use {', '.join(KEPT)}")
    return edit


class Ask(BaseModel):
    """A request to draw one picture."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    prompt: Annotated[str, Field(max_length=MAX_PROMPT, description="What to draw; empty to draw without text.")]
    sampling: Annotated[
        Sampling,
        Field(
            description=f"Sampling settings; steps up to {MAX_STEPS}, guidance scale up to {MAX_SCALE}. The batch size has "
            "no effect."
        ),
        AfterValidator(_limited),
    ] = Sampling()
    picture: Annotated[int, Field(ge=0, le=2**20, description="Number of the picture among those of the seed.")] = 0
    properties: Annotated[
        dict[Word, Word | float],
        Field(
            max_length=16,
            description="Further conditions, by the model's columns: structure, strokes, radical (a character or its "
            "number), ...",
        ),
    ] = {}
    to: Annotated[str, Field(max_length=MAX_PROMPT, description="Interpolate between `prompt` and this prompt.")] = ""
    share: Annotated[float, Field(ge=0, le=1, description="Position between the two prompts.")] = 0.5
    edit: Annotated[
        Editing,
        Field(
            description="A picture to start from: `init` is base64 of little-endian float32 in [-1, 1], channel by channel "
            "and row by row, at the size of the model's pictures; `keep` is the half to keep unchanged."
        ),
        AfterValidator(_known),
    ] = Editing()
    quiet: Annotated[bool, Field(description="Send only the picture, without the steps.")] = False


@dataclass(frozen=True)
class Limits:
    """Limits of the API."""

    room: int = 16
    """Maximum requests in the queue, including the one in progress; further requests get a 429 response."""
    seconds: float = 60.0
    """Time limit per request, including waiting, generating and sending."""
