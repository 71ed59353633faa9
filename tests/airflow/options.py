"""Options of the operators in the tests' DAGs. In no file of DAGs: what imports one has its DAGs, too."""

import shlex
import sys
from datetime import timedelta
from typing import Any

SPEC = {
    "cloud_id": "dc_roan-rtx3090-pcie-x1",
    "gpu_type": "RTX3090_24GB",
    "socket": "PCIe",
    "gpu_count": 1,
    "provider": "dc_roan",
}
"""What the emulator of seed 0 has to offer."""
RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(0)}
INTERVAL = 0.1
LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"
