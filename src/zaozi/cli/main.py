"""`zaozi COMMAND ...`: run a command, and report every error in one line that says how to fix it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import importlib
import io
import os
import re
import signal
import sys
import typing
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from zaozi.core.errors import ZaoziError, printable, unknown
from zaozi.core.heap import keep_freed_memory
from zaozi.core.machine import limit_threads, using_environment

COMMANDS = {
    "generate": ("zaozi.cli.generate", "generate", "draw pictures for prompts"),
    "invert": ("zaozi.cli.invert", "invert", "find the noise behind a picture, and draw from it again"),
    "likelihood": ("zaozi.cli.likelihood", "likelihood", "how likely a model finds pictures, in bits per dimension"),
    "font": ("zaozi.cli.font", "font", "draw characters and make a font of them"),
    "train": ("zaozi.cli.train", "train", "train a recipe, or go on with it"),
    "distill": ("zaozi.cli.distill", "distill", "make a model draw in eight steps or fewer, without guidance"),
    "space fit": ("zaozi.cli.space", "fit", "fit the space of a recipe alone, and show what it keeps of the pictures"),
    "data build": ("zaozi.cli.data", "build", "build the glyphs, or a dataset from a folder of your own"),
    "data show": ("zaozi.cli.data", "show", "draw a contact sheet of a dataset"),
    "evaluate": ("zaozi.cli.evaluate", "evaluate", "measure a model: what its pictures say, and whether they are new"),
    "evaluate sweep": ("zaozi.cli.compare", "sweep", "what guidance, steps and samplers trade"),
    "evaluate control": ("zaozi.cli.evaluate", "control", "whether glyphs obey properties and composed prompts"),
    "evaluate train-reference": ("zaozi.cli.judges", "train_reference", "train the network that names radicals"),
    "evaluate train-clip": ("zaozi.cli.judges", "train_clip", "train the towers that match glyphs with captions"),
    "evaluate publish": ("zaozi.cli.evaluate", "publish", "put a report's table into a card and a README"),
    "compare": ("zaozi.cli.compare", "compare", "samplers side by side: adherence and distance against calls"),
    "speedrun": ("zaozi.cli.speedrun", "speedrun", "from nothing to prompt-true glyphs, by the clock"),
    "import": ("zaozi.cli.exchange", "import_model", "make a model of a pipeline of the package diffusers"),
    "export": ("zaozi.cli.guide", "export", "write a model as ONNX files, or as a pipeline of diffusers"),
    "guide figures": ("zaozi.cli.guide", "figures", "draw the visual guide's figures and the data behind them"),
    "guide build": (
        "zaozi.cli.guide",
        "build",
        "write the visual guide as a static site, its model and figures included",
    ),
    "guide before": ("zaozi.cli.guide", "before", "train a VAE or a GAN on the glyphs, for comparison"),
    "guide serve": ("zaozi.cli.guide", "serve", "open the guide on this machine, with an API that draws"),
    "cache list": ("zaozi.cli.cache", "show", "what is cached, and how much of it"),
    "cache verify": ("zaozi.cli.cache", "verify", "compare every cached file with its SHA-256"),
    "cache prune": ("zaozi.cli.cache", "prune", "remove damaged parts of the cache, or all of it"),
    "model info": ("zaozi.cli.model", "info", "what a model is: parts, parameters, GFLOPs a call"),
    "model error": ("zaozi.cli.model", "error", "a model's x0 error on held-out pairs at twenty levels"),
    "model assemble": ("zaozi.cli.model", "assemble", "a model with another decoder, or with super-resolution stages"),
    "model release": ("zaozi.cli.model", "release", "a training run's model alone, in half precision, to share"),
    "push": ("zaozi.cli.hub", "push", "put a released model on the Hugging Face hub"),
}

ALLOW_DOWNLOAD = "--allow-download"


FIRST = (
    ('generate "a small song bird" --count 16 --video bird.mp4', "watch characters form"),
    ("guide serve", "see how it works, in your browser"),
    ("train glyphs-1h", "train a model of your own, from nothing"),
)
"""Suggested first commands, with reasons."""


def first_commands(program: str = "zaozi") -> str:
    """Return three commands to try, one per line."""
    lines = [(f"{program} {command}", about) for command, about in FIRST]
    width = max(len(line) for line, _ in lines)
    return "\n".join(["worth trying:", *(f"  {line:<{width}}  {about}" for line, about in lines)])


def usage() -> str:
    """Return the commands to try first, and the list of all commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, (_, _, about) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: zaozi COMMAND ...   (zaozi COMMAND --help says more)",
            "",
            first_commands(),
            "",
            "commands:",
            *lines,
            "",
            f"  {ALLOW_DOWNLOAD}  with any command that loads a model: fetch it, or a text encoder that it names, from the hub",
            "  --version  print the version",
        ]
    )


def parse(function: Callable[..., Any], args: Sequence[str], name: str, default: Any = None) -> Any:
    """Call or build `function` from arguments with tyro, reporting errors in one line; a class starts from `default`."""
    import tyro

    from zaozi.core.sampling import Guidance, Sampling

    if {Sampling, Guidance} & set(typing.get_type_hints(function).values()):  # short and former names
        args = [
            re.sub(r"^--guidance(?=$|=)", "--guidance.scale", re.sub(r"^--guide\.", "--guidance.", a)) for a in args
        ]

    @functools.wraps(function)
    def later(*values: Any, **named: Any) -> Callable[[], Any]:
        return lambda: function(*values, **named)

    is_class = isinstance(function, type)
    start = {} if default is None else {"default": default}
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            made = tyro.cli(function if is_class else later, args=list(args), prog=f"zaozi {name}", **start)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ZaoziError(one_line(shown.getvalue(), name)) from None
    return made if is_class else made()


def call(command: Callable[..., Any], args: list[str], name: str) -> None:
    """Call a command's function with its options parsed.

    A command takes typed options, or one dataclass of options, or (`generate` and `train`, which read a file first) the
    arguments themselves as `list[str]`.
    """
    hints = [hint for key, hint in typing.get_type_hints(command).items() if key != "return"]
    if hints == [list[str]]:
        command(args)
    elif len(hints) == 1 and dataclasses.is_dataclass(hints[0]):
        settings = parse(hints[0], args, name)  # type: ignore[arg-type]
        if hasattr(settings, "sampling"):
            from zaozi.cli.asked import as_distilled

            settings = as_distilled(settings, args)
        command(settings)
    else:
        parse(command, args, name)


def one_line(boxed: str, name: str) -> str:
    """Convert a parser's boxed message to one line: the error, and the closest valid option if known.

    >>> one_line("╭─ Value error ─╮\\n│ bad --count x │\\n│ ───── │\\n│ For full helptext, see zaozi -h │\\n╰───╯", "x")
    'bad --count x; see: zaozi x --help'
    """
    lines = [line.strip("│ ").strip() for line in boxed.splitlines() if line.startswith("│")]
    lines = [line for line in lines if line and not set(line) <= {"─"} and "full helptext" not in line]
    text = re.sub(r"\s+", " ", " ".join(lines)) or " ".join(boxed.split())
    return f"{text}; see: zaozi {name} --help"


def run(args: Sequence[str]) -> None:
    """Run one command. Raises `ZaoziError`."""
    for arg in args:
        try:
            arg.encode()
        except UnicodeEncodeError:
            raise ZaoziError(f"the argument {arg!a} is not UTF-8; write prompts and paths in UTF-8") from None
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
            command, rest = importlib.import_module(module).__dict__[function], list(args[words:])
            if ALLOW_DOWNLOAD in rest:  # command line only; recipes and run.json cannot set it
                from zaozi.text.encoders import downloads_allowed

                with downloads_allowed():
                    call(command, [arg for arg in rest if arg != ALLOW_DOWNLOAD], name)
            else:
                call(command, rest, name)
            return
    if any(name.startswith(args[0] + " ") for name in COMMANDS):
        known = [name for name in COMMANDS if name.startswith(args[0] + " ")]
        if len(args) == 1 or args[1] in ("-h", "--help"):
            print("\n".join(f"  {name}  {COMMANDS[name][2]}" for name in known))
            return
        raise unknown("command", " ".join(args[:2]), known)
    raise unknown("command", args[0], COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the CLI. Returns 0 on success, 2 on an error (one line on stderr), 130 on an interrupt."""

    def warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, UserWarning) and not issubclass(category, DeprecationWarning):
            print(printable(f"zaozi: warning: {message}".splitlines()[0]), file=sys.stderr)

    if argv is None:  # running as the main program
        keep_freed_memory()
        limit_threads()
        signal.signal(signal.SIGTERM, _terminated)
    try:
        with (
            warnings.catch_warnings(),
            using_environment({"TOKENIZERS_PARALLELISM": os.environ.get("TOKENIZERS_PARALLELISM", "false")}),
        ):
            warnings.showwarning = warn
            warnings.filterwarnings("ignore", module=r"torch(\.|$)")
            run(sys.argv[1:] if argv is None else argv)
    except ZaoziError as error:
        print(printable(f"zaozi: {' '.join(str(error).split())}"), file=sys.stderr)
        return 2
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("zaozi: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except ModuleNotFoundError as error:
        from zaozi.cli.extras import missing

        words = sys.argv[1:] if argv is None else argv
        print(f"zaozi: {missing(error.name or str(error), words[0] if words else '')}", file=sys.stderr)
        return 2
    except Exception as error:
        if os.environ.get("ZAOZI_DEBUG"):
            raise
        print(printable(f"zaozi: {_in_one_line(error)}"), file=sys.stderr)
        return 2
    return 0


def _terminated(number: int, _: Any) -> None:
    """Handle a request to stop (`kill`, a service manager): exit as on an error, leaving no partial file or worker behind."""
    signal.signal(number, signal.SIG_IGN)  # ignore further signals
    raise SystemExit(128 + number)


FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than allowed here (ulimit -f, or the file system's limit)",
}
"""OS error numbers for lack of disk space, with messages."""


def _in_one_line(error: BaseException) -> str:
    """Describe an unexpected error, with a fix if the cause is the machine or the user.

    Library errors are matched by class name to avoid importing the libraries here.
    """
    what = " ".join(str(error).split())[:200]
    names = {kind.__name__ for kind in type(error).__mro__}
    number = _system_error(error)
    where = getattr(error, "filename", None)
    if number in FULL:
        return f"{FULL[number]}{f' ({where})' if where else ''}; make room, or write elsewhere with --out"
    if number == errno.ENOMEM or _out_of_memory(error, names):
        return "out of memory; use a smaller batch (--batch-size, or train.batch_size with train.accumulate)"
    if isinstance(error, OSError):
        return f"cannot use{f' {where}' if where else ''}: {error.strerror or what}; check the path and its permissions"
    if "SafetensorError" in names:
        return f"a .safetensors file cannot be read or written ({what}); copy it again, or check the disk"
    if "BrokenExecutor" in names:
        return "a worker process was killed, usually for want of memory; use fewer processes with OMP_NUM_THREADS=1"
    if isinstance(error, UnicodeEncodeError):
        text = ascii(error.object[max(error.start - 20, 0) : error.end + 20])
        if "surrogate" in error.reason:
            return f"{text} is not UTF-8; write prompts, captions and file names in UTF-8"
        return f"{text} cannot be shown or written in {error.encoding}; set PYTHONUTF8=1"
    if isinstance(error, UnicodeDecodeError):
        return f"a text file is not UTF-8 ({what}); convert it to UTF-8"
    return f"{type(error).__name__}: {what}; set ZAOZI_DEBUG=1 to see where, and please report it"


def _system_error(error: BaseException | None) -> int | None:
    """Return the OS error number of an OSError, or the one in the message of a Rust library."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            return int(found[1])
        error = error.__cause__
    return None


def _out_of_memory(error: BaseException, names: set[str]) -> bool:
    """Whether Python, NumPy, Arrow or PyTorch (a plain RuntimeError on CPU, or a GPU error) ran out of memory."""
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names:
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))
