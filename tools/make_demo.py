"""Build the demo: the studio's page as a folder of static files, without a server.

    python tools/make_demo.py FOLDER [--model MODEL]

FOLDER gets `index.html`, the page's modules in `static/` with those of `demo/`, of which `server.js` takes the place of
the page's own, the piano's samples in `samples/`, and in `static/engine/` what the worker loads: `kernel.wasm`, the
compiled engine; `weights.bin.gz`, the tensors of the model's 8-bit runtime one after another, in the engine's order;
`model.json`, what the kernel and the modules must be told of them; `info.json` and `example.json`, the answers of
`api/info` and `api/example`; and the model's licence. Any web server serves it, in any folder. Needs ziglang.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from hatch_build import FOLDER, compile_kernel  # noqa: E402

from music_generator.engine import kernel  # noqa: E402
from music_generator.model.bundle import PRETRAINED_NAME, Bundle, open_bundle, runtime_file  # noqa: E402
from music_generator.model.config import CLASSES  # noqa: E402
from music_generator.model.pack import constants, layout, tensors_of  # noqa: E402
from music_generator.music.tokens import (  # noqa: E402
    DENSITY_EDGES,
    DURATION_BINS,
    LOUDNESS_EDGES,
    SHIFT_BINS,
    VELOCITY_BINS,
)
from music_generator.sound import SAMPLES  # noqa: E402
from music_generator.studio.api import Studio  # noqa: E402
from music_generator.studio.options import StudioOptions  # noqa: E402
from music_generator.studio.server import STATIC  # noqa: E402

PRECISION = "int8"
ENGINE = Path("static/engine")
SERVICE_WORKER = "service_worker.js"
LATER_SAMPLES = r"samples/\d+-[0134]\.mp3"  # all but the middle layer, as in static/audio/samples.js
SOUND_FORMATS = ["wav"]  # a browser writes no other one
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
HEAD = f"""<meta charset="utf-8">
<meta http-equiv="content-security-policy" content="{POLICY}">
<meta name="referrer" content="no-referrer">"""
STYLE = '<link rel="stylesheet" href="static/style.css">'
NEEDS_SERVER_STYLE = f"""{STYLE}
<link rel="stylesheet" href="static/needs_server.css">"""
NEEDS_SERVER = """<body>
<p id="needs-server">This page is still loading. Opened as a file it cannot load: start
  <code>python -m http.server</code> in its folder, and open the address that it prints.</p>"""
PIANO_CREDIT = "  <p>The piano:"
MODEL_CREDIT = """  <p>Everything runs in this browser, and your music stays in it. The model was trained on {data};
    its weights are under <a href="static/engine/LICENSE.txt" target="_blank">{licence}</a>, and <a
    href="static/engine/MODEL.txt" target="_blank">its card</a> credits the data. <a href="samples/LICENSE.txt"
    target="_blank">The samples’ licence</a> credits the piano.</p>
"""


def stored_tensors(bundle: Bundle) -> list[tuple[str, bytes]]:
    """Return type and bytes of each tensor of the 8-bit runtime as it is stored, in the engine's order."""
    from safetensors.numpy import load_file

    bundle.runtime_tensors(PRECISION)  # checks them
    stored = load_file(bundle.folder / runtime_file(PRECISION))
    names = [name for part in layout(bundle.config) for name, _, _ in tensors_of(part, PRECISION)]
    return [(str(stored[name].dtype), np.ascontiguousarray(stored[name]).tobytes()) for name in names]


def describe_model(bundle: Bundle, tensors: list[tuple[str, bytes]]) -> dict[str, Any]:
    """Return what the modules must be told of a model."""
    config = bundle.config
    return {
        "config": config.to_json(),
        "kernel_config": np.frombuffer(bytes(kernel.describe(config, PRECISION)), np.int32).tolist(),
        "contract_version": kernel.CONTRACT_VERSION,
        "tensors": [(dtype, len(data)) for dtype, data in tensors],
        "constants": [each.tolist() for each in constants()],
        "classes": CLASSES,
        "edges": {
            "shift": SHIFT_BINS.edges.tolist(),
            "velocity": VELOCITY_BINS.edges.tolist(),
            "duration": DURATION_BINS.edges.tolist(),
            "density": DENSITY_EDGES,
            "loudness": LOUDNESS_EDGES,
        },
    }


def write_kernel(engine: Path) -> None:
    """Compile the kernel into a demo's folder of the engine."""
    with tempfile.TemporaryDirectory() as scratch:
        compiler = [sys.executable, "-m", "ziglang", "cc"]
        library = compile_kernel("wasm32", ROOT / FOLDER, compiler, Path(scratch))
        shutil.copyfile(library, engine / "kernel.wasm")


def write_model(bundle: Bundle, engine: Path) -> None:
    """Write what a demo loads of a model into its folder of the engine."""
    tensors, studio = stored_tensors(bundle), Studio(bundle, StudioOptions())
    (engine / "weights.bin.gz").write_bytes(gzip.compress(b"".join(data for _, data in tensors), 9, mtime=0))
    (engine / "model.json").write_text(json.dumps(describe_model(bundle, tensors)), "utf-8")
    for name, shown in (("LICENSE", "LICENSE.txt"), ("README.md", "MODEL.txt")):  # browsers show texts, and save others
        if (bundle.folder / name).is_file():
            shutil.copyfile(bundle.folder / name, engine / shown)
    for name, answer in (("info", studio.info), ("example", studio.example)):
        (engine / f"{name}.json").write_bytes(bytes(asyncio.run(answer(None)).body))
    info = json.loads((engine / "info.json").read_bytes())
    (engine / "info.json").write_text(json.dumps(info | {"formats": SOUND_FORMATS}), "utf-8")


def index_page(bundle: Bundle) -> str:
    """Return the studio's page with a security policy of its own, which no server sends, and the model's licence."""
    page = (STATIC / "index.html").read_text("utf-8")
    credit = MODEL_CREDIT.format_map({"data": "data of its own", "licence": "a licence of its own"} | bundle.provenance)
    changes = {'<meta charset="utf-8">': HEAD, STYLE: NEEDS_SERVER_STYLE, "<body>": NEEDS_SERVER}
    for old, new in (changes | {PIANO_CREDIT: credit + PIANO_CREDIT}).items():
        assert page.count(old) == 1, f"the page has not one {old}"
        page = page.replace(old, new)
    return page


def write_service_worker(folder: Path) -> None:
    """Write the worker that keeps the files of a demo in the browser; a version of its own for other files."""
    version, first, rest = hashlib.sha256(), ["./"], list[str]()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SERVICE_WORKER):
        name = path.relative_to(folder).as_posix()
        version.update(name.encode() + path.read_bytes())
        (rest if re.fullmatch(LATER_SAMPLES, name) else first).append(name)
    script, empty = (ROOT / "demo" / SERVICE_WORKER).read_text("utf-8"), 'VERSION = "", FILES = { first: [], rest: [] }'
    assert script.count(empty) == 1
    files = json.dumps({"first": first, "rest": rest})
    filled = script.replace(empty, f'VERSION = "{version.hexdigest()[:16]}", FILES = {files}')
    (folder / SERVICE_WORKER).write_text(filled, "utf-8")


def make_demo(folder: Path, model: str = PRETRAINED_NAME) -> None:
    """Build the demo of a model in a folder, which may exist."""
    bundle, in_root = open_bundle(model), shutil.ignore_patterns("index.html", SERVICE_WORKER)
    for source, name in ((STATIC, "static"), (ROOT / "demo", "static"), (SAMPLES, "samples")):
        shutil.copytree(source, folder / name, dirs_exist_ok=True, ignore=in_root)
    (folder / "samples/LICENSE").rename(folder / "samples/LICENSE.txt")
    (folder / "index.html").write_text(index_page(bundle), "utf-8")
    write_kernel(folder / ENGINE)
    write_model(bundle, folder / ENGINE)
    write_service_worker(folder)


def main() -> None:
    """Build the demo that the command line asks for, and print the sizes of what is loaded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=PRETRAINED_NAME)
    arguments = parser.parse_args()
    make_demo(arguments.folder, arguments.model)
    for path in sorted((arguments.folder / ENGINE).iterdir()):
        print(f"{path.stat().st_size:>9,} {path.name}")


if __name__ == "__main__":
    main()
