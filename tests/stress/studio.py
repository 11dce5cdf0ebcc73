"""Many clients at one studio, some of them hostile: python tests/stress/studio.py

Starts `music-generator studio` as a user does and sends it, for `--minutes`, what `--clients` musicians and strangers
would: uploads, all the ways to write, cancels, connections dropped in the middle, sound, pictures, MIDI, and requests
that must be refused. A status that does not fit what was asked, a refusal that is not of one line, events out of order,
a word on the server's standard error, a wait of over `HANG_SECONDS`, memory that grows, files or jobs that stay open
are findings. A 429 is what a busy studio says, and counted apart. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from music_generator.music.midi import read_midi, write_midi
from music_generator.sound import FORMATS
from music_generator.studio.options import StudioOptions
from stress.mutations import made_up, mutated

HANG_SECONDS = 120.0  # without a byte
MARGIN = 1.1  # how much more memory the last third may take than the middle one
# what the server may say: where it is, and one line for what is not HTTP
SAID = ("the studio is open at this address", "WARNING:  Invalid HTTP request received.")
LIMITS = StudioOptions()
BUSY = 429

Json = dict[str, Any]


class FoundError(Exception):
    """Something was not as it must be."""


def must(holds: bool, text: str) -> None:
    if not holds:
        raise FoundError(text)


@dataclass
class Tally:
    """What was asked and answered, how long it took, the server's memory, and what was found."""

    answers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    megabytes: list[float] = field(default_factory=list)
    standstill: float = 0.0
    findings: list[str] = field(default_factory=list)

    def find(self, text: str) -> None:
        self.findings.append(text)
        print(f"FOUND {text}", flush=True)


# --- the server


@dataclass
class Server:
    """The studio as a process: its address, and where its standard error goes."""

    process: subprocess.Popen[str]
    address: str
    errors: Path

    @property
    def megabytes(self) -> float:
        """Memory in use now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @property
    def files(self) -> int:
        """Open files, connections among them."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def said(self) -> list[str]:
        """The lines on standard error that no server should write."""
        lines = self.errors.read_text("utf-8", "replace").splitlines()
        return [line for line in lines if not line.removeprefix("music-generator: ").startswith(SAID)]


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    """A studio on any port; it is killed in the end if it has not ended by itself."""
    command = [sys.executable, "-m", "music_generator", "studio", "--no-browser", "--port", "0"]
    errors = folder / "stderr.txt"
    with (
        errors.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as process,
    ):
        assert process.stdout
        try:
            yield Server(process, process.stdout.readline().strip(), errors)
        finally:
            process.kill()


# --- one client


@dataclass
class Client:
    """A client with a piece of its own, and what it does. Every action gives the answer's status, or a word."""

    http: httpx.AsyncClient
    address: str
    rng: random.Random
    tally: Tally
    piece: Json = field(default_factory=dict)

    async def do(self, name: str, action: Callable[[Client], Awaitable[str]]) -> None:
        """One action; what it must not be becomes a finding."""
        try:
            answer = await action(self)
        except FoundError as error:
            answer = "found"
            self.tally.find(f"{name}: {error}")
        except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            answer = "found"
            self.tally.find(f"{name}: {type(error).__name__} {error}")
        self.tally.answers[name][answer] += 1

    async def ask(self, path: str, expected: int, *, method: str = "POST", **more: Any) -> httpx.Response:
        """A plain request; `expected` or busy, and a refusal in one line."""
        begun = time.perf_counter()
        answer = await self.http.request(method, path, **more)
        made = "sound and pictures" if path in ("api/sound", "api/picture") else "plain requests"
        self.tally.seconds[made if answer.status_code < 400 else "refusals"].append(time.perf_counter() - begun)
        check(answer.status_code, expected, answer.text if answer.status_code >= 400 else "")
        return answer

    @property
    def end(self) -> float:
        return float(max(note[0] for note in self.piece["notes"]))


def check(status: int, expected: int, text: str) -> None:
    """The status must be the one expected, or 429; a refusal must be one line of JSON that can be read."""
    must(status in (expected, BUSY), f"{status}, not {expected}: {text[:200]}")
    if status in (400, 404, 405):  # by the framework: a line of plain text
        must(len(text.splitlines()) == 1, f"{status} in other than one line: {text[:200]!r}")
    elif status >= 400:
        line = json.loads(text)["error"]["message"]
        must(bool(line) and line.isprintable() and len(line) < 400, f"refused in a line that cannot be read: {line!r}")


# --- what musicians do


async def upload(client: Client) -> str:
    """A MIDI file, which comes back the same."""
    given = write_midi(made_up(client.rng.randrange(1000), client.rng.choice((20, 100, 400, 3000))))
    answer = await client.ask("api/read", 200, content=given)
    client.piece = answer.json()["piece"]
    taken = await client.ask("api/midi", 200, json={"piece": client.piece})
    must(read_midi(taken.content).performance == read_midi(given).performance, "MIDI came back as another piece")
    return "200"


def task(client: Client, longest: float) -> Json:
    """A random thing to write, of up to `longest` seconds, in up to four variations."""
    rng, seconds = client.rng, client.rng.uniform(0.5, longest)
    name = rng.choice(("compose", "continue", "lead-in", "infill", "infill", "infill", "bridge"))
    start = rng.uniform(0, client.end)
    asked = {"task": name, "variations": rng.randint(1, 4), "seconds": seconds, "seed": rng.randrange(1 << 30)}
    asked |= {"infill": {"from": start, "to": start + seconds}, "bridge": {"second": client.piece}}.get(name, {})
    asked = asked if name == "compose" else asked | {"piece": client.piece}
    return asked | steered(client, asked)


def steered(client: Client, asked: Json) -> Json:
    """Sometimes how the music shall be, what of it stays, other bars for the whole, and an open end."""
    rng, name = client.rng, asked["task"]
    more: Json = {"density": rng.uniform(2, 20)} if rng.random() < 0.2 else {}
    if rng.random() < 0.2:
        more["loudness"] = rng.uniform(30, 90)
    if name in ("compose", "continue") and rng.random() < 0.5:
        more["open_end"] = True
    inside = [note for note in client.piece["notes"] if asked.get("from", 0) <= note[0] < asked.get("to", 0)]
    if name == "infill" and inside and rng.random() < 0.5:
        more["keep"] = rng.choice(("melody", "all", rng.sample(inside, rng.randint(1, len(inside)))))
    if name in ("infill", "continue") and rng.random() < 0.2:
        tapped = [[960 * i, rng.randrange(300_000, 900_000)] for i in range(20)]
        bars = {"ticks_per_quarter": 960, "tempos": tapped, "time_signatures": [[0, 3, 4]]}
        more["piece"] = client.piece | {"tempo_map": bars}
    return more


async def events_of(answer: httpx.Response) -> AsyncIterator[Json]:
    async for line in answer.aiter_lines():
        yield json.loads(line)


async def write(client: Client) -> str:
    """A task to its end; times to the first event and to the end are taken."""
    return await written(client, task(client, 4.0))


async def written(client: Client, asked: Json) -> str:
    begun, first, seen = time.perf_counter(), 0.0, []
    async with client.http.stream("POST", "api/write", json=asked) as answer:
        if answer.status_code != 200:
            check(answer.status_code, 200, (await answer.aread()).decode())
            return str(answer.status_code)
        async for event in events_of(answer):
            seen.append(event)
            if not first and event["type"] in ("events", "variation"):
                first = time.perf_counter() - begun
    client.tally.seconds["to the first notes"].append(first)
    client.tally.seconds["to the end"].append(time.perf_counter() - begun)
    names = [event["type"] for event in seen]
    must(names[:2] == ["job", "begin"] and names[-1] == "done", f"{asked['task']}: events {names[:2]} to {seen[-1]}")
    done = sorted(event["variation"] for event in seen if event["type"] == "variation")
    must(done == list(range(asked["variations"])), f"variations {done} of {asked['variations']}")
    return "200"


async def cancel(client: Client) -> str:
    """A long task that is cancelled in the middle, and says so."""
    enough, seen = client.rng.randint(1, 40), []
    async with client.http.stream("POST", "api/write", json=task(client, 60.0)) as answer:
        if answer.status_code != 200:
            check(answer.status_code, 200, (await answer.aread()).decode())
            return str(answer.status_code)
        async for event in events_of(answer):
            seen.append(event)
            if len(seen) == enough:
                await client.ask(f"api/jobs/{seen[0]['job']}", 200, method="DELETE")
    must(seen[-1]["type"] in ("cancelled", "done"), f"a cancelled job ended with {seen[-1]}")
    return str(seen[-1]["type"])


async def hang_up(client: Client) -> str:
    """A long task whose connection is dropped in the middle."""
    enough = client.rng.randint(0, 40)
    async with client.http.stream("POST", "api/write", json=task(client, 60.0)) as answer:
        async for _ in answer.aiter_lines():
            enough -= 1
            if enough < 0:
                return "dropped"
    return str(answer.status_code)


async def see_parts(client: Client) -> str:
    """The parts of the file that the piece is from."""
    answer = await client.ask("api/parts", 200, json={"piece": client.piece})
    if answer.status_code == 200:
        must(any(part["chosen"] for part in answer.json()["parts"]), "no part of the file is the piece")
    return str(answer.status_code)


async def drop_upload(client: Client) -> str:
    """A connection that ends in the middle of its own body."""
    _, writer = await connected(client, head(client, "POST", "api/read", "content-length: 5000") + b"MThd" * 100)
    writer.close()
    return "dropped"


async def drop_sound(client: Client) -> str:
    """A connection that ends while its sound is made."""
    body = json.dumps({"piece": client.piece, "from": 0, "to": 20}).encode()
    request = head(client, "POST", "api/sound", f"content-length: {len(body)}") + body
    _, writer = await connected(client, request)
    await asyncio.sleep(client.rng.uniform(0, 0.5))
    writer.close()
    return "dropped"


async def take_away(client: Client) -> str:
    """Sound of a few seconds in any format, or the picture."""
    start = client.rng.uniform(0, client.end / 2)
    body = {"piece": client.piece, "from": start, "to": start + client.rng.uniform(0.5, 4)}
    if client.rng.random() < 0.3:
        return str((await client.ask("api/picture", 200, json=body | {"title": "a piece"})).status_code)
    body["format"] = client.rng.choice(FORMATS)
    return str((await client.ask("api/sound", 200, json=body)).status_code)


async def look(client: Client) -> str:
    """The page, one of its files, and the facts that it asks for."""
    for path in ("", "static/app.js", "api/info", "api/example"):
        await client.ask(path, 200, method="GET")
    return "200"


# --- what strangers do


def head(client: Client, method: str, path: str, *headers: str) -> bytes:
    """A request's first lines as they go over the wire."""
    address = urlsplit(client.address + path)
    return "\r\n".join((f"{method} {address.path} HTTP/1.1", f"host: {address.netloc}", *headers, "", "")).encode()


async def connected(client: Client, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of our own, and `data` sent."""
    address = urlsplit(client.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def sent(client: Client, data: bytes, expected: int, then: bytes = b"", pause: float = 1.0) -> str:
    """Send bytes, then `then` byte by byte with a `pause` after each; the answer must have the `expected` status."""
    reader, writer = await connected(client, data)
    try:
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        for i in range(len(then)):
            await asyncio.wait([answer], timeout=pause)
            if answer.done():
                break
            writer.write(then[i : i + 1])
        line = await asyncio.wait_for(answer, HANG_SECONDS)
    finally:
        writer.close()
    must(int(line.split()[1]) == expected, f"{line.decode()!r}, not {expected}")
    return str(expected)


async def other_origin(client: Client) -> str:
    origin = client.rng.choice(("http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"))
    return str((await client.ask("api/info", 403, method="GET", headers={"origin": origin})).status_code)


async def other_host(client: Client) -> str:
    host = client.rng.choice(("evil.example", "127.0.0.1", "localhost:80", "0.0.0.0:8765"))
    return str((await client.ask("api/info", 403, method="GET", headers={"host": host})).status_code)


async def wrong_token(client: Client) -> str:
    path = client.rng.choice(("/", "/api/info", "/wrong/api/info", "//", "/%00/", "/" + "x" * 5000))
    address = urlsplit(client.address)
    return str((await client.ask(f"http://{address.netloc}{path}", 403, method="GET")).status_code)


async def oversized(client: Client) -> str:
    """One byte too many: announced, or not until it is there."""
    size = LIMITS.max_body_bytes + 1
    if client.rng.random() < 0.7:
        return await sent(client, head(client, "POST", "api/read", f"content-length: {size}") + b"\0" * 5000, 413)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(size // 65_536 + 1):
            yield b"\0" * 65_536

    return str((await client.ask("api/read", 413, content=blocks())).status_code)


async def slow(client: Client) -> str:
    """A body of which a byte comes each second."""
    announced = head(client, "POST", "api/read", "content-length: 1000")
    return await sent(client, announced, 413, then=b"M" * 1000)


async def slow_head(client: Client) -> str:
    """A request that does not even get to its body."""
    return await sent(client, head(client, "POST", "api/read")[:-2], 400, then=b"x-slow: " + b"y" * 1000)


async def malformed(client: Client) -> str:
    """A body that is not JSON, or not what is asked for."""
    address = client.rng.choice(("api/write", "api/midi", "api/sound", "api/picture"))
    body = client.rng.choice(
        (b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"piece": NaN}', b'{"task": "\\ud800"}')
    )
    return str((await client.ask(address, 422, content=body)).status_code)


async def wrong_types(client: Client) -> str:
    """Fields of other kinds."""
    field_name = client.rng.choice(
        ("piece", "from", "to", "seed", "variations", "temperature", "composer", "keep", "recall", "density")
    )
    wrong = client.rng.choice(([], {"a": 1}, "x" * 300, True, -1e300, 1 << 70))
    asked = {"task": "infill", "piece": client.piece, "from": 0.0, "to": 1.0} | {field_name: wrong}
    return str((await client.ask("api/write", 422, json=asked)).status_code)


async def damaged(client: Client) -> str:
    """A MIDI file that nobody should be given."""
    _, data = mutated(client.rng.randrange(1, 400), million=1000)
    answer = await client.http.post("api/read", content=data)
    check(answer.status_code, 200 if answer.status_code == 200 else 422, answer.text)
    return str(answer.status_code)


async def nowhere(client: Client) -> str:
    """Addresses that are not there, with the token."""
    path = client.rng.choice(("static/../api.py", "static/%00", "api/", "api/nothing", "static/" + "a" * 5000))
    return str((await client.ask(path, 404, method="GET")).status_code)


async def no_http(client: Client) -> str:
    """Bytes that are no request, or a request that is none of ours."""
    lengths = ("content-length: abc", "content-length: -1", "content-length: " + "9" * 5000)
    wrong = [head(client, "POST", "api/read", length) for length in lengths]
    wrong += [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"]
    return await sent(client, client.rng.choice(wrong), 400)


ACTIONS: dict[Callable[[Client], Awaitable[str]], int] = {
    upload: 12, write: 30, cancel: 8, hang_up: 8, see_parts: 2, drop_upload: 3, drop_sound: 2, take_away: 8, look: 5,
    other_origin: 3, other_host: 3, wrong_token: 3, oversized: 2, slow: 1, slow_head: 1, malformed: 3, wrong_types: 3,
    damaged: 3, nowhere: 2, no_http: 3,
}  # fmt: skip


# --- all of them


async def live(number: int, server: Server, tally: Tally, arguments: argparse.Namespace, until: float) -> None:
    """One client's whole life: it begins with an upload, then does anything, with a pause after each."""
    rng = random.Random(arguments.seed * 1000 + number)
    async with httpx.AsyncClient(base_url=server.address, timeout=HANG_SECONDS) as http:
        client = Client(http, server.address, rng, tally)
        action = upload
        while time.monotonic() < until:
            await client.do(action.__name__, action)
            await asyncio.sleep(rng.uniform(0, arguments.pause))
            action = rng.choices(list(ACTIONS), list(ACTIONS.values()))[0] if client.piece else upload


async def sample(server: Server, tally: Tally) -> None:
    """The server's memory twice a second, and for how long everything, this process too, stood still."""
    while server.process.poll() is None:
        tally.megabytes.append(server.megabytes)
        begun = time.monotonic()
        await asyncio.sleep(0.5)
        tally.standstill = max(tally.standstill, time.monotonic() - begun - 0.5)


async def all_jobs_are_free(client: Client) -> str:
    """As many jobs as may be are taken on at once: none of before is still under way."""
    await asyncio.sleep(2)
    asked = {"task": "compose", "seconds": 0.5, "variations": 1}
    answers = await asyncio.gather(*(written(client, asked) for _ in range(LIMITS.max_jobs)))
    must(set(answers) == {"200"}, f"jobs are left over: {Counter(answers)}")
    return "200"


async def soaked(arguments: argparse.Namespace, server: Server, tally: Tally) -> None:
    """The clients, until the time is over, and what must hold then."""
    files, until = server.files, time.monotonic() + 60 * arguments.minutes
    sampling = asyncio.create_task(sample(server, tally))
    await asyncio.gather(*(live(i, server, tally, arguments, until) for i in range(arguments.clients)))
    sampling.cancel()
    async with httpx.AsyncClient(base_url=server.address, timeout=HANG_SECONDS) as http:
        last = Client(http, server.address, random.Random(0), tally)
        await last.do("afterwards", all_jobs_are_free)
    await asyncio.sleep(0.5)
    if server.files > files + 5:  # what is loaded at the first use stays open
        tally.find(f"{server.files} open files, {files} at the start")


def end_of(server: Server, tally: Tally) -> None:
    """Ctrl+C ends it, and it has said nothing."""
    server.process.send_signal(signal.SIGINT)
    try:
        code = server.process.wait(20)
    except subprocess.TimeoutExpired:
        tally.find("Ctrl+C did not end it within 20 s")
    else:
        if code:
            tally.find(f"it ended with {code}")
    if said := server.said():
        tally.find(f"it said {len(said)} lines on standard error: {said[0]!r} … {said[-1]!r}")


def growth(megabytes: list[float], tally: Tally) -> str:
    """The peaks of the three thirds; a last one that is above the middle one's by more than the margin is a finding."""
    third = max(1, len(megabytes) // 3)
    peaks = [max(megabytes[i * third : (i + 1) * third] or [0.0]) for i in range(3)]
    if len(megabytes) > 120 and peaks[2] > peaks[1] * MARGIN:  # in less than a minute it is still warming up
        tally.find(f"memory grows: {peaks[1]:.0f} MB in the middle third, {peaks[2]:.0f} MB in the last")
    return " / ".join(f"{peak:.0f}" for peak in peaks)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def told(tally: Tally) -> None:
    """The one summary."""
    for name, answers in sorted(tally.answers.items()):
        print(f"{name:14} " + ", ".join(f"{answer}: {count}" for answer, count in answers.most_common()))
    for kind, values in sorted(tally.seconds.items()):
        p50, p99 = (1000 * percentile(values, share) for share in (0.5, 0.99))
        print(
            f"{kind:20} {len(values):6} times, p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {1000 * max(values):.0f} ms"
        )


def parsed(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=2.0, help="a client waits for up to so many seconds in between")
    return parser.parse_args(given)


def soak(arguments: argparse.Namespace) -> Tally:
    """A studio started, soaked and ended; what came of it."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as scratch, started(Path(scratch)) as server:
        asyncio.run(soaked(arguments, server, tally))
        end_of(server, tally)
    return tally


def main() -> int:
    arguments, begun = parsed(), time.monotonic()
    tally = soak(arguments)
    told(tally)
    count = Counter[str]()
    for answers in tally.answers.values():
        count += answers
    print(
        f"{arguments.clients} clients, {time.monotonic() - begun:.0f} s, {count.total()} actions, {count['429']} busy"
    )
    print(f"memory in MB, peaks of the thirds: {growth(tally.megabytes, tally)}")
    print(f"all stood still for {tally.standstill:.1f} s at most; {len(tally.findings)} findings")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
