"""The server of the visual guide: the built page, and an API that draws with PyTorch.

`make_app` makes the ASGI application (`app`), whose every request passes `guard` first; `files` sends what the page is made of;
`desk` draws, one request after the other; `background` makes what is not there yet when the server starts; `connections`
holds the deadlines and caps of the connections, and the way to stop.
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
