"""Creation of pods from values that are given or drawn from the seed."""

from __future__ import annotations

from random import Random

import attrs

from .boot import Timeline, draw_duration, failed_boot, successful_boot
from .catalog import CLUSTER_PROVIDERS, GPU_COUNTS, GPUS, IMAGES, PROVIDERS, Gpu, Provider
from .config import EmulatorConfig
from .pods import PodOverrides, PodRecord
from .randomness import random_for


@attrs.frozen(kw_only=True)
class BootOutcome:
    """Outcome of a boot. A fleet's outcomes are drawn together, so that its failure rates are exact."""

    fails: bool
    retries: bool
    """``True`` if the installation fails, is retried, and succeeds."""


def create_pod(
    config: EmulatorConfig,
    number: int,
    created: float,
    overrides: PodOverrides,
    *,
    name: str | None = None,
    outcome: BootOutcome | None = None,
) -> PodRecord:
    """Create pod number ``number``; the same arguments always give the same pod."""
    rng = random_for(config.seed, f"pod:{number}")
    pod_id = f"{rng.getrandbits(128):032x}"
    # Defaults are drawn even if they are overridden, so that an override changes few other values.
    drawn_nodes = rng.choice((2, 4)) if rng.random() < config.cluster_rate else 1
    nodes = overrides.get("nodes", drawn_nodes)
    provider = _draw_provider(rng, nodes, overrides.get("provider"))
    gpu = _draw_gpu(rng, overrides)
    default_count = 8 * nodes if nodes > 1 else rng.choice(GPU_COUNTS)
    count = overrides.get("gpu_count", default_count)
    price = overrides.get("price_hr", round(gpu.price * count * rng.uniform(0.9, 1.1), 2))
    record = PodRecord(
        id=overrides.get("id", pod_id),
        number=number,
        name=name if name is not None else f"{gpu.model}-{count}-{number:05d}",
        provider=provider.name,
        gpu_name=gpu.name,
        gpu_count=count,
        socket=gpu.socket,
        price_hr=price,
        image=overrides.get("image", rng.choice(IMAGES)),
        nodes=nodes,
        ssh_user=provider.ssh_user,
        ssh_port=provider.ssh_port,
        created=created,
        timeline=_draw_timeline(rng, config, provider, overrides, outcome),
        memory=64 * count,
        disk=rng.choice((100, 200, 500, 1000)),
        vcpus=8 * count,
        team_id=overrides.get("team_id"),
        staggered=overrides.get("staggered", False),
        dead_gpus=overrides.get("dead_gpus", 0),
        appears=created + overrides.get("appear_seconds", 0.0),
        pod_fields=dict(overrides.get("pod_fields", {})),
        status_fields=dict(overrides.get("status_fields", {})),
    )
    record.spot = overrides.get("spot", rng.random() < config.spot_rate)
    spot_lifetime = rng.expovariate(1.0) * config.spot_seconds
    lifetime = overrides.get("vanish_seconds", spot_lifetime if record.spot else None)
    record.gone = None if lifetime is None else created + lifetime
    return record


def _draw_provider(rng: Random, nodes: int, name: str | None) -> Provider:
    drawn_provider = rng.choice(CLUSTER_PROVIDERS if nodes > 1 else PROVIDERS)
    if name is None:
        return drawn_provider
    new_provider = attrs.evolve(drawn_provider, name=name, boot_factor=1.0, ssh_user="root", ssh_port=22)
    return next((provider for provider in PROVIDERS if provider.name == name), new_provider)


def _draw_gpu(rng: Random, overrides: PodOverrides) -> Gpu:
    drawn_gpu = rng.choice(GPUS)
    name = overrides.get("gpu_name", drawn_gpu.name)
    # The drawn GPU comes first: another one may have the same name and another socket.
    base = next((gpu for gpu in (drawn_gpu, *GPUS) if gpu.name == name), drawn_gpu)
    return attrs.evolve(base, name=name, socket=overrides.get("socket", base.socket))


def _draw_timeline(
    rng: Random,
    config: EmulatorConfig,
    provider: Provider,
    overrides: PodOverrides,
    outcome: BootOutcome | None,
) -> Timeline:
    drawn_duration = draw_duration(rng, config.boot_seconds, provider.boot_factor)
    duration = overrides.get("boot_seconds", drawn_duration)
    failure_draw = rng.random()
    retry_count = rng.choice((1, 1, 2))
    if outcome is None:
        fails = failure_draw < config.failure_rate
        outcome = BootOutcome(fails=fails, retries=rng.random() < config.flaky_rate)
    fails = outcome.fails
    if "failure" in overrides:
        fails = overrides["failure"] is not None
    if fails:
        return failed_boot(rng, duration, overrides.get("failure"))
    retries = overrides.get("retries", retry_count if outcome.retries else 0)
    return successful_boot(rng, duration, retries)
