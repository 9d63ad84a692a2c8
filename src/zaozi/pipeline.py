"""From text to pictures: what `import zaozi` gives you."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zaozi.core.config import Guidance, Property, Sampling
from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.noise import between, picture_noise
from zaozi.core.types import Cond, Conditional, Denoise, Level
from zaozi.diffusion.guidance import Scale, Weight, clamped, composed, dynamic, inpainted, interval, rising
from zaozi.diffusion.inversion import invert
from zaozi.diffusion.levels import levels
from zaozi.diffusion.samplers import sampler as find_sampler
from zaozi.model.checkpoint import find_model, load_model
from zaozi.model.denoiser import Denoiser
from zaozi.text.encoders import TextEncoder, check_prompts, load_encoder, warn_of

Watch = Callable[[float, Tensor, Tensor, Tensor], None]
"""`on_step(t, x_t, x0_hat, eps_hat)`: the time before the step and three tensors `[B, C, s, s]`."""

Prompt = str | Mapping[str, float]
"""A text, or several with their weights: {"fire": 1.0, "sickness": 0.7}."""


def to_bytes(x: Tensor) -> NDArray[np.uint8]:
    """Pictures `[B, C, S, S]` in [-1, 1] as bytes of the same shape; -1 is 0 (black), +1 is 255 (white)."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def to_images(pixels: NDArray[np.uint8]) -> list[Image.Image]:
    """Bytes `[B, C, S, S]` as images, grey or RGB."""
    return [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in pixels]


def to_pictures(x: Tensor) -> list[Image.Image]:
    """Pictures `[B, C, S, S]` in [-1, 1] as 8-bit images, grey or RGB; -1 is black, +1 white."""
    return to_images(to_bytes(x))


def from_picture(picture: Image.Image, size: int, channels: int, *, paper: str = "white") -> Tensor:
    """A picture as `[1, C, S, S]` in [-1, 1]: resized to fit, cut to a square at its middle, on paper where it is transparent."""
    from zaozi.data.pictures import fitted

    square = fitted(picture, size, "L" if channels == 1 else "RGB", paper=paper)
    pixels = np.atleast_3d(np.asarray(square, np.float32)).transpose(2, 0, 1)
    return torch.from_numpy(pixels / 127.5 - 1.0)[None]


def to_mask(picture: Image.Image, size: int) -> Tensor:
    """What a picture keeps, `[1, 1, S, S]`: 1 where it is white and opaque, else 0."""
    return (from_picture(picture, size, 1, paper="black") > 0).float()


def guided(
    model: Denoiser,
    wanted: Sequence[tuple[Cond, Weight]],
    how: Guidance,
    *,
    negative: Cond | None = None,
    weak: Conditional | None = None,
) -> Denoise:
    """The model's estimate under a guidance, kept to the pictures' range. Raises `ZaoziError` for what is out of range."""
    if how.curve not in ("constant", "rising"):
        raise unknown("guidance curve", how.curve, ("constant", "rising"))
    if how.threshold not in ("clamp", "dynamic", "none"):
        raise unknown("threshold", how.threshold, ("clamp", "dynamic", "none"))
    if how.plus and how.curve == "rising":
        raise ZaoziError("CFG++ and a rising scale do not go together; choose one")
    scale: Scale = how.scale if how.curve == "constant" else rising(how.scale)
    if (how.low, how.high) != (0.0, 1.0):
        scale = interval(scale, how.low, how.high)
    denoise = composed(model, wanted, scale, negative=negative, weak=weak, rescale=how.rescale, plus=how.plus)
    if model.space.bounds is None or how.threshold == "none":
        return denoise
    limit = clamped if how.threshold == "clamp" else dynamic
    return limit(denoise, *model.space.bounds, plus=how.plus)


def check_strength(strength: float) -> None:
    """Raises `ZaoziError` for a share of the steps that is not above 0 and up to 1."""
    if not 0 < strength <= 1:
        raise ZaoziError(f"strength {strength} is out of range; use above 0 (nearly as given) to 1 (all anew)")


@dataclass(frozen=True)
class Edit:
    """What a drawing starts from beside noise. Raises `ZaoziError` for a strength out of range, or one without a picture."""

    init: Tensor | None = None
    """A picture `[1 or B, C, S, S]` in [-1, 1]."""
    strength: float = 1.0
    """Of the steps only this last share, above 0 to 1, is walked, from `init` noised so far."""
    mask: Tensor | None = None
    """`[1 or B, 1, S, S]`: where it is 1, `init` is kept as it is."""
    start: Tensor | None = None
    """The noise itself `[1 or B, C, s, s]`, in place of the seed's."""

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if self.init is None and (self.mask is not None or self.strength != 1):
            raise ZaoziError("a mask or a strength needs a picture to start from; give init")


class Short(TypedDict, total=False):
    """Fields of `Sampling` and `Edit` as keywords of `TextToImage`; they replace those of the objects."""

    num_steps: int
    guidance_scale: float
    guidance: Guidance
    sampler: str
    seed: int
    grid: str
    eta: float
    toward_seed: tuple[int, float | Sequence[float]] | None
    batch_size: int
    init: Image.Image | Tensor | None
    mask: Image.Image | Tensor | None
    strength: float
    start: Tensor | None
    weak: Denoiser | None


@torch.inference_mode()
def draw(
    model: Denoiser,
    cond: Cond | Sequence[tuple[Cond, Weight]],
    how: Sampling = Sampling(),
    *,
    pictures: Sequence[int],
    edit: Edit = Edit(),
    negative: Cond | None = None,
    weak: Denoiser | None = None,
    on_step: Watch | None = None,
) -> Tensor:
    """Draw one picture per row of `cond`: `[B, C, S, S]` in [-1, 1]. Row r starts from the noise of (seed, pictures[r]).

    `cond` may be several conditions with weights, whose directions are added; `negative` is a negative one, and `weak` a lesser
    model to guide away from. All rows are one batch. Raises `ZaoziError` for steps, scale, eta, seed, sampler or grid out of
    range, or an edit of the wrong shape.
    """
    sample = find_sampler(how.sampler)
    if how.eta:
        if how.sampler != "ddim" or not 0 <= how.eta <= 1:
            raise ZaoziError(f"eta {how.eta} does not suit '{how.sampler}'; use it with ddim, from 0 to 1")
        sample = partial(sample, eta=how.eta)
    device = next(model.parameters()).device
    noise = picture_noise(how.seed, pictures, model.shape, device)
    if how.toward_seed is not None:
        other, share = how.toward_seed
        noise = between(noise, picture_noise(other, pictures, model.shape, device), share)
    path = levels(model.schedule, how.steps, how.grid)
    path = path[how.steps - max(1, round(how.steps * edit.strength)) :]
    wanted = [(cond, 1.0)] if isinstance(cond, Cond) else cond
    if weak is not None:
        check_alike(model, weak)
        weak = weak.to(device)
    denoise = guided(
        model,
        [(c.to(device), w) for c, w in wanted],
        how.guidance,
        negative=None if negative is None else negative.to(device),
        weak=weak,
    )
    x = noise(0)
    if (start := edit.start) is not None:
        if start.shape[1:] != x.shape[1:] or len(start) not in (1, len(x)):
            raise ZaoziError(f"the start is {tuple(start.shape)}; give {tuple(x.shape)}, or one for all")
        x = start.to(x).expand_as(x)
    x = float(path[0].sigma) * x
    if edit.init is not None:
        known = model.space.encode(edit.init.to(device))
        x = x + float(path[0].alpha) * known
        if edit.mask is not None:
            denoise = inpainted(denoise, known, _shrunk(edit.mask.to(device), model.shape[1]))

    def watch(level: Level, x: Tensor, guess: tuple[Tensor, Tensor]) -> None:
        if on_step:
            on_step(float(level.t), x, guess[0], guess[1])

    made = model.space.decode(sample(denoise, x, path, noise=noise, on_step=watch))
    if edit.init is not None and edit.mask is not None:
        made = torch.lerp(made, edit.init.to(made), edit.mask.to(made))
    return made


def check_alike(model: Denoiser, weak: Denoiser) -> None:
    """Raises `ZaoziError` unless a weak model sees noise, text and properties as the model does."""
    own, other = model.config, weak.config
    for name, a, b in (
        ("pictures", model.shape, weak.shape),
        ("schedule", own.diffusion.schedule, other.diffusion.schedule),
        ("text encoder", own.text, other.text),
        ("properties", *([replace(p, dropout=0.0) for p in c.properties] for c in (own, other))),  # however often told
    ):
        if a != b:
            raise ZaoziError(
                f"the weak model has other {name} than the model; use an earlier or smaller one of its kind"
            )


def _shrunk(mask: Tensor, side: int) -> Tensor:
    """A mask at the side the network sees, 1 only where all of it is known."""
    small = torch.nn.functional.adaptive_avg_pool2d(mask.float(), side)
    return (small >= 1.0 - 1e-6).to(mask.dtype)


def property_values(known: Sequence[Property], asked: Mapping[str, str | float], count: int) -> dict[str, Tensor]:
    """Properties asked for, as a condition's tensors `[count]`. Raises `ZaoziError` for an unknown one or value."""
    by_name = {p.column: p for p in known}
    made = {}
    for name, value in asked.items():
        if name not in by_name:
            raise unknown("property", name, by_name)
        p = by_name[name]
        if p.kind == "class":
            if str(value) not in p.values:
                raise unknown(name, str(value), p.values)
            made[name] = torch.full((count,), p.values.index(str(value)) + 1)
        else:
            try:
                number = float(value)
            except ValueError:
                number = np.nan
            if not np.isfinite(number):
                raise ZaoziError(f"{name} '{value}' is not a number; give one, for instance {p.mean:.0f}")
            made[name] = torch.full((count,), number)
    return made


def halfway(a: str, b: str, share: float) -> Prompt:
    """The composed prompt at `share` of the way from a (0) to b (1)."""
    return a if a == b else {a: 1.0 - share, b: share}


class TextToImage:
    """Draws pictures for prompts.

    >>> model = TextToImage.from_pretrained("base")                            # doctest: +SKIP
    >>> pictures = model("gold", count=16, num_steps=20, guidance_scale=5.0)   # doctest: +SKIP
    """

    def __init__(self, model: Denoiser, encoder: TextEncoder) -> None:
        self.model = model
        self.encoder = encoder

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "base", *, device: str | None = None, allow_download: bool = False
    ) -> TextToImage:
        """A shipped model by name, or the folder of one of your own, on `device` (cuda where there is one, or the CPU).

        No code in the folder is ever run. A text encoder that the model names on the hub is fetched only with
        `allow_download`. Raises `ZaoziError` where there is no such model or device, or its files are damaged.
        """
        folder = find_model(str(name))
        model = load_model(folder)
        text = model.config.text
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model = model.to(device)
        except (AssertionError, RuntimeError) as error:
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise ZaoziError(
                f"device '{device}' cannot be used ({reason}); use cpu, or cuda where there is a GPU"
            ) from None
        encoder = load_encoder(text.encoder, text.max_tokens, base=folder, allow_download=allow_download)
        if encoder.width != (wanted := model.config.network.text_width):
            raise ZaoziError(f"{name} reads text states of {wanted} channels, {encoder.name} gives {encoder.width}")
        return cls(model, encoder)

    def encode(self, prompts: Sequence[str], properties: Mapping[str, str | float] | None = None) -> Cond:
        """The condition of some prompts, one row each; the same properties for all. An empty prompt is no text.

        Chinese characters are read by their definitions where the encoder reads English (see `in_english`).
        """
        cond = self.encoder.encode([", ".join(in_english(self.encoder, p).values()) or p for p in prompts])
        cond = cond.without_text(torch.tensor([not prompt.strip() for prompt in prompts]))
        given = property_values(self.model.config.properties, properties or {}, len(prompts))
        return Cond(cond.tokens, cond.mask, cond.pooled, given)

    def conditions(
        self, prompts: Sequence[Prompt], properties: Mapping[str, str | float] | None = None
    ) -> list[tuple[Cond, Weight]]:
        """One condition a row, or for composed prompts as many as the longest has, each with its rows' weights.

        Properties go with a plain prompt; beside composed ones they are a direction of their own, of weight 1.
        """
        rows = [self._parts(prompt, bool(properties)) for prompt in prompts]
        made: list[tuple[Cond, Weight]] = []
        for k in range(max(map(len, rows))):
            column = [row[k] if k < len(row) else ("", 0.0, False) for row in rows]
            cond = self.encode([text for text, _, _ in column], properties)
            hidden = torch.tensor([not with_properties for _, _, with_properties in column])
            kept = {
                name: v.masked_fill(hidden, torch.nan if v.is_floating_point() else 0)
                for name, v in cond.properties.items()
            }
            weights = torch.tensor([weight for _, weight, _ in column])
            plain = bool((weights == 1).all())
            made.append((Cond(cond.tokens, cond.mask, cond.pooled, kept), 1.0 if plain else weights))
        return made

    @staticmethod
    def _parts(prompt: Prompt, properties: bool) -> list[tuple[str, float, bool]]:
        """(text, weight, whether the properties go with it) of a prompt's parts."""
        if isinstance(prompt, str):
            return [(prompt, 1.0, properties)]
        parts = [(text, float(weight), False) for text, weight in prompt.items()]
        return [*parts, ("", 1.0, True)] if properties else parts

    def pictures(
        self,
        prompts: Sequence[Prompt],
        how: Sampling = Sampling(),
        *,
        count: int = 1,
        properties: Mapping[str, str | float] | None = None,
        negative: str = "",
        edit: Edit = Edit(),
        weak: Denoiser | None = None,
        on_step: Watch | None = None,
    ) -> Iterator[tuple[int, int, Image.Image]]:
        """(p, i, picture) for picture i of prompt p, in order, drawn `how.batch_size` at a time across prompts.

        Picture i of a prompt depends on (seed, i, prompt) alone, whatever the batch size. `negative` is a prompt to steer away
        from. A share per row in `how.toward_seed` is one per prompt here, and several rows of `edit.start` one per picture.
        Raises `ZaoziError` for an empty prompt or anything out of range.
        """
        if count < 1 or how.batch_size < 1:
            raise ZaoziError(f"count {count} or batch size {how.batch_size} is out of range; use 1 or more")
        check_texts(self.encoder, prompts, bool(properties) or how.guidance.scale == 0)
        unwanted = None
        if negative.strip():
            check_texts(self.encoder, [negative], False)
            unwanted = self.encode([negative])
        todo = ((p, i) for p in range(len(prompts)) for i in range(count))
        while part := list(islice(todo, how.batch_size)):
            distinct = sorted({p for p, _ in part})
            rows = torch.tensor([distinct.index(p) for p, _ in part])
            wanted = [
                (cond.take(rows), weight[rows] if isinstance(weight, Tensor) else weight)
                for cond, weight in self.conditions([prompts[p] for p in distinct], properties)
            ]
            numbers = [i for _, i in part]
            own = edit
            if edit.start is not None and len(edit.start) > 1:
                own = replace(edit, start=edit.start[numbers])
            one = how
            if how.toward_seed and not isinstance(share := how.toward_seed[1], (int, float)):
                one = replace(how, toward_seed=(how.toward_seed[0], [share[p] for p, _ in part]))
            x = draw(
                self.model,
                wanted,
                one,
                pictures=numbers,
                edit=own,
                negative=unwanted.take(torch.zeros_like(rows)) if unwanted else None,
                weak=weak,
                on_step=on_step,
            )
            for (p, i), picture in zip(part, to_pictures(x), strict=True):
                yield p, i, picture

    def __call__(
        self,
        prompt: Prompt = "",
        how: Sampling = Sampling(),
        *,
        count: int = 1,
        properties: Mapping[str, str | float] | None = None,
        negative: str = "",
        edit: Edit = Edit(),
        on_step: Watch | None = None,
        **short: Unpack[Short],
    ) -> list[Image.Image]:
        """`count` pictures for one prompt. `on_step(t, x_t, x0_hat, eps_hat)` watches every step of every batch.

        The prompt may be several with weights, {"fire": 1, "sickness": 0.7}. Fields of `how` and `edit` may be given as
        keywords, too: `num_steps`, `guidance_scale`, `seed`, `init`, ... (see `Short`), `init` and `mask` as images. `weak` is
        a lesser model to guide away from. Raises `ZaoziError` for an empty prompt or anything out of range.
        """
        weak = short.pop("weak", None)
        how, edit = self.options(how, edit, short)
        made = self.pictures(
            [prompt], how, count=count, properties=properties, negative=negative, edit=edit, weak=weak, on_step=on_step
        )
        return [picture for _, _, picture in made]

    def options(self, how: Sampling, edit: Edit, short: Short) -> tuple[Sampling, Edit]:
        """`how` and `edit` with the fields that `short` names replaced. Raises `ZaoziError` or `TypeError`."""
        given: dict[str, Any] = dict(short)
        if "num_steps" in given:
            given["steps"] = given.pop("num_steps")
        if (scale := given.pop("guidance_scale", None)) is not None and "guidance" not in given:
            given["guidance"] = replace(how.guidance, scale=scale)
        size, channels = self.model.config.size, self.model.config.channels
        if isinstance(init := given.get("init"), Image.Image):
            given["init"] = from_picture(init, size, channels)
        if isinstance(mask := given.get("mask"), Image.Image):
            given["mask"] = to_mask(mask, size)
        of_edit = {name: given.pop(name) for name in ("init", "mask", "strength", "start") if name in given}
        return replace(how, **given), replace(edit, **of_edit)

    def interpolate(self, a: str, b: str, *, frames: int = 9, **short: Unpack[Short]) -> list[Image.Image]:
        """Pictures on the way from prompt a to prompt b from one noise: each is drawn by both, weighted 1 - s and s."""
        if frames < 2:
            raise ZaoziError(f"frames {frames} is out of range; use 2 or more")
        way = [halfway(a, b, k / (frames - 1)) for k in range(frames)]
        how, edit = self.options(Sampling(), Edit(), short)
        return [picture for _, _, picture in self.pictures(way, how, edit=edit)]

    @torch.inference_mode()
    def invert(
        self, picture: Image.Image, prompt: str = "", *, num_steps: int = 50, guidance_scale: float = 1.0
    ) -> Tensor:
        """The noise x_T `[1, C, s, s]` from which `ddim` draws this picture for this prompt in as many steps on the
        uniform grid: pass it as `start`, with guidance=Guidance(guidance_scale, threshold="none"), the scale 0 where there
        is no prompt. Raises `ZaoziError` where it does not settle.

        The picture stands at the last level before the clean end, noiseless, as is usual; the way back is exact up to
        there, and ends with the model's own last step.
        """
        config, schedule = self.model.config, self.model.schedule
        check_texts(self.encoder, [prompt], True)
        x0 = self.model.space.encode(from_picture(picture, config.size, config.channels).to(self.device))
        path = levels(schedule, num_steps)[:-1]
        if len(path) < 2:
            raise ZaoziError(f"{num_steps} steps are too few to invert; use 10 or more")
        denoise = guided(
            self.model, [(self.encode([prompt]).to(self.device), 1.0)], Guidance(guidance_scale, threshold="none")
        )
        return invert(denoise, float(path[-1].alpha) * x0, path)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device


def in_english(encoder: TextEncoder, text: str) -> dict[str, str]:
    """What stands in for a text of Chinese characters before an encoder that reads English alone: the characters with their
    Unihan definitions; {} for any other text, and where Unihan is not installed.

    >>> from zaozi.text.encoders import load_encoder
    >>> in_english(load_encoder(), "\u7ea2 \u732b")
    {'\u7ea2': 'red', '\u732b': 'cat'}
    """
    if not encoder.english or text.isascii():
        return {}
    from zaozi.data.unihan import glossed

    try:
        return glossed(text)
    except ZaoziError:  # the data packages are an extra
        return {}


def check_texts(encoder: TextEncoder, prompts: Sequence[Prompt], may_be_empty: bool) -> None:
    """As `check_prompts`, through composed prompts too; an empty one is fine where properties say what to draw, or nothing does.

    Raises `ZaoziError`.
    """
    if not prompts:
        check_prompts(encoder, [])
    for i, prompt in enumerate(prompts):
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not texts:
            raise ZaoziError(f"prompt {i} is empty; compose at least one text, for instance {{'fire': 1.0}}")
        bad = None if isinstance(prompt, str) else next((w for w in prompt.values() if not np.isfinite(w)), None)
        if bad is not None:
            raise ZaoziError(f"weight {bad} of prompt {i} is not a number; use for instance 0.7, or -1 to push away")
        if not may_be_empty and any(not text.strip() for text in texts):
            raise ZaoziError(f"prompt {i} is empty; say what to draw, for instance 'gold'")
    flat = dict.fromkeys(t for p in prompts for t in ([p] if isinstance(p, str) else p) if t.strip())
    glosses = {text: in_english(encoder, text) for text in flat}
    warn_of(
        [
            f"Chinese is read by definition ({'; '.join(f'{c}: {meant}' for c, meant in gloss.items())})"
            for gloss in glosses.values()
            if gloss
        ],
        "more prompts are read by definition",
    )
    if flat:
        check_prompts(encoder, [", ".join(gloss.values()) or text for text, gloss in glosses.items()])


__all__ = [
    "Edit",
    "Guidance",
    "Prompt",
    "Sampling",
    "Short",
    "TextToImage",
    "Watch",
    "draw",
    "from_picture",
    "guided",
    "to_bytes",
    "to_images",
    "to_pictures",
]
