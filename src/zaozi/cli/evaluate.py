"""`zaozi evaluate MODEL`, and the commands that train its judges, sweep its settings and publish its table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zaozi.cli.asked import check_guide
from zaozi.cli.main import parse
from zaozi.core.config import Guidance

if TYPE_CHECKING:
    from zaozi.evaluate.drawing import Studio
    from zaozi.evaluate.measure import Judge

Model = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
PLAIN = Guidance()
Dir = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


def evaluate(args: list[str]) -> None:
    parse(_evaluate, args, "evaluate")


def train_reference(args: list[str]) -> None:
    parse(_train_reference, args, "evaluate train-reference")


def train_clip(args: list[str]) -> None:
    parse(_train_clip, args, "evaluate train-clip")


def sweep(args: list[str]) -> None:
    parse(_sweep, args, "evaluate sweep")


def publish(args: list[str]) -> None:
    parse(_publish, args, "evaluate publish")


def _evaluate(
    model: Model = "base",
    /,
    data: Dir = None,
    samples: int = 192,
    steps: int = 20,
    guidance: float = 5.0,
    guide: Guidance = PLAIN,
    sampler: str = "dpmpp-2m",
    seed: int = 0,
    batch_size: int = 32,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    reference: Dir = None,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/evaluation"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Measure a model: what its glyphs say, how far they are from real ones, whether they are new and crisp.

    Draws 2.7 glyphs a sample: the project's list, held-out captions, training captions. Prints a table and writes
    DIR/report.json and DIR/report.html. Uses all GPUs; torchrun -m zaozi evaluate ... spreads it over processes.

    Args:
        model: A shipped name, or the folder of a model or training run.
        data: The glyph dataset; built when it is not there.
        samples: Glyphs drawn for held-out captions, and for the list; 192 makes 512 in all, publish with 2000.
        steps: Steps of the sampler.
        guidance: Guidance scale.
        guide: More about guidance; its scale is --guidance.
        sampler: As for zaozi generate.
        seed: Of the noise.
        batch_size: Glyphs drawn at a time on each device.
        precision: In which the network is called; auto takes the faster.
        reference: A folder with judges of your own (evaluate train-reference, train-clip).
        out: The output folder.
        overwrite: Replace files of these names that zaozi did not write; without it they are refused.
    """
    from zaozi.core.files import as_json, sha256
    from zaozi.core.outputs import Output
    from zaozi.evaluate.drawing import How, Studio
    from zaozi.evaluate.page import PICTURES, page, put_pictures, sheets
    from zaozi.evaluate.report import as_text, check_samples, evaluate
    from zaozi.model.checkpoint import WEIGHTS, find_model

    check_guide(guide)
    how = How(steps, guidance, sampler, seed, batch_size, precision, guide)
    check_samples(samples)
    output = Output(out, "evaluation", ("report.json", "report.html", *PICTURES), whole=False, overwrite=overwrite)
    output.check()
    where = find_model(model)
    weights = sha256(where / WEIGHTS)
    studio = Studio(where)
    judge = _judge(studio, data, reference)
    found = evaluate(studio, judge, weights, how, samples, print if studio.main else (lambda _: None))
    if found is None:
        return
    report, sets = found
    pictures = sheets(judge, sets)
    with output.open() as writer:
        writer.put("report.json", as_json(report))
        writer.put("report.html", page(report, pictures))
        put_pictures(writer, pictures)
    print(as_text(report))
    print(f"\n{report['seconds']['all']:.0f} s: {out / 'report.html'}, {out / 'report.json'}")


def _judge(studio: Studio, data: Path | None, reference: Path | None) -> Judge:
    """The judges, over the dataset that was named or the glyphs at the model's size. Raises `ZaoziError`."""
    from zaozi.core.config import DataConfig
    from zaozi.core.errors import ZaoziError
    from zaozi.data.pairs import find_dataset
    from zaozi.data.shards import read_manifest
    from zaozi.evaluate.measure import Judge

    size = studio.artists[0].model.config.size
    with studio.first_alone():
        folder = find_dataset(DataConfig(path=str(data) if data else "", size=size))
        if (other := read_manifest(folder)["size"]) != size:
            raise ZaoziError(
                f"{folder} has pictures of {other} pixels, the model draws {size}; build it with --size {size}"
            )
        return Judge(folder, reference)


def _train_reference(
    data: Dir = None,
    epochs: int = 12,
    seed: int = 0,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/reference"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Train the reference network: it names radical, structure and parts, and never sees a test glyph.

    Args:
        data: The glyph dataset; built when it is not there.
        epochs: Passes over the glyphs, some 25 s each on two cores.
        seed: Of weights, order and augmentation.
        out: The output folder.
        overwrite: Replace files of these names that zaozi did not write; without it they are refused.
    """
    from zaozi.core.config import DataConfig
    from zaozi.core.noise import check_seed
    from zaozi.data.pairs import find_dataset, load_pairs
    from zaozi.evaluate.fit import train_reference
    from zaozi.evaluate.reference import reference_output, save_reference

    check_seed(seed)
    output = reference_output(out, overwrite=overwrite)
    output.check()
    folder = find_dataset(DataConfig(path=str(data) if data else ""))
    network = train_reference(load_pairs(folder, "train"), load_pairs(folder, "test"), epochs=epochs, seed=seed)
    save_reference(output, network)
    print(f"{out}: next, zaozi evaluate train-clip --reference {out}")


def _train_clip(
    data: Dir = None,
    epochs: int = 60,
    seed: int = 0,
    reference: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/reference"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Train the two towers that match glyphs with captions, on a reference network's features; kept in its folder.

    Args:
        data: The glyph dataset; built when it is not there.
        epochs: Passes over the pairs, a second each.
        seed: Of weights and order.
        reference: The reference network's folder.
        overwrite: Replace files of these names that zaozi did not write; without it they are refused.
    """
    import torch

    from zaozi.core.config import DataConfig
    from zaozi.core.noise import check_seed
    from zaozi.data.pairs import find_dataset, load_pairs
    from zaozi.evaluate.fit import train_towers
    from zaozi.evaluate.measure import TEXT_TOKENS
    from zaozi.evaluate.reference import load_reference, look
    from zaozi.evaluate.towers import save_towers, towers_output
    from zaozi.text.encoders import load_encoder

    check_seed(seed)
    output = towers_output(reference, overwrite=overwrite)
    output.check()
    folder = find_dataset(DataConfig(path=str(data) if data else ""))
    network = load_reference(reference)
    pairs = load_pairs(folder, "train"), load_pairs(folder, "validation")
    features = [torch.from_numpy(look(network, p.pictures).features).float() for p in pairs]
    encoder = load_encoder("minilm", TEXT_TOKENS)
    towers = train_towers((features[0], features[1]), pairs, encoder, epochs=epochs, seed=seed)
    save_towers(output, towers)


def _sweep(
    model: Model = "base",
    /,
    data: Dir = None,
    samples: int = 192,
    guidance: str = "0,1,2,3,5,7,10,15",
    steps: str = "1,2,5,10,20,50,120",
    samplers: str = "dpmpp-2m,ddim,ddpm",
    reference: Dir = None,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/sweep"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Adherence, distance, diversity and copies against guidance, steps and sampler: a picture, a table, and the figures.

    Args:
        model: A shipped name, or the folder of a model or training run.
        data: The glyph dataset; built when it is not there.
        samples: Glyphs a setting.
        guidance: Scales with commas between, at 20 steps of the first sampler.
        steps: Numbers of steps with commas between, of each sampler, at guidance 5.
        samplers: Their names with commas between, or all.
        reference: A folder with judges of your own.
        out: The output folder.
        overwrite: Replace files of these names that zaozi did not write; without it they are refused.
    """
    from zaozi.core.outputs import Output
    from zaozi.evaluate.drawing import Studio
    from zaozi.evaluate.sweep import sweep
    from zaozi.model.checkpoint import find_model

    output = Output(out, "sweep", ("sweep.json", "sweep.md", "sweep.png"), whole=False, overwrite=overwrite)
    output.check()
    studio = Studio(find_model(model))
    names = _samplers(samplers)
    scales, counts = _numbers(guidance, "guidance"), _counts(steps)
    sweep(studio, _judge(studio, data, reference), output, samples, scales, counts, names)


def control(args: list[str]) -> None:
    parse(_control, args, "evaluate control")


def _control(
    model: Model = "base",
    /,
    data: Dir = None,
    samples: int = 240,
    guidance: float = 5.0,
    reference: Dir = None,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/control"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Whether glyphs have the properties they were asked for, and both radicals of composed prompts: two tables.

    Args:
        model: A shipped name, or the folder of a model or training run.
        data: The glyph dataset; built when it is not there.
        samples: Glyphs a property and way; and of composed prompts, nearly.
        guidance: Guidance scale.
        reference: A folder with judges of your own.
        out: The output folder.
        overwrite: Replace files of these names that zaozi did not write; without it they are refused.
    """
    from zaozi.core.files import as_json
    from zaozi.core.outputs import Output
    from zaozi.evaluate.control import PAIRS, as_markdown, measure_composed, measure_properties
    from zaozi.evaluate.drawing import How, Studio
    from zaozi.evaluate.report import check_samples, plain
    from zaozi.model.checkpoint import find_model

    check_samples(samples)
    output = Output(out, "control", ("control.json", "control.md"), whole=False, overwrite=overwrite)
    output.check()
    studio, how = Studio(find_model(model)), How(guidance=guidance)
    judge = _judge(studio, data, reference)
    properties = measure_properties(studio, judge, how, samples, print if studio.main else (lambda _: None))
    composed = measure_composed(studio, judge, how, max(1, samples // len(PAIRS)))
    if properties is None or composed is None:
        return
    text = as_markdown(properties, composed)
    with output.open() as writer:
        writer.put("control.json", as_json(plain({"properties": properties, "composed": composed})))
        writer.put("control.md", text)
    print(f"{text}\n{out / 'control.md'}, {out / 'control.json'}")


def _numbers(text: str, name: str) -> list[float]:
    """'1,2,5' as numbers. Raises `ZaoziError`."""
    from zaozi.core.errors import ZaoziError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ZaoziError(f"--{name} '{text}' is no list of numbers; write for instance --{name} 1,2,5") from None


def _counts(text: str) -> list[int]:
    """'1,2,5' as whole numbers. Raises `ZaoziError`."""
    from zaozi.core.errors import ZaoziError

    found = _numbers(text, "steps")
    if any(n != int(n) for n in found):
        raise ZaoziError(f"--steps '{text}' holds a fraction; use whole numbers")
    return [int(n) for n in found]


def _samplers(text: str) -> list[str]:
    """'ddim,heun' as samplers' names, or 'all' of them. Raises `ZaoziError`."""
    from zaozi.diffusion.samplers import SAMPLERS, sampler

    names = list(SAMPLERS) if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        sampler(name)
    return names


def compare(args: list[str]) -> None:
    parse(_compare, args, "compare")


def _compare(
    model: Model = "base",
    /,
    samplers: str = "all",
    steps: str = "1,2,5,10,20,50,120",
    samples: int = 192,
    guidance: float = 5.0,
    guide: Guidance = PLAIN,
    weak: Annotated[str, tyro.conf.arg(metavar="MODEL")] = "",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    prompt: str = "gold",
    data: Dir = None,
    reference: Dir = None,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/compare"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Samplers side by side: adherence and distance against calls of the network, as a table and a grid of pictures.

    Args:
        model: A shipped name, or the folder of a model or training run.
        samplers: Their names with commas between, or all.
        steps: Numbers of steps with commas between.
        samples: Glyphs a setting.
        guidance: Guidance scale.
        guide: More about guidance; its scale is --guidance.
        weak: A lesser model, an early checkpoint say, to guide away from (autoguidance).
        precision: In which the network is called; auto takes the faster.
        prompt: Of the grid of pictures.
        data: The glyph dataset; built when it is not there.
        reference: A folder with judges of your own.
        out: The output folder.
        overwrite: Replace files of these names that zaozi did not write; without it they are refused.
    """
    from zaozi.core.outputs import Output
    from zaozi.evaluate.compare import compare
    from zaozi.evaluate.drawing import How, Studio
    from zaozi.model.checkpoint import find_model

    check_guide(guide)
    names, counts = _samplers(samplers), _counts(steps)
    how = How(guidance=guidance, guide=guide, precision=precision)
    output = Output(out, "compare", ("compare.json", "compare.md", "compare.png"), whole=False, overwrite=overwrite)
    output.check()
    studio = Studio(find_model(model), find_model(weak) if weak else None)
    compare(studio, _judge(studio, data, reference), output, names, counts, samples, how, prompt)


def _publish(
    report: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="REPORT")],
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")],
    /,
    readme: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Put a report's table into a released model's card, and into a README between its two quality marks.

    Args:
        report: report.json of an evaluation of exactly these weights.
        model: The released model's folder.
        readme: A file with the lines <!-- quality --> and <!-- /quality -->.
        overwrite: Replace a report and picture that zaozi did not write; without it they are refused.
    """
    from zaozi.evaluate.publish import publish

    publish(report, model, readme, overwrite=overwrite)


def speedrun(args: list[str]) -> None:
    parse(_speedrun, args, "speedrun")


def _speedrun(
    recipe: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RECIPE")] = Path("speedrun"),
    /,
    minutes: float = 20.0,
    rounds: int = 4,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/speedrun"),
) -> None:
    """From nothing to glyphs with the asked-for radicals, by the clock: data, captions, training, then the list is read.

    The goal is an adherence of 0.70 at guidance 5 with 20 guided calls. Prints a line for the table of records.

    Args:
        recipe: A TOML file, or the name of a packaged recipe.
        minutes: All that it may take, the preparations included; reading the list comes after.
        rounds: Glyphs a prompt of the list.
        out: A new folder for everything it makes.
    """
    start = time.monotonic()  # before anything heavy is imported
    from zaozi.cli.train import read_recipe
    from zaozi.evaluate.speedrun import speedrun

    speedrun(read_recipe(recipe), out, minutes, rounds, start=start)
