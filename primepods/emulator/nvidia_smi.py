"""The ``nvidia-smi`` of emulated pods: lists the GPUs of a node, or queries some fields of each."""

import argparse
import json
import re
import sys
import urllib.request
from typing import Any

_INVALID, _NO_DEVICES, _GPU_IS_LOST = 2, 6, 15
"""Exit codes of NVIDIA's program."""


def main() -> int | str:
    """Print the GPUs, and return an exit code or an error message."""
    parser = argparse.ArgumentParser(prog="nvidia-smi", allow_abbrev=False)
    parser.add_argument("emulator")
    parser.add_argument("address")
    parser.add_argument("-L", "--list-gpus", action="store_true", help="list the GPUs; also the default")
    parser.add_argument("--query-gpu", default="", metavar="FIELD,...")
    parser.add_argument("--format", default="csv", metavar="csv[,noheader][,nounits]")
    options = parser.parse_args()
    try:
        url = f"{options.emulator}/_emulator/gpus/{options.address}"
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - the emulator's
            node: dict[str, Any] = json.load(response)
    except (OSError, ValueError) as error:
        return f"nvidia-smi: the emulator does not say which GPUs this pod has: {error}"
    if not node["count"]:
        sys.stdout.write("No devices were found\n")
        return _NO_DEVICES
    gpus = [_fields(index, node["name"]) for index in range(node["count"] - node["dead"])]
    lines = [f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})" for gpu in gpus]
    if options.query_gpu:
        names = [name.strip() for name in options.query_gpu.split(",")]
        for name in names:
            if name not in _fields(0, ""):
                sys.stdout.write(f'Field "{name}" is not a valid field to query.\n')
                return _INVALID
        lines = [", ".join(gpu[name] for name in names) for gpu in gpus]
        if "nounits" in options.format:
            lines = [re.sub(r" (MiB|%)(?=,|$)", "", line) for line in lines]
        if "noheader" not in options.format:
            lines.insert(0, ", ".join(names))
    if node["dead"]:
        lines.append(
            "Unable to determine the device handle for a GPU: GPU is lost. Reboot the system to recover it"
        )
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return _GPU_IS_LOST if node["dead"] else 0


def _fields(index: int, name: str) -> dict[str, str]:
    memory = re.search(r"(\d+)GB", name)
    return {
        "index": str(index),
        "name": f"NVIDIA {name}",
        "uuid": f"GPU-{index:08x}",
        "memory.total": f"{1024 * int(memory[1]) if memory else 0} MiB",
        "memory.used": "0 MiB",
        "utilization.gpu": "0 %",
        "temperature.gpu": "30",
        "ecc.errors.uncorrected.volatile.total": "0",
    }


if __name__ == "__main__":
    sys.exit(main())
