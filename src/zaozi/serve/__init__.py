"""Server of the visual guide: the built page, and an API that generates glyphs with PyTorch.

`make_app` creates the ASGI application (`app`). Every request first passes `guard`; `files` serves the files of the page;
`desk` generates, one request at a time; `background` creates what is not ready when the server starts; `connections`
implements deadlines and limits for connections, and shutdown.
"""

from zaozi.serve.app import make_app
from zaozi.serve.ask import MAX_PROMPT, MAX_STEPS, Ask, Limits
from zaozi.serve.background import Later, Redraw
from zaozi.serve.connections import Deadlines, Server, access, bind, serve
from zaozi.serve.guard import MAX_BODY, Access, Guard

__all__ = [
    "MAX_BODY",
    "MAX_PROMPT",
    "MAX_STEPS",
    "Access",
    "Ask",
    "Deadlines",
    "Guard",
    "Later",
    "Limits",
    "Redraw",
    "Server",
    "access",
    "bind",
    "make_app",
    "serve",
]
