"""Providers, GPUs, images and failure texts of the emulated market."""

from __future__ import annotations

import attrs


@attrs.frozen
class Provider:
    name: str
    boot_factor: float
    """Typical boot time in multiples of ``boot_seconds``."""
    ssh_user: str
    ssh_port: int
    security: str
    region: str
    data_center: str
    country: str


@attrs.frozen(kw_only=True)
class Gpu:
    """A GPU model on the market; ``price`` is US dollars per GPU and hour, ``memory`` GB per GPU."""

    name: str
    memory: int
    socket: str
    price: float

    @property
    def model(self) -> str:
        """Return the first part of the name in lower case, for example ``h100``."""
        return self.name.split("_")[0].lower()


PROVIDERS = (
    Provider("runpod", 0.6, "root", 10022, "community_cloud", "united_states", "US-KS-2", "US"),
    Provider("primecompute", 0.9, "root", 22, "secure_cloud", "united_states", "US-TX-1", "US"),
    Provider("hyperstack", 1.0, "ubuntu", 22, "secure_cloud", "canada", "CANADA-1", "CA"),
    Provider("datacrunch", 0.8, "root", 22, "secure_cloud", "eu_north", "FIN-01", "FI"),
    Provider("massedcompute", 1.2, "ubuntu", 22, "secure_cloud", "united_states", "US-NE-1", "US"),
    Provider("lambdalabs", 1.1, "ubuntu", 22, "secure_cloud", "united_states", "US-CA-1", "US"),
    Provider("nebius", 1.0, "ubuntu", 22, "secure_cloud", "eu_north", "EU-NORTH-1", "FI"),
    Provider("crusoecloud", 1.1, "ubuntu", 22, "secure_cloud", "united_states", "US-EAST-1", "US"),
    Provider("latitude", 1.4, "ubuntu", 22, "secure_cloud", "south_america", "SAO-1", "BR"),
    Provider("dc_roan", 1.5, "root", 2222, "secure_cloud", "eu_west", "ROAN-1", "FR"),
)

CLUSTER_PROVIDERS = tuple(p for p in PROVIDERS if p.name in {"dc_roan", "nebius", "primecompute"})

GPUS = (
    Gpu(name="H100_80GB", memory=80, socket="SXM5", price=1.89),
    Gpu(name="H100_80GB", memory=80, socket="PCIe", price=1.9),
    Gpu(name="H200_141GB", memory=141, socket="SXM5", price=2.79),
    Gpu(name="B200_180GB", memory=180, socket="SXM6", price=3.99),
    Gpu(name="A100_80GB", memory=80, socket="SXM4", price=1.29),
    Gpu(name="L40S_48GB", memory=48, socket="PCIe", price=0.79),
    Gpu(name="A6000_48GB", memory=48, socket="PCIe", price=0.45),
    Gpu(name="RTX4090_24GB", memory=24, socket="PCIe", price=0.39),
    Gpu(name="RTX3090_24GB", memory=24, socket="PCIe", price=0.22),
)

CLUSTER_GPUS = tuple(gpu for gpu in GPUS if gpu.socket in {"SXM5", "SXM6"})

CPU_NODE = Gpu(name="CPU_NODE", memory=0, socket="PCIe", price=0.012)
"""Machines without a GPU; the price is per vCPU and hour."""

GPU_COUNTS = (1,) * 3 + (2, 4, 8)
"""Numbers of GPUs to draw from; half of the draws are 1."""

IMAGES = (
    "ubuntu_22_cuda_12",
    "cuda_12_4_pytorch_2_5",
    "cuda_12_6_pytorch_2_7",
    "axolotl",
    "vllm_llama_8b",
    "prime_rl",
)

FAILURES_EARLY = (
    "Provider ran out of capacity while provisioning",
    "Provider rejected the order: quota exceeded",
)

FAILURES_INSTALL = (
    "Image pull failed: manifest unknown",
    "NVIDIA driver check failed: no devices were found",
    "Unsupported image for this machine",
)

FAILURES_RETRIED = (
    "Image pull failed, retrying",
    "Package mirror timed out, retrying",
)
