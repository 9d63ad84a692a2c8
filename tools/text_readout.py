"""What a text alone tells about the radical: a small classifier of pooled text vectors, fitted to captions and hints.

python tools/text_readout.py --hints 0.4 --noise 1.0 --hidden 512
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zaozi.core.files import home
from zaozi.core.noise import lent_generator, training_generator
from zaozi.core.recipe import DataConfig
from zaozi.data.pairs import find_dataset, load_pairs
from zaozi.evaluate.prompts import flat
from zaozi.text.cache import cached
from zaozi.text.encoders import load_encoder
from zaozi.train.batches import hints

STEPS, BATCH = 3000, 512


def main(share: float, noise: float, hidden: int, dropout: float, seed: int) -> None:
    """Fit, then name the radicals of held-out captions and of the project's list: accuracy and cross-entropy."""
    folder = find_dataset(DataConfig())
    train, held_out = load_pairs(folder, "train"), load_pairs(folder, "validation")
    told = [(row, hint) for row, some in enumerate(hints(train)) for hint in some]
    encoder = load_encoder("minilm", 32)
    cache = cached(encoder, [*train.texts, *held_out.texts, *(hint for _, hint in told)], home() / "text")
    prompts, wanted = flat()

    def radicals(values: list[object]) -> Tensor:
        return torch.tensor([int(str(v)) for v in values])

    captions, labels = cache.pooled(cache.places(train.texts)), radicals(train.columns["radical"])
    other, other_labels = cache.pooled(cache.places([h for _, h in told])), labels[torch.tensor([r for r, _ in told])]
    scale = float(captions.std())
    with lent_generator(seed, 1):
        net: nn.Module = nn.Linear(encoder.width, 215)
        if hidden:
            head = nn.Linear(hidden, 215)
            net = nn.Sequential(nn.Linear(encoder.width, hidden), nn.GELU(), nn.Dropout(dropout), head)
        optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.01)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, STEPS)
        generator = training_generator(seed, 2)
        for _ in range(STEPS):
            count = int(BATCH * share)
            a = torch.randint(len(captions), (BATCH - count,), generator=generator)
            b = torch.randint(len(other), (count,), generator=generator)
            x = torch.cat([captions[a], other[b]]) / scale
            x = x + noise * torch.randn(x.shape, generator=generator)
            loss = F.cross_entropy(net(x), torch.cat([labels[a], other_labels[b]]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rates.step()
    net.eval()
    asked = [
        ("held-out captions", cache.pooled(cache.places(held_out.texts)), radicals(held_out.columns["radical"])),
        ("the list", encoder.encode(prompts).pooled, torch.tensor(wanted)),
    ]
    with torch.no_grad():
        for name, vectors, right in asked:
            said = net(vectors / scale)
            share_right = float((said.argmax(1) == right).float().mean())
            print(f"{name}: {share_right:.1%} right, cross-entropy {float(F.cross_entropy(said, right)):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hints", type=float, default=0.4, help="share of hints among the texts")
    parser.add_argument("--noise", type=float, default=0.0, help="on the vectors, in their standard deviations")
    parser.add_argument("--hidden", type=int, default=512, help="0 for a linear readout")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.hints, given.noise, given.hidden, given.dropout, given.seed)
