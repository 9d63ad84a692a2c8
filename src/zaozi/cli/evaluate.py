"""`zaozi evaluate MODEL`, `zaozi evaluate control` and `zaozi evaluate publish`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zaozi.core.errors import ZaoziError
from zaozi.core.sampling import MEASURING, Guidance, Sampling

if TYPE_CHECKING:
    from zaozi.evaluate.drawing import ParallelSampler
    from zaozi.evaluate.measure import Judge

Model = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
Dir = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True)
class Evaluation:
    """Evaluate a model: the meaning of its glyphs, their distance from real ones, novelty and sharpness.

    With --data of your own, which has no glyphs: distance from the held-out pictures, a classifier that tells them apart,
    captions found, and copies; by networks that are trained on these data.

    Draws about 2.7 glyphs per sample: the project's list, held-out captions, training captions. Prints a table and writes
    DIR/report.json and DIR/report.html. Uses all GPUs; use torchrun -m zaozi evaluate ... to run on several processes.
    """

    model: Model = "base"
    """Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the Hugging Face hub."""
    data: Dir = None
    """The glyph dataset; built if missing."""
    samples: int = 192
    """Glyphs for held-out captions, and for the list; 192 gives 512 in total. Use 2000 for publishing."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = MEASURING
    """Sampling; --guidance 5 is short for --guidance.scale 5. The batch size is per device."""
    reference: Dir = None
    """A folder with your own judges (evaluate train-reference, train-clip)."""
    only: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="MEASURE")] = ()
    """Compute only this measure; can be repeated. Those of the same drawings that the output folder's report has are kept."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/evaluation")
    """The output folder."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Overwrite existing files of these names that zaozi did not write; by default this is an error."""


def evaluate(s: Evaluation) -> None:
    """Run an evaluation with the settings. Raises `ZaoziError`."""
    from zaozi.core.files import as_json, sha256
    from zaozi.core.outputs import Output
    from zaozi.evaluate.drawing import ParallelSampler
    from zaozi.evaluate.measures import measures
    from zaozi.evaluate.page import PICTURES, page, put_pictures, sheets
    from zaozi.evaluate.publish import read_report
    from zaozi.evaluate.report import check_samples, completed, evaluate
    from zaozi.evaluate.table import as_text
    from zaozi.model.checkpoint import WEIGHTS, find_model
    from zaozi.pipeline import check_sampling

    check_sampling(s.sampling)
    check_samples(s.samples)
    for name in s.only:
        measures[name]  # raises if unknown
    output = Output(s.out, "evaluation", ("report.json", "report.html", *PICTURES), whole=False, overwrite=s.overwrite)
    output.check()
    where = find_model(s.model)
    weights = sha256(where / WEIGHTS)
    studio = ParallelSampler(where)
    if s.data is not None and not has_glyphs(s.data):
        _evaluate_own(s, studio, weights)
        return
    judge = judges(studio, s.data, s.reference)
    say = print if studio.main else (lambda _: None)
    found = evaluate(studio, judge, weights, s.sampling, s.samples, s.only, say)
    if found is None:
        return
    report, sets = found
    if s.only and (earlier := s.out / "report.json").is_file():
        report = completed(report, read_report(earlier))
    pictures = sheets(judge, sets)
    with output.open() as writer:
        writer.put("report.json", as_json(report))
        writer.put("report.html", page(report, pictures))
        put_pictures(writer, pictures)
    print(as_text(report))
    print(f"\n{report['seconds']['all']:.0f} s: {s.out / 'report.html'}, {s.out / 'report.json'}")


def _evaluate_own(s: Evaluation, studio: ParallelSampler, weights: str) -> None:
    """Evaluate on data without glyphs; writes report.json, report.md and pictures.png."""
    from zaozi.core.files import as_json
    from zaozi.core.outputs import Output
    from zaozi.data.sheet import png
    from zaozi.evaluate.own import OwnJudge, as_markdown, evaluate_own

    assert s.data is not None
    if s.only or s.reference:
        raise ZaoziError("--only and --reference are for glyphs; leave them out with data of your own")
    output = Output(
        s.out, "evaluation", ("report.json", "report.md", "pictures.png"), whole=False, overwrite=s.overwrite
    )
    output.check()
    same_size(studio, s.data)
    with studio.first_alone():
        judge = OwnJudge(s.data)
    found = evaluate_own(studio, judge, s.sampling, s.samples, print if studio.main else (lambda _: None))
    if found is None:
        return
    report, sheet = found
    report["model"]["weights"] = weights
    text = as_markdown(report)
    with output.open() as writer:
        writer.put("report.json", as_json(report))
        writer.put("report.md", text)
        writer.put("pictures.png", png(sheet))
    print(f"{text}\n{s.out / 'pictures.png'}, {s.out / 'report.json'}")


def same_size(studio: ParallelSampler, folder: Path) -> None:
    """Raises `ZaoziError` if the dataset's pictures have another size than the model's."""
    from zaozi.data.shards import read_manifest

    size = studio.artists[0].model.config.size
    if (other := read_manifest(folder)["size"]) != size:
        raise ZaoziError(
            f"{folder} has pictures of {other} pixels, the model draws {size}; build it with --size {size}"
        )


def has_glyphs(folder: Path) -> bool:
    """Whether a dataset was built from glyphs."""
    from zaozi.data.shards import read_manifest

    return str(read_manifest(folder).get("source", "")).startswith("Unihan")


def judges(studio: ParallelSampler, data: Path | None, reference: Path | None) -> Judge:
    """Return the judges for the given dataset, or for the glyphs at the model's size. Raises `ZaoziError`."""
    from zaozi.core.recipe import DataConfig
    from zaozi.data.pairs import find_dataset
    from zaozi.evaluate.measure import Judge

    size = studio.artists[0].model.config.size
    with studio.first_alone():
        folder = find_dataset(DataConfig(path=str(data) if data else "", size=size))
        same_size(studio, folder)
        return Judge(folder, reference)


def control(
    model: Model = "base",
    /,
    data: Dir = None,
    samples: int = 240,
    guidance: float = Guidance.scale,
    reference: Dir = None,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/control"),
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Measure whether glyphs have the requested properties, and both radicals of composed prompts; write two tables.

    Args:
        model: Name of a shipped model, the folder of a model or training run, or user/name[@revision] on the hub.
        data: The glyph dataset; built if missing.
        samples: Glyphs per property and method; about as many for composed prompts.
        guidance: Guidance scale.
        reference: A folder with your own judges.
        out: The output folder.
        overwrite: Overwrite existing files of these names that zaozi did not write; by default this is an error.
    """
    from zaozi.core.files import as_json
    from zaozi.core.outputs import Output
    from zaozi.evaluate.control import PAIRS, as_markdown, measure_composed, measure_properties
    from zaozi.evaluate.drawing import ParallelSampler
    from zaozi.evaluate.report import check_samples, plain
    from zaozi.model.checkpoint import find_model

    check_samples(samples)
    output = Output(out, "control", ("control.json", "control.md"), whole=False, overwrite=overwrite)
    output.check()
    studio, how = ParallelSampler(find_model(model)), replace(MEASURING, guidance=Guidance(guidance))
    judge = judges(studio, data, reference)
    properties = measure_properties(studio, judge, how, samples, print if studio.main else (lambda _: None))
    composed = measure_composed(studio, judge, how, max(1, samples // len(PAIRS)))
    if properties is None or composed is None:
        return
    text = as_markdown(properties, composed)
    with output.open() as writer:
        writer.put("control.json", as_json(plain({"properties": properties, "composed": composed})))
        writer.put("control.md", text)
    print(f"{text}\n{out / 'control.md'}, {out / 'control.json'}")


def publish(
    report: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="REPORT")],
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")],
    /,
    readme: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Add a report's table to a released model's card, and to a README between its two quality markers.

    Args:
        report: report.json from an evaluation of exactly these weights.
        model: Folder of the released model.
        readme: A file with the lines <!-- quality --> and <!-- /quality -->.
        overwrite: Overwrite an existing report and picture that zaozi did not write; by default this is an error.
    """
    from zaozi.evaluate.publish import publish

    publish(report, model, readme, overwrite=overwrite)
