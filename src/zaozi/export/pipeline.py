"""Text-to-image pipeline for diffusers: draws with a model that was trained with zaozi, without zaozi.

    from diffusers import DiffusionPipeline
    pipe = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
    pipe("gold", generator=0).images[0].save("gold.png")

The scheduler can be replaced by another one of diffusers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zaozi.core.noise import standard_normal
from zaozi.model.stage import enlarged
from zaozi.text.encoders import pool

T = 1000
"""Noise on the straight path, as a timestep of diffusers."""
DRAWS = 2**32
"""Draws of noise that are reserved for each super-resolution stage."""


class ZaoziPipeline(DiffusionPipeline):
    """Text-to-image pipeline with classifier-free guidance (arXiv:2207.12598)."""

    model_cpu_offload_seq = "text_encoder->denoiser"

    def __init__(self, denoiser: Any, scheduler: Any, text_encoder: Any, tokenizer: Any) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_inference_steps: int = 0,
        guidance_scale: float | None = None,
        negative_prompt: str = "",
        num_images_per_prompt: int = 1,
        properties: Mapping[str, str | float] | None = None,
        size: int = 0,
        generator: int | torch.Generator = 0,
    ) -> ImagePipelineOutput:
        """Draw `num_images_per_prompt` pictures for each prompt.

        Args:
            prompt: What to draw: one text or several.
            num_inference_steps: Number of steps; 0 for the usual number of the model.
            guidance_scale: How strongly the text steers; 1 disables guidance at half the cost. By default as usual for the model.
            negative_prompt: What to stay away from.
            num_images_per_prompt: Number of pictures per prompt.
            properties: Conditions other than text, by column: {"structure": "left-right"}.
            size: Side of the pictures; 0 for the size of the model. Larger ones need super-resolution stages.
            generator: A seed: picture i of a prompt starts from the noise of (seed, i), the same as in zaozi. Or a generator
                of torch.
        """
        model, stages = self.denoiser, self.denoiser.stages
        shape, sizes = model.config.pictures["shape"], [part.config.pictures["size"] for part in (model, *stages)]
        if size and size not in sizes:
            raise ValueError(
                f"pictures of {size} pixels need a stage that makes them (here: {', '.join(map(str, sizes))})"
            )
        texts = [
            text for text in ([prompt] if isinstance(prompt, str) else prompt) for _ in range(num_images_per_prompt)
        ]
        noise = Noise(generator, [i % num_images_per_prompt for i in range(len(texts))], self._execution_device)
        usual = model.config.diffusion
        scale = usual["guidance"] if guidance_scale is None else guidance_scale
        guided = scale != 1
        low = usual["guidance_low"] if scale else 0.0
        cond = self.encode([*texts, *[negative_prompt] * (len(texts) * guided)], properties or {}, len(texts))
        x0 = self.sample(model, noise(0, shape), cond, num_inference_steps or usual["steps"], scale, low)
        made = model.decode(x0)
        for number, stage in enumerate(stages, 1):
            if made.shape[-1] < size:
                made = self.enlarge(stage, made, cond, noise, number)
        pixels = ((made.float() + 1) * 127.5).round().permute(0, 2, 3, 1).cpu().numpy() / 255
        return ImagePipelineOutput(images=self.numpy_to_pil(pixels))

    def sample(
        self, model: Any, x: Tensor, cond: Mapping[str, Any], steps: int, scale: float, low: float = 0.0
    ) -> Tensor:
        """Step from noise x `[B, C, h, w]` to x0_hat with the scheduler. With twice as many conditions as pictures, the second
        half is what guidance leads away from, base + scale * (wanted - base), while the noise share is at least `low`.
        """
        straight = model.config.diffusion["schedule"] == "linear_path"
        set_steps(self.scheduler, steps, straight)
        for i, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            level = straight_level(self.scheduler.sigmas[i]) if straight else self.tabulated_level(t)
            x = x if i else level[1] * x
            here = cond if level[1] >= (low - 1e-9) * sum(level) else first_rows(cond, len(x))
            rows = len(here["mask"]) // len(x)
            made = model(torch.cat([x] * rows).to(model.dtype), level, **here)
            x0, eps = (v.float() for v in made)
            if rows == 2:
                (x0, base_x0), (eps, base_eps) = x0.chunk(2), eps.chunk(2)
                x0, eps = base_x0 + scale * (x0 - base_x0), base_eps + scale * (eps - base_eps)
            x0, eps = model.limited(x0, eps, x, level)
            kind = getattr(self.scheduler.config, "prediction_type", "flow_prediction")
            x = self.scheduler.step(predicted(x0, eps, level, kind), t, x, return_dict=False)[0].float()
        return x.to(model.dtype)

    def tabulated_level(self, k: Tensor) -> tuple[float, float]:
        """Return (alpha, sigma) at timestep k of a scheduler with betas: (sqrt(alpha_bar), sqrt(1 - alpha_bar))."""
        bar = float(self.scheduler.alphas_cumprod[int(k)])
        return bar**0.5, (1.0 - bar) ** 0.5

    def enlarge(self, stage: Any, pictures: Tensor, cond: Mapping[str, Any], noise: Noise, number: int) -> Tensor:
        """Draw pictures anew at the size of a super-resolution stage, in its own number of steps, without text."""
        how, shape = stage.config.stage, stage.config.pictures["shape"]
        count, first = len(pictures), number * DRAWS
        share, large = how["noise"], enlarged(pictures, how["factor"]).float()
        lower = (1.0 - share) * large + share * noise(first, shape)
        nothing = {name: cond[name][:count] for name in ("tokens", "mask", "pooled")}
        nothing["mask"] = torch.zeros_like(nothing["mask"])
        shares = torch.full((count,), share, device=pictures.device, dtype=stage.dtype)
        nothing["lower"] = (lower.to(stage.dtype), shares)
        return stage.decode(self.sample(stage, noise(first + 1, shape), nothing, how["steps"], 1.0))

    def encode(self, texts: Sequence[str], properties: Mapping[str, str | float], count: int) -> dict[str, Any]:
        """Encode texts as conditions, one row per text; an empty text is none. Properties apply to the first `count` rows."""
        device, kind, known = self._execution_device, self.denoiser.dtype, self.denoiser.conditions.properties
        # each by itself, so that no text's states depend on the texts beside it
        alone = {text: self.states(text) for text in dict.fromkeys(texts)}
        states, mask = (pad_sequence([alone[text][i] for text in texts], batch_first=True) for i in (0, 1))
        given = {}
        for column, value in properties.items():
            if column not in (columns := {p.column: p for p in known}):
                raise ValueError(f"property '{column}' is unknown (known: {', '.join(columns)})")
            given[column] = columns[column].rows(value, count, len(texts)).to(device)
        empty = torch.tensor([not text.strip() for text in texts], device=device)
        pooled = torch.stack([alone[text][2] for text in texts]).to(kind)
        return {"tokens": states.to(kind), "mask": mask & ~empty[:, None], "pooled": pooled, "properties": given}

    def states(self, text: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the token states `[L, D]` of a text, their mask `[L]` and the pooled vector `[D]`."""
        how = self.denoiser.config.text
        padding = "max_length" if how["padded"] else True
        ids = self.tokenizer(
            [text], return_tensors="pt", padding=padding, truncation=True, max_length=how["max_tokens"]
        ).to(self._execution_device)
        mask = ids["attention_mask"].bool() | how["padded"]  # padding is read like text, or not at all
        states = self.text_encoder(input_ids=ids["input_ids"], attention_mask=mask.long()).last_hidden_state
        states = states.float() * mask[..., None]
        return states[0], mask[0], pool(states, mask)[0]


def first_rows(cond: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the first rows of a text condition."""
    rows = {name: cond[name][:count] for name in ("tokens", "mask", "pooled")}
    return {**rows, "properties": {column: values[:count] for column, values in cond["properties"].items()}}


class Noise:
    """Standard normal noise for pictures: `noise(draw, shape)` is `[B, *shape]`, from a seed or from a generator."""

    def __init__(self, source: int | torch.Generator, pictures: Sequence[int], device: Any) -> None:
        self.source, self.pictures, self.device = source, pictures, device

    def __call__(self, draw: int, shape: Sequence[int]) -> Tensor:
        if not isinstance(self.source, int):
            return randn_tensor((len(self.pictures), *shape), generator=self.source, device=self.device)
        count = int(np.prod(shape))
        rows = [standard_normal(self.source, picture, draw, count).reshape(shape) for picture in self.pictures]
        return torch.from_numpy(np.stack(rows)).to(self.device)


def set_steps(scheduler: Any, steps: int, straight: bool) -> None:
    """Set the scheduler's levels: equal steps in time, from noise to clean."""
    options = inspect.signature(scheduler.set_timesteps).parameters
    sigmas = np.linspace(1.0, 0.0, steps + 1)
    if straight and "sigmas" in options:
        scheduler.set_timesteps(sigmas=sigmas[:-1])
    elif straight:
        scheduler.set_timesteps(steps)  # begins a little below pure noise
        scheduler.sigmas = torch.from_numpy(sigmas).float()
        scheduler.timesteps = torch.from_numpy(sigmas[:-1] * T).float()
    elif "timesteps" in options and not (count := scheduler.config.num_train_timesteps) % steps:
        scheduler.set_timesteps(timesteps=[count - count * k // steps - 1 for k in range(steps)])
    else:
        scheduler.set_timesteps(steps)


def straight_level(sigma: Tensor) -> tuple[float, float]:
    """Return (alpha, sigma) of the straight path: alpha + sigma = 1 (arXiv:2209.03003)."""
    return 1.0 - float(sigma), float(sigma)


def predicted(x0: Tensor, eps: Tensor, level: tuple[float, float], kind: str) -> Tensor:
    """Return an estimate as a scheduler expects it, by its prediction type."""
    if kind in ("sample", "epsilon"):
        return x0 if kind == "sample" else eps
    alpha, sigma = level
    return alpha * eps - sigma * x0 if kind == "v_prediction" else eps - x0
