"""What training, distillation and maps cost on this machine: `python -m
kpnb.run.planning.throughput`.

Every number comes from the project's own trainer and estimator on random inputs: what a step costs
does not depend on values. Beside them stand the plain passes that they are made of, at the same
batch and memory layout; the ratio says what the project's own code adds. Each network runs in a
process of its own, so that its peak memory is its own. The rates go to a file that
`python -m kpnb.run.planning.plan` reads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from kpnb.errors import KpnbError
from kpnb.metrics.provenance import cpu_name, provenance
from kpnb.networks.cloud import BUILDERS
from kpnb.networks.image import IMAGE_NETWORKS
from kpnb.run.planning import throughput_files as files
from kpnb.run.planning.network_costs import CLOUD, ENCODERS, IMAGE, LAYERS, TEXT, Net
from kpnb.run.planning.throughput_clock import Effort, compose_rate, storage_rates
from kpnb.run.planning.throughput_files import Measured, Rate
from kpnb.run.planning.throughput_tasks import measure

SIZES = {"narrow": 64, "full": 224}
# Of the object and its background, as in the presets.
POINTS = {"narrow": 256 + 125, "full": 1024 + 500}
# Word pieces of a text, and layers of the encoder: of the presets.
PIECES = 26
DEPTHS = {"MiniLM-L6": 3, "BERT-base": 12}
OUTPUTS = {"image": 12, "cloud": 10}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.case:
            print(json.dumps([asdict(rate) for rate in _one(options)]))
            return 0
        found = _all(options)
        _show(found)
        if options.quick:
            return 0
        path = options.output or files.FOLDER / f"{files.file_name(found)}.json"
        found = files.joined(files.read(path), found) if path.is_file() else found
        print(files.write(found, path))
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    return 0


def networks(names: Sequence[str] | None, scale: str, size: int | None) -> list[Net]:
    """The networks of some names, image networks where there are none.

    size: side in pixels, or points with the background; None is the presets'. Raises KpnbError for
    a name that is not known.
    """
    return [_network(name, scale, size) for name in names or IMAGE_NETWORKS]


def _network(name: str, scale: str, size: int | None) -> Net:
    if name in ENCODERS:
        return Net(TEXT, name, "", size or PIECES, 2, DEPTHS[name])
    for kind, known, sizes in ((IMAGE, IMAGE_NETWORKS, SIZES), (CLOUD, BUILDERS, POINTS)):
        if name in known:
            return Net(kind, name, scale, size or sizes[scale], OUTPUTS[kind])
    everything = ", ".join([*IMAGE_NETWORKS, *BUILDERS, *ENCODERS])
    raise KpnbError(f"No network {name!r} to measure: choose among {everything}.")


def here(device: str, rates: Sequence[Rate]) -> Measured:
    """Rates with what they were measured on."""
    about = provenance()
    hardware = about["gpu"] if device == "cuda" else cpu_name()
    date = datetime.now(UTC).date().isoformat()
    return Measured(device, hardware, torch.get_num_threads(), date, tuple(rates), about)


def _all(options: argparse.Namespace) -> Measured:
    """Every network in a process of its own, then what no network takes part in."""
    _require_device(options.device)
    rates: list[Rate] = []
    for net in networks(options.networks, options.scale, options.size):
        print(f"measuring {net}", file=sys.stderr, flush=True)
        rates += _in_own_process(net, options)
    effort = _effort(options)
    rates += [compose_rate(effort, options.size or SIZES[options.scale]), *storage_rates(effort)]
    return here(options.device, rates)


def _one(options: argparse.Namespace) -> list[Rate]:
    torch.set_num_threads(options.threads)
    net = Net(**json.loads(options.case))
    layers = [layer for layer in options.layers if layer in LAYERS[net.kind]]
    layers = layers or list(LAYERS[net.kind][:1])
    return measure(net, layers, _effort(options))


def _effort(options: argparse.Namespace) -> Effort:
    found = Effort(torch.device(options.device), options.batch, options.precision, options.compile)
    return replace(found, seconds=0.0, repeats=1, maps=2) if options.quick else found


def _in_own_process(net: Net, options: argparse.Namespace) -> list[Rate]:
    command = [
        sys.executable,
        "-m",
        "kpnb.run.planning.throughput",
        "--case",
        json.dumps(asdict(net)),
    ]
    command += ["--device", options.device, "--batch", str(options.batch)]
    command += ["--precision", options.precision, "--threads", str(options.threads)]
    command += [flag for flag in ("--compile", "--quick") if getattr(options, flag[2:])]
    done = subprocess.run([*command, "--layers", *options.layers], capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise KpnbError(f"{net} could not be measured: {told[0]}")
    entries = json.loads(done.stdout.splitlines()[-1])
    return [Rate(**entry | {"net": Net(**entry["net"])}) for entry in entries]


def _require_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise KpnbError("No GPU is usable here: pass --device cpu.")


def _show(found: Measured) -> None:
    print(found)
    for rate in found.rates:
        place = f"{rate.net}, {rate.layer or 'whole'}" if rate.net else ""
        cpu = "" if rate.cpu is None else f"  processor {rate.cpu:.3g}"
        spread = f"[{rate.low:.3g}, {rate.high:.3g}]"
        print(f"{rate.task:24} {place:44} {rate.seconds:10.3g} s {spread}{cpu}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kpnb.run.planning.throughput", description=__doc__
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add(
        "--networks",
        nargs="+",
        metavar="NAME",
        help="default: the seven of images",
    )
    add("--scale", choices=("narrow", "full"), default="narrow")
    add("--size", type=int, help="pixels a side (64 narrow, 224 full), points, or pieces")
    add("--layers", nargs="+", default=["FC1"], help="for distillation and maps")
    add("--batch", type=int, default=64, help="samples of a training step")
    add("--precision", choices=("float32", "bfloat16"), default="float32")
    add("--compile", action="store_true", help="the network through torch.compile for training")
    add("--threads", type=int, default=1, help="of the CPU")
    add("--quick", action="store_true", help="a few steps, to see that it runs; writes nothing")
    add("--output", type=Path, help="file to write; default: the package's, by device")
    add("--case", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
