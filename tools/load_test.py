"""Many clients at once against a running `zaozi guide serve`: what it answers, how fast, and how much memory it takes.

python tools/load_test.py http://127.0.0.1:8000 --clients 50 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import time

import httpx


async def client(address: str, number: int, until: float, found: collections.Counter[str], times: list[float]) -> None:
    """Draw again and again: most requests are read to their end, every fifth is left after two steps."""
    chance = random.Random(number)
    async with httpx.AsyncClient(base_url=address, timeout=90) as http:
        while time.monotonic() < until:
            body = {"prompt": chance.choice(["gold", "a small song bird", "fire"]), "sampling": {"seed": number}}
            leave = chance.random() < 0.2
            start, lines = time.monotonic(), 0
            async with http.stream("POST", "/api/generate", json=body) as answer:
                found[str(answer.status_code)] += 1
                if answer.status_code == 429:
                    await answer.aread()
                    wait = float(answer.headers["retry-after"])
                elif answer.status_code == 200:
                    last = ""
                    async for line in answer.aiter_lines():
                        lines, last = lines + 1, line
                        if leave and lines == 2:
                            break
                    if not leave:
                        found["answered" if "picture" in json.loads(last) else "broken off"] += 1
                        times.append(time.monotonic() - start)
                    else:
                        found["left"] += 1
                    wait = 0.0
                else:
                    wait = 1.0
            await asyncio.sleep(min(wait, max(0.0, until - time.monotonic())))


async def run(address: str, clients: int, seconds: float) -> None:
    found: collections.Counter[str] = collections.Counter()
    times: list[float] = []
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(address, i, until, found, times) for i in range(clients)))
    times.sort()
    print(json.dumps(dict(found)))
    if times:
        print(f"seconds an answer: median {times[len(times) // 2]:.2f}, 95% {times[int(0.95 * len(times))]:.2f}")
    async with httpx.AsyncClient(base_url=address) as http:
        for _ in range(100):
            if (await http.get("/api/health")).json()["busy"] == 0:
                break
            await asyncio.sleep(0.1)
        print((await http.get("/api/metrics")).text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("address")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    asyncio.run(run(given.address, given.clients, given.seconds))
