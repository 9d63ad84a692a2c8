"""`TextToImage`: the main class exposed by `import zaozi`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast

import numpy as np
from PIL import Image

from zaozi.core.arrays import Tensor, is_real, library, on, without_gradients
from zaozi.core.errors import ZaoziError
from zaozi.core.sampling import Guidance, Sampling
from zaozi.core.types import Cond
from zaozi.diffusion.guidance import Weight
from zaozi.diffusion.levels import levels
from zaozi.model.checkpoint import find_model, load_model, stages_in
from zaozi.pipeline.drawing import Edit, Watch, check_sampling, draw, enlarge, guided
from zaozi.pipeline.onnx import load_exported
from zaozi.pipeline.pictures import mask_pixels, pixels, to_pictures
from zaozi.pipeline.texts import Prompt, check_texts, halfway, in_english, property_values
from zaozi.text.encoders import TextEncoder, load_encoder

if TYPE_CHECKING:
    import torch

    from zaozi.model.denoiser import Denoiser


class Short(TypedDict, total=False):
    """Fields of `Sampling` and `Edit` as keyword arguments of `TextToImage`; they override those of the objects."""

    num_steps: int
    guidance_scale: float
    guidance: Guidance
    sampler: str
    seed: int
    grid: str
    eta: float
    toward_seed: tuple[int, float | Sequence[float]] | None
    batch_size: int
    size: int
    init: Image.Image | Tensor | None
    mask: Image.Image | Tensor | None
    strength: float
    start: Tensor | None
    weak: Denoiser | None


class TextToImage:
    """Text-to-image pipeline: a denoiser and its text encoder.

    >>> model = TextToImage.from_pretrained("base")                            # doctest: +SKIP
    >>> pictures = model("gold", count=16, num_steps=20, guidance_scale=5.0)   # doctest: +SKIP
    """

    def __init__(self, model: Denoiser, encoder: TextEncoder, stages: Callable[[], Sequence[Denoiser]] = tuple) -> None:
        self.model = model
        self.encoder = encoder
        self._load_stages = stages

    @cached_property
    def stages(self) -> Sequence[Denoiser]:
        """Super-resolution stages, smallest first; loaded when they are first used, since most drawings need none."""
        return self._load_stages()

    @property
    def usual(self) -> Sampling:
        """The default settings; those of a distilled model have its number of steps and no guidance."""
        return self.model.config.distilled.usual()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "base",
        *,
        stages: Sequence[str | Path] | None = None,
        device: str | None = None,
        allow_download: bool = False,
        engine: Literal["torch", "onnx"] = "torch",
    ) -> TextToImage:
        """Load a bundled model by name, your own model from a folder, or a model of the Hugging Face hub, on `device`
        (default: cuda if available, else cpu).

        A model on the hub is `user/name`, or `user/name@revision` for a branch, tag or commit; a folder of that name takes
        precedence. `stages` are super-resolution stages, for pictures of a larger `size`; by default those in the model's
        folder. Never executes code from the folder. A model or text encoder hosted on the hub is downloaded only with
        `allow_download`; otherwise it is taken from the hub's cache.
        With `engine` "onnx", ONNX Runtime draws on the CPU, from files that are exported once and cached; PyTorch is not
        imported, and tensors are NumPy arrays.
        Raises `ZaoziError` if the model or device does not exist or a file is damaged.
        """
        folder = find_model(str(name), allow_download=allow_download)
        if engine == "onnx":
            if stages is not None or device not in (None, "cpu"):
                raise ZaoziError("ONNX Runtime draws on the CPU, with the model's own stages; use --engine torch")
            exported, reader, own = load_exported(folder)
            return cls(cast(Any, exported), cast(Any, reader), cast(Any, own))
        import torch

        model = load_model(folder)
        text = model.config.text
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model = model.to(device)
        except (AssertionError, RuntimeError) as error:
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise ZaoziError(
                f"device '{device}' cannot be used ({reason}); use cpu, or cuda if there is a GPU"
            ) from None
        encoder = load_encoder(text.encoder, text.max_tokens, base=folder, allow_download=allow_download)
        if encoder.width != (wanted := model.config.text.width):
            raise ZaoziError(f"{name} reads text states of {wanted} channels, {encoder.name} gives {encoder.width}")
        given = [find_model(str(stage), allow_download=allow_download) for stage in stages or ()]
        found = stages_in(folder) if stages is None else given

        def larger() -> list[Denoiser]:
            return sorted((load_model(stage).to(device) for stage in found), key=lambda s: s.config.size)

        return cls(model, encoder, larger)

    def encode(self, prompts: Sequence[str], properties: Mapping[str, str | float] | None = None) -> Cond:
        """Encode prompts as a condition, one row per prompt, with shared properties. An empty prompt means no text.

        If the encoder reads only English, Chinese characters are replaced by their definitions (see `in_english`).
        """
        cond = self.encoder.encode([", ".join(in_english(self.encoder, p).values()) or p for p in prompts])
        here = None if self.device is None else "cpu"
        cond = cond.without_text(on(np.array([not prompt.strip() for prompt in prompts]), here))
        given = property_values(self.model.config.properties, properties or {}, len(prompts), here)
        return Cond(cond.tokens, cond.mask, cond.pooled, given)

    def conditions(
        self, prompts: Sequence[Prompt], properties: Mapping[str, str | float] | None = None
    ) -> list[tuple[Cond, Weight]]:
        """Return one condition, or for composed prompts as many as the longest has parts, each with per-row weights.

        Properties are attached to a plain prompt; for composed prompts they are a separate direction with weight 1.
        """
        rows = [self._parts(prompt, bool(properties)) for prompt in prompts]
        made: list[tuple[Cond, Weight]] = []
        for k in range(max(map(len, rows))):
            column = [row[k] if k < len(row) else ("", 0.0, False) for row in rows]
            cond = self.encode([text for text, _, _ in column], properties)
            here = None if self.device is None else "cpu"
            shown = on(np.array([with_properties for _, _, with_properties in column]), here)
            kept = {name: library(v).where(shown, v, nan if is_real(v) else 0) for name, v in cond.properties.items()}
            weights = np.array([weight for _, weight, _ in column], np.float32)
            plain = bool((weights == 1).all())
            made.append((Cond(cond.tokens, cond.mask, cond.pooled, kept), 1.0 if plain else on(weights, here)))
        return made

    @staticmethod
    def _parts(prompt: Prompt, properties: bool) -> list[tuple[str, float, bool]]:
        """Split a prompt into parts (text, weight, whether the properties are attached)."""
        if isinstance(prompt, str):
            return [(prompt, 1.0, properties)]
        parts = [(text, float(weight), False) for text, weight in prompt.items()]
        return [*parts, ("", 1.0, True)] if properties else parts

    def pictures(
        self,
        prompts: Sequence[Prompt],
        how: Sampling | None = None,
        *,
        count: int = 1,
        properties: Mapping[str, str | float] | None = None,
        negative: str = "",
        edit: Edit = Edit(),
        weak: Denoiser | None = None,
        on_step: Watch | None = None,
    ) -> Iterator[tuple[int, int, Image.Image]]:
        """Yield (p, i, picture) for picture i of prompt p, in order, in batches of `how.batch_size` across prompts.

        Picture i of a prompt depends only on (seed, i, prompt), not on the batch size. `negative` is a negative prompt.
        By default, `how` is `usual`.
        A sequence in `edit.toward_seed` has one share per prompt; `edit.start` may have one row per picture.
        Raises `ZaoziError` if a prompt is empty or a value is out of range.
        """
        how = self.usual if how is None else how
        check_sampling(how)
        self.check_size(how.size)
        if count < 1:
            raise ZaoziError(f"count {count} is out of range; use 1 or more")
        reads_text = self.model.config.network.reads_text
        distilled = self.model.config.distilled.steps > 0
        if not (reads_text or weak or distilled):  # guidance would call the network twice for the same estimate
            how = replace(how, guidance=replace(how.guidance, scale=0.0))
        check_texts(self.encoder, prompts, bool(properties) or how.guidance.scale == 0 or not reads_text)
        unwanted = None
        if negative.strip():
            check_texts(self.encoder, [negative], False)
            unwanted = self.encode([negative])
        todo = ((p, i) for p in range(len(prompts)) for i in range(count))
        while part := list(islice(todo, how.batch_size)):
            distinct = sorted({p for p, _ in part})
            rows = [distinct.index(p) for p, _ in part]
            wanted = [
                (cond.take(rows), weight if isinstance(weight, (int, float)) else weight[rows])
                for cond, weight in self.conditions([prompts[p] for p in distinct], properties)
            ]
            numbers = [i for _, i in part]
            own = edit
            if edit.start is not None and len(edit.start) > 1:
                own = replace(edit, start=edit.start[numbers])
            if edit.toward_seed and not isinstance(share := edit.toward_seed[1], (int, float)):
                own = replace(own, toward_seed=(edit.toward_seed[0], [share[p] for p, _ in part]))
            x = draw(
                self.model,
                wanted,
                how,
                pictures=numbers,
                edit=own,
                negative=unwanted.take([0] * len(rows)) if unwanted else None,
                weak=weak,
                on_step=on_step,
            )
            x = self.enlarged(x, how, numbers)
            for (p, i), picture in zip(part, to_pictures(x), strict=True):
                yield p, i, picture

    def check_size(self, size: int) -> None:
        """Raises `ZaoziError` if the model with its stages does not draw pictures of that size (0: that of the model)."""
        if size in (0, self.model.config.size):
            return
        sizes = [self.model.config.size, *(stage.config.size for stage in self.stages)]
        if size not in sizes:
            raise ZaoziError(
                f"pictures of {size} pixels need a stage that makes them (here: {', '.join(map(str, sizes))}); add one with "
                "--stage"
            )

    def enlarged(self, x: Tensor, how: Sampling, pictures: Sequence[int]) -> Tensor:
        """Return drawn pictures `[B, C, S, S]` at `how.size`, drawn anew by one stage after the other."""
        if x.shape[-1] >= how.size:
            return x
        for number, stage in enumerate(self.stages, 1):
            if x.shape[-1] < how.size:
                nothing = self.encoder.encode([""] * len(x))
                x = enlarge(stage, x, nothing, how, pictures=pictures, number=number)
        return x

    def __call__(
        self,
        prompt: Prompt = "",
        how: Sampling | None = None,
        *,
        count: int = 1,
        properties: Mapping[str, str | float] | None = None,
        negative: str = "",
        edit: Edit = Edit(),
        on_step: Watch | None = None,
        **short: Unpack[Short],
    ) -> list[Image.Image]:
        """Generate `count` pictures for one prompt. `on_step(t, x_t, x0_hat, eps_hat)` is called at every step of every batch.

        The prompt may be a weighted composition, {"fire": 1, "sickness": 0.7}. Fields of `how` and `edit` can also be passed
        as keyword arguments: `num_steps`, `guidance_scale`, `seed`, `init`, ... (see `Short`), `init` and `mask` as images.
        `weak` is a weaker model to guide away from. Raises `ZaoziError` if a prompt is empty or a value is out of range.
        """
        weak = short.pop("weak", None)
        how, edit = self.options(self.usual if how is None else how, edit, short)
        made = self.pictures(
            [prompt], how, count=count, properties=properties, negative=negative, edit=edit, weak=weak, on_step=on_step
        )
        return [picture for _, _, picture in made]

    def options(self, how: Sampling, edit: Edit, short: Short) -> tuple[Sampling, Edit]:
        """Return `how` and `edit` with the fields in `short` overridden. Raises `ZaoziError` or `TypeError`."""
        given: dict[str, Any] = dict(short)
        if "num_steps" in given:
            given["steps"] = given.pop("num_steps")
        if (scale := given.pop("guidance_scale", None)) is not None and "guidance" not in given:
            given["guidance"] = replace(how.guidance, scale=scale)
        size, channels = self.model.config.size, self.model.config.channels
        if isinstance(init := given.get("init"), Image.Image):
            given["init"] = pixels(init, size, channels)
        if isinstance(mask := given.get("mask"), Image.Image):
            given["mask"] = mask_pixels(mask, size)
        of_edit = {
            name: given.pop(name) for name in ("init", "mask", "strength", "start", "toward_seed") if name in given
        }
        return replace(how, **given), replace(edit, **of_edit)

    def interpolate(self, a: str, b: str, *, frames: int = 9, **short: Unpack[Short]) -> list[Image.Image]:
        """Interpolate from prompt a to prompt b with fixed noise: each frame composes both, with weights 1 - s and s."""
        if frames < 2:
            raise ZaoziError(f"frames {frames} is out of range; use 2 or more")
        way = [halfway(a, b, k / (frames - 1)) for k in range(frames)]
        how, edit = self.options(self.usual, Edit(), short)
        return [picture for _, _, picture in self.pictures(way, how, edit=edit)]

    @without_gradients
    def invert(
        self, picture: Image.Image, prompt: str = "", *, num_steps: int = 50, guidance_scale: float = 1.0
    ) -> Tensor:
        """Return the noise x_T `[1, C, s, s]` from which `ddim` reproduces this picture for this prompt, with the same
        number of steps on the uniform grid. Pass it as `start`, with guidance=Guidance(guidance_scale, threshold="none");
        use scale 0 without a prompt. Raises `ZaoziError` if the inversion does not converge.

        As usual, the noiseless picture is placed at the last level before the clean end. Reconstruction is exact up to
        that level; the final step is the model's own.
        """
        if self.device is None:
            raise ZaoziError("ONNX Runtime does not invert pictures; use engine='torch'")
        from zaozi.diffusion.inversion import invert

        config, schedule = self.model.config, self.model.schedule
        check_texts(self.encoder, [prompt], True)
        x0 = self.model.space.encode(on(pixels(picture, config.size, config.channels), self.device))
        path = levels(schedule, num_steps)[:-1]
        if len(path) < 2:
            raise ZaoziError(f"{num_steps} steps are too few to invert; use 10 or more")
        denoise = guided(
            self.model, [(self.encode([prompt]).to(self.device), 1.0)], Guidance(guidance_scale, threshold="none")
        )
        return invert(denoise, float(path[-1].alpha) * x0, path)

    @property
    def device(self) -> torch.device | None:
        """The device of the model's parameters; None if ONNX Runtime draws."""
        return self.model.device
