"""`zaozi COMMAND ...`: finds the command, and turns every mistake into one line that names the mend."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from zaozi.core.errors import ZaoziError, unknown
from zaozi.core.heap import keep_freed_memory
from zaozi.core.machine import limit_threads, using_environment

COMMANDS = {
    "generate": ("zaozi.cli.generate", "generate", "draw pictures for prompts"),
    "invert": ("zaozi.cli.invert", "invert", "find the noise behind a picture, and draw from it again"),
    "font": ("zaozi.cli.font", "font", "draw characters and make a font of them"),
    "train": ("zaozi.cli.train", "train", "train a recipe, or go on with it"),
    "data build": ("zaozi.cli.data", "build", "build the glyphs, or a dataset from a folder of your own"),
    "data show": ("zaozi.cli.data", "show", "draw a contact sheet of a dataset"),
    "evaluate": ("zaozi.cli.evaluate", "evaluate", "measure a model: what its pictures say, and whether they are new"),
    "evaluate sweep": ("zaozi.cli.evaluate", "sweep", "what guidance, steps and samplers trade"),
    "evaluate control": ("zaozi.cli.evaluate", "control", "whether glyphs obey properties and composed prompts"),
    "evaluate train-reference": ("zaozi.cli.evaluate", "train_reference", "train the network that names radicals"),
    "evaluate train-clip": ("zaozi.cli.evaluate", "train_clip", "train the towers that match glyphs with captions"),
    "evaluate publish": ("zaozi.cli.evaluate", "publish", "put a report's table into a card and a README"),
    "compare": ("zaozi.cli.evaluate", "compare", "samplers side by side: adherence and distance against calls"),
    "speedrun": ("zaozi.cli.evaluate", "speedrun", "from nothing to prompt-true glyphs, by the clock"),
    "export": ("zaozi.cli.guide", "export", "write a model as ONNX files, for other engines and the browser"),
    "guide figures": ("zaozi.cli.guide", "figures", "draw the visual guide's figures and the data behind them"),
    "guide build": (
        "zaozi.cli.guide",
        "build",
        "write the visual guide as a static site, its model and figures included",
    ),
    "guide serve": ("zaozi.cli.guide", "serve", "open the guide on this machine, with an API that draws"),
    "model info": ("zaozi.cli.model", "info", "what a model is: parts, parameters, GFLOPs a call"),
    "model error": ("zaozi.cli.model", "error", "a model's x0 error on held-out pairs at twenty levels"),
    "model release": ("zaozi.cli.model", "release", "a training run's model alone, in half precision, to share"),
}


def usage() -> str:
    """The list of commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, (_, _, about) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: zaozi COMMAND ...   (zaozi COMMAND --help tells more)",
            "",
            *lines,
            "",
            "  --version  print the version",
        ]
    )


def parse(function: Callable[..., Any], args: Sequence[str], name: str, **options: Any) -> Any:
    """Call (or build) `function` from the command line with tyro; its boxed errors become one line."""
    import tyro

    @functools.wraps(function)
    def later(*values: Any, **named: Any) -> Callable[[], Any]:
        return lambda: function(*values, **named)

    is_class = isinstance(function, type)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            made = tyro.cli(function if is_class else later, args=list(args), prog=f"zaozi {name}", **options)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ZaoziError(one_line(shown.getvalue(), name)) from None
    return made if is_class else made()


def one_line(boxed: str, name: str) -> str:
    """A parser's boxed message as one line: what was wrong, and the nearest right thing where it knows one.

    >>> one_line("╭─ Value error ─╮\\n│ bad --count x │\\n│ ───── │\\n│ For full helptext, see zaozi -h │\\n╰───╯", "x")
    'bad --count x; see: zaozi x --help'
    """
    lines = [line.strip("│ ").strip() for line in boxed.splitlines() if line.startswith("│")]
    lines = [line for line in lines if line and not set(line) <= {"─"} and "full helptext" not in line]
    text = re.sub(r"\s+", " ", " ".join(lines)) or " ".join(boxed.split())
    return f"{text}; see: zaozi {name} --help"


def run(args: Sequence[str]) -> None:
    """Run one command. Raises `ZaoziError`."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if args[0] == "--version":
        from zaozi import __version__

        print(__version__)
        return
    for words in (2, 1):
        name = " ".join(args[:words])
        if name in COMMANDS:
            module, function, _ = COMMANDS[name]
            parse_and_call = importlib.import_module(module).__dict__[function]
            parse_and_call(list(args[words:]))
            return
    if any(name.startswith(args[0] + " ") for name in COMMANDS):
        known = [name for name in COMMANDS if name.startswith(args[0] + " ")]
        if len(args) == 1 or args[1] in ("-h", "--help"):
            print("\n".join(f"  {name}  {COMMANDS[name][2]}" for name in known))
            return
        raise unknown("command", " ".join(args[:2]), known)
    raise unknown("command", args[0], COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point: 0 when well, 2 for a mistake (one line on stderr), 130 when stopped."""

    def warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, UserWarning) and not issubclass(category, DeprecationWarning):
            print(f"zaozi: warning: {message}".splitlines()[0], file=sys.stderr)

    if argv is None:  # the process is ours
        keep_freed_memory()
        limit_threads()
    try:
        with (
            warnings.catch_warnings(),
            using_environment({"TOKENIZERS_PARALLELISM": os.environ.get("TOKENIZERS_PARALLELISM", "false")}),
        ):
            warnings.showwarning = warn
            warnings.filterwarnings("ignore", module=r"torch(\.|$)")
            run(sys.argv[1:] if argv is None else argv)
    except ZaoziError as error:
        print(f"zaozi: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("zaozi: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except ModuleNotFoundError as error:
        print(f"zaozi: the package '{error.name}' is missing; run: pip install 'zaozi[guide]'", file=sys.stderr)
        return 2
    except Exception as error:
        if os.environ.get("ZAOZI_DEBUG"):
            raise
        print(f"zaozi: {_in_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _in_one_line(error: Exception) -> str:
    """An error that no part of ours named, with what to try."""
    what = " ".join(str(error).split())[:200]
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        return f"cannot use{where}: {error.strerror or what}; check the path, its rights and the disk's space"
    if isinstance(error, (MemoryError, torch_out_of_memory())):
        return "out of memory; use a smaller batch (--batch-size, or train.batch_size with train.accumulate)"
    return f"{type(error).__name__}: {what}; set ZAOZI_DEBUG=1 to see where, and please report it"


def torch_out_of_memory() -> type[Exception]:
    """What PyTorch raises when a GPU is full, without importing PyTorch for it."""
    torch = sys.modules.get("torch")
    return torch.OutOfMemoryError if torch else MemoryError
