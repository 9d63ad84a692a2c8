"""Figures on text conditioning: words as vectors, and where in the picture each word acts."""

from __future__ import annotations

import math

import torch

from zaozi.core.sampling import Guidance, Sampling
from zaozi.guide.figures import figures
from zaozi.guide.figures.paper import ACCENT, ON_PICTURE, Figure, as_url, canvas, numbers, show
from zaozi.guide.figures.source import Source
from zaozi.nn.attention import CrossAttention
from zaozi.pipeline import draw


@figures.register("12-words-as-vectors")
def words_as_vectors(source: Source) -> Figure:
    """Tokens of a definition, their vectors, and how context changes a word's vector."""
    encoder = source.artist.encoder
    definition = "the element lithium"
    phrases = ["the element lithium", "the element gold", "an element of surprise", "element"]
    tokens = encoder.tokens(definition)
    states = encoder.encode([definition]).tokens[0]  # (n, d)
    vectors = []
    for phrase in phrases:
        place = next(i for i, token in enumerate(encoder.tokens(phrase)) if token.endswith("element"))
        vectors.append(encoder.encode([phrase]).tokens[0, place])
    unit = torch.nn.functional.normalize(torch.stack(vectors), dim=-1)
    cosines = unit @ unit.T
    plot, axes = canvas(1, 2, width=10.4, height=3.2, gridspec_kw={"width_ratios": [2.2, 1]})
    axes[0, 0].imshow(states[:, :128], aspect="auto", cmap="RdBu_r", vmin=-1.5, vmax=1.5, interpolation="none")
    axes[0, 0].set_yticks(range(len(tokens)), tokens)
    axes[0, 0].set_xlabel(f"first 128 of {states.shape[1]} dimensions of each token")
    axes[0, 0].set_title(f"'{definition}' as an array of {tuple(states.shape)}")
    axes[0, 1].imshow(cosines, cmap="Greys", vmin=0, vmax=1, interpolation="none")
    for i in range(len(phrases)):
        for j in range(len(phrases)):
            value = float(cosines[i, j])
            axes[0, 1].text(j, i, f"{value:.2f}", ha="center", va="center", color=ON_PICTURE[0 if value > 0.6 else 1])
    axes[0, 1].set_xticks([])
    axes[0, 1].set_yticks(range(len(phrases)), phrases)
    axes[0, 1].set_title("cosine similarity of 'element'")
    return Figure(
        "Words as vectors",
        f"A frozen language model converts {len(tokens)} tokens into {len(tokens)} vectors, and the context changes each: "
        f"'element' next to 'lithium' is closer to 'element' next to 'gold' (cosine {cosines[0, 1]:.2f}) than to 'element' in "
        f"'an element of surprise' ({cosines[0, 2]:.2f}).",
        plot,
        {
            "definition": definition,
            "tokens": tokens,
            "states": numbers(states[:, :128], 3),
            "shape": list(states.shape),
            "phrases": phrases,
            "cosines": numbers(cosines, 3),
        },
    )


@torch.inference_mode()
@figures.register("13-attention")
def attention(source: Source) -> Figure:
    """Which word each part of the picture attends to, over the sampling steps."""
    prompt, steps, at = "a small song bird", 20, (0, 4, 8, 12, 16)
    artist = source.artist
    tokens = artist.encoder.tokens(prompt)
    layers = [m for m in artist.model.network.modules() if isinstance(m, CrossAttention)]
    title = "Cross-attention to each word"
    if not layers:
        plot, axes = canvas(1, 1, width=6, height=1)
        axes[0, 0].axis("off")
        axes[0, 0].text(0.5, 0.5, "no cross-attention", ha="center", va="center")
        says = "This network has no cross-attention: it receives the text as one pooled vector, the same for all positions."
        return Figure(title, says, plot, {"prompt": prompt, "tokens": tokens, "steps": []})
    maps: list[torch.Tensor] = []
    pictures: list[torch.Tensor] = []

    def watch(t: float, x: torch.Tensor, x0: torch.Tensor, eps: torch.Tensor) -> None:
        # (H, N, 1 + L) of the conditional row, over the layers with the highest resolution; the null token comes first
        kept = [layer.weights[0].mean(0)[:, 1:] for layer in layers if layer.weights is not None]
        most = max(len(weights) for weights in kept)
        maps.append(torch.stack([w for w in kept if len(w) == most]).mean(0)[:, : len(tokens)])
        pictures.append(x0[0].clone())

    for layer in layers:
        layer.keep_weights = True
    try:
        draw(
            artist.model, artist.encode([prompt]), Sampling(steps, guidance=Guidance(1.0)), pictures=[0], on_step=watch
        )
    finally:
        for layer in layers:
            layer.keep_weights, layer.weights = False, None
    side = math.isqrt(len(maps[0]))
    plot, axes = canvas(len(at), len(tokens) + 1, height=1.5 * len(at), width=1.5 * (len(tokens) + 1))
    high = max(float(maps[k].max()) for k in at)
    for row, k in enumerate(at):
        show(axes[row, 0], pictures[k], "prediction" if row == 0 else "")
        axes[row, 0].set_ylabel(f"step {k + 1}")
        for column, token in enumerate(tokens, start=1):
            heard = maps[k][:, column - 1].reshape(side, side)
            show(axes[row, column], -heard, token if row == 0 else "", low=-high, high=0.0)
    return Figure(
        title,
        "Dark areas attend to the word above. Attention is averaged over the heads and over the blocks that attend to text. "
        "The remaining attention goes to a null token, which is not shown.",
        plot,
        {
            "prompt": prompt,
            "tokens": tokens,
            "side": side,
            "steps": [
                {"step": k + 1, "guess": as_url(pictures[k]), "attention": numbers(maps[k].T, 3)} for k in range(steps)
            ],
            "accent": ACCENT,
        },
    )
