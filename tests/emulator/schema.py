"""The API's schema, re-typed: what it takes and what it answers; and a validator as small as it can be.

Where the vendor's own document lies beside the repository, the tests read that too, see `official`.
"""

import importlib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen

Schema = dict[str, Any]

DOCUMENT = Path(__file__).parents[3] / "shared" / "api" / "openapi-pods.yml"

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
DATE: Schema = {"type": "string", "format": "date-time"}
NATURAL: Schema = {"type": "integer", "minimum": 0}
POSITIVE: Schema = {"type": "integer", "exclusiveMinimum": 0}


def words(text: str) -> Schema:
    """One of these words."""
    return {"enum": text.split()}


def maybe(*schemas: Schema) -> Schema:
    """One of these, or null."""
    return {"anyOf": [*schemas, NULL]}


def many(schema: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": schema}


def some(required: Schema, optional: Schema | None = None, *, closed: bool = False) -> Schema:
    """An object with these fields."""
    schema: Schema = {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }
    return {**schema, "additionalProperties": False} if closed else schema


PROVIDER = words(
    "runpod fluidstack lambdalabs hyperstack oblivus cudocompute scaleway tensordock datacrunch "
    "latitude crusoecloud massedcompute akash primeintellect primecompute dc_impala dc_kudu dc_roan "
    "nebius dc_eland dc_wildebeest vultr dc_gnu denvr"
)
GPU = words(
    "CPU_NODE A10_24GB A100_80GB A100_40GB A30_24GB A40_48GB B200_180GB B300_262GB GB200 GB300 "
    "RTX3070_8GB RTX3080_10GB RTX3080Ti_12GB RTX3090_24GB RTX3090Ti_24GB RTX4070Ti_12GB RTX4080_16GB "
    "RTX4080Ti_16GB RTX4090_24GB RTX5090_32GB H100_80GB H200_96GB GH200_96GB H200_141GB GH200_480GB "
    "GH200_624GB L4_24GB L40_48GB L40S_48GB RTX4000_8GB RTX5000_16GB RTX6000_24GB RTX8000_48GB "
    "RTX2000Ada_16GB RTX4000Ada_20GB RTX5000Ada_32GB RTX6000Ada_48GB A2000_6GB A4000_16GB A4500_20GB "
    "A5000_24GB A6000_48GB V100_16GB V100_32GB P100_16GB T4_16GB P4_8GB P40_24GB RTX_PRO_6000B_96GB"
)
IMAGE = words(
    "ubuntu_22_cuda_12 cuda_12_1_pytorch_2_2 cuda_11_8_pytorch_2_1 cuda_12_1_pytorch_2_3 "
    "cuda_12_1_pytorch_2_4 cuda_12_4_pytorch_2_4 cuda_12_4_pytorch_2_5 cuda_12_4_pytorch_2_6 "
    "cuda_12_6_pytorch_2_7 stable_diffusion axolotl bittensor hivemind petals_llama vllm_llama_8b "
    "vllm_llama_70b vllm_llama_405b custom_template flux prime_rl"
)
SOCKET = words("PCIe SXM2 SXM3 SXM4 SXM5 SXM6")
SECURITY = words("secure_cloud community_cloud")
REGION = words(
    "africa asia_south asia_northeast australia canada eu_east eu_north eu_west middle_east "
    "south_america united_states"
)
POD_STATE = words("PROVISIONING PENDING ACTIVE STOPPED ERROR DELETING UNKNOWN TERMINATED")
INSTALLATION = words("PENDING ACTIVE FINISHED ERROR TERMINATED")
STOCK = words("Available Low Medium High Unavailable")
BY_NODE = maybe(TEXT, many(maybe(TEXT)))
PORT = some(
    {"internal": TEXT, "external": TEXT, "protocol": words("TCP UDP")},
    {"usedBy": maybe(words("SSH JUPYTER_NOTEBOOK WEB_SERVER")), "description": maybe(TEXT)},
)
DISK = some(
    {"resourceType": words("DISK"), "id": {"anyOf": [TEXT, INTEGER]}},
    {
        "status": words("UNATTACHED ATTACHED MOUNTED"),
        "isDetachable": BOOLEAN,
        "mountPath": TEXT,
        "resourcePath": maybe(TEXT),
        "size": maybe(TEXT, INTEGER),
        "isShared": maybe(BOOLEAN),
    },
)
POD = some(
    {
        "userId": TEXT,
        "name": TEXT,
        "providerType": PROVIDER,
        "gpuName": GPU,
        "gpuCount": INTEGER,
        "socket": SOCKET,
        "priceHr": NUMBER,
    },
    {
        "id": TEXT,
        "teamId": maybe(TEXT),
        "walletId": maybe(TEXT),
        "type": words("HOSTED EXTERNAL"),
        "status": POD_STATE,
        "installationStatus": INSTALLATION,
        "installationFailure": maybe(TEXT),
        "installationProgress": maybe(INTEGER),
        "createdAt": DATE,
        "updatedAt": DATE,
        "terminatedAt": maybe(DATE),
        "stoppedPriceHr": maybe(NUMBER),
        "provisioningPriceHr": maybe(NUMBER),
        "environmentType": IMAGE,
        "customTemplateId": maybe(TEXT),
        "clusterId": maybe(TEXT),
        "primePortMapping": maybe(many(PORT)),
        "sshConnection": BY_NODE,
        "ip": BY_NODE,
        "resources": maybe(
            some({}, dict.fromkeys(("memory", "disk", "shared_disk", "vcpus"), maybe(INTEGER)))
        ),
        "attachedResources": maybe(many(DISK)),
        "isSpot": maybe(BOOLEAN),
        "autoRestart": maybe(BOOLEAN),
    },
)
STATUS = some(
    {"podId": TEXT, "providerType": PROVIDER, "status": POD_STATE},
    {
        "sshConnection": BY_NODE,
        "ip": BY_NODE,
        "installationStatus": maybe(INSTALLATION),
        "installationFailure": maybe(TEXT),
        "installationProgress": maybe(INTEGER),
    },
)
HISTORY = some(
    {
        "id": TEXT,
        "name": TEXT,
        "providerType": PROVIDER,
        "type": words("Instance Cluster Disk Sandbox Inference Image Training"),
        "createdAt": DATE,
        "gpuName": TEXT,
        "gpuCount": INTEGER,
        "priceHr": NUMBER,
        "userId": TEXT,
        "totalBilledPrice": NUMBER,
    },
    {
        "provisionedBy": maybe(TEXT),
        "terminatedAt": maybe(DATE),
        "socket": maybe(TEXT),
        "teamId": maybe(TEXT),
    },
)
KEY = some(
    {"id": TEXT, "userId": TEXT, "name": TEXT, "publicKey": TEXT, "isPrimary": BOOLEAN, "isUserKey": BOOLEAN},
    {"createdAt": DATE, "updatedAt": DATE},
)
AMOUNT = some(
    {},
    {
        "minCount": maybe(INTEGER),
        "defaultCount": maybe(INTEGER),
        "maxCount": maybe(INTEGER),
        "pricePerUnit": maybe(NUMBER),
        "step": maybe(INTEGER),
        "defaultIncludedInPrice": maybe(BOOLEAN),
        "additionalInfo": maybe(TEXT),
    },
)
OFFER = some(
    {
        "cloudId": TEXT,
        "gpuType": GPU,
        "socket": SOCKET,
        "provider": PROVIDER,
        "gpuCount": INTEGER,
        "gpuMemory": INTEGER,
        "security": SECURITY,
        "prices": some(
            {"currency": words("USD EUR")},
            {"onDemand": maybe(NUMBER), "communityPrice": maybe(NUMBER), "isVariable": maybe(BOOLEAN)},
        ),
        "images": many(IMAGE),
    },
    {
        "region": maybe(REGION),
        "dataCenter": maybe(TEXT),
        "country": maybe(TEXT),
        **dict.fromkeys(("disk", "sharedDisk", "vcpu", "memory"), AMOUNT),
        "internetSpeed": maybe(INTEGER),
        "interconnect": maybe(INTEGER),
        "interconnectType": maybe(TEXT),
        "provisioningTime": maybe(INTEGER),
        "stockStatus": STOCK,
        "isSpot": maybe(BOOLEAN),
        "prepaidTime": maybe(NUMBER),
    },
)
DISK_OFFER = some(
    {"provider": PROVIDER, "security": SECURITY},
    {
        "cloudId": maybe(TEXT),
        "dataCenter": maybe(TEXT),
        "country": maybe(TEXT),
        "region": maybe(REGION),
        "spec": AMOUNT,
        "stockStatus": STOCK,
        "isMultinode": maybe(BOOLEAN),
    },
)
PRICES = some({}, dict.fromkeys(("onDemand", "communityPrice", "spotPrice"), maybe(NUMBER)))
SUMMARY: Schema = {
    "type": "object",
    "additionalProperties": {"type": "object", "additionalProperties": some({}, {"cheapest": maybe(PRICES)})},
}
ORDER = some(
    {
        "pod": some(
            {"cloudId": TEXT, "gpuType": GPU, "socket": SOCKET, "gpuCount": POSITIVE},
            {
                "name": TEXT,
                "diskSize": maybe(POSITIVE),
                "vcpus": maybe(POSITIVE),
                "memory": maybe(POSITIVE),
                "maxPrice": maybe(NUMBER),
                "image": IMAGE,
                "customTemplateId": maybe(TEXT),
                "dataCenterId": maybe(TEXT),
                "country": maybe(TEXT),
                "security": maybe(SECURITY),
                "envVars": maybe(many(some({"key": TEXT, "value": TEXT}))),
                "jupyterPassword": maybe(TEXT),
                "sshKeyId": maybe(TEXT),
                "autoRestart": maybe(BOOLEAN),
                "prepaidForHr": maybe({"type": "number", "exclusiveMinimum": 0}),
            },
            closed=True,
        ),
        "provider": some({"type": PROVIDER}),
    },
    {
        "disks": maybe(many(TEXT)),
        "team": maybe(some({"teamId": TEXT})),
        "team_member_ids": maybe(many(TEXT)),
        "shared_with_team": BOOLEAN,
    },
)
ERRORS = some({"errors": many(some({"param": TEXT, "details": TEXT}))})


@frozen(kw_only=True)
class Operation:
    """What can be asked, with what, and what is answered with 200."""

    method: str
    path: str
    query: Schema
    """The schemas of the query's keys."""
    body: Schema | None
    answer: Schema
    schemas: Schema
    """What `$ref` refers to."""


def page(row: Schema) -> Schema:
    """A page of these rows."""
    return some(
        {"data": many(row)},
        {"total_count": INTEGER, "offset": NATURAL, "limit": NATURAL, "status": maybe(TEXT)},
    )


def items(row: Schema) -> Schema:
    """A page of offers."""
    return some({"items": many(row), "totalCount": INTEGER})


def retyped() -> list[Operation]:
    """All operations, as typed above."""
    paging: Schema = {"offset": INTEGER, "limit": INTEGER}
    numbered: Schema = {
        "page": {"type": "integer", "minimum": 1},
        "page_size": {"type": "integer", "minimum": 1, "maximum": 100},
        "regions": many(REGION),
        "data_center_id": TEXT,
        "cloud_id": TEXT,
    }
    machine: Schema = {
        **numbered,
        "gpu_count": INTEGER,
        "gpu_type": GPU,
        "socket": SOCKET,
        "security": SECURITY,
        "disks": many(TEXT),
    }
    by: Schema = {"sort_by": words("terminatedAt createdAt"), "sort_order": words("asc desc")}
    pods, market, keys = "/api/v1/pods", "/api/v1/availability", "/api/v1/ssh_keys/"
    table: list[tuple[str, str, Schema, Schema | None, Schema]] = [
        ("GET", f"{pods}/", paging, None, page(POD)),
        ("POST", f"{pods}/", {}, ORDER, POD),
        ("GET", f"{pods}/history", {**paging, **by}, None, page(HISTORY)),
        ("GET", f"{pods}/status", {"pod_ids": many(TEXT)}, None, some({"data": maybe(many(STATUS))})),
        ("GET", f"{pods}/{{pod_id}}", {}, None, POD),
        ("DELETE", f"{pods}/{{pod_id}}", {}, None, some({"status": POD_STATE})),
        ("GET", f"{pods}/{{pod_id}}/log", {"tail": INTEGER}, None, {}),
        ("GET", f"{market}/gpus", machine, None, items(OFFER)),
        ("GET", f"{market}/multi-node", machine, None, items(OFFER)),
        ("GET", f"{market}/gpu-summary", {}, None, SUMMARY),
        ("GET", f"{market}/disks", numbered, None, items(DISK_OFFER)),
        ("GET", keys, paging, None, page(KEY)),
        ("POST", keys, {}, some({"name": TEXT, "publicKey": TEXT}), KEY),
        ("DELETE", f"{keys}{{key_id}}", {}, None, {}),
        (
            "PATCH",
            f"{keys}{{key_id}}",
            {},
            some({}, {"isPrimary": maybe(BOOLEAN)}),
            some({"message": TEXT, "updated_fields": {"type": "object"}}),
        ),
    ]
    return [
        Operation(method=method, path=path, query=query, body=body, answer=answer, schemas={})
        for method, path, query, body, answer in table
    ]


def official() -> list[Operation]:
    """All operations of the vendor's document; none where it, or a parser for it, is missing."""
    try:
        parser = importlib.import_module("yaml")
        document = parser.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    except (ImportError, OSError):
        return []
    found: list[Operation] = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody")
            found.append(
                Operation(
                    method=method.upper(),
                    path=path,
                    query={
                        p["name"]: p["schema"] for p in operation.get("parameters", []) if p["in"] == "query"
                    },
                    body=body and _json_schema(body),
                    answer=_json_schema(operation["responses"]["200"]),
                    schemas=document["components"]["schemas"],
                )
            )
    return found


def _json_schema(part: Any) -> Schema:
    schema: Schema = part["content"]["application/json"]["schema"]
    return schema


def problems(value: Any, schema: Schema, schemas: Schema, at: str = "$") -> Iterator[str]:
    """Everything in which a JSON value breaks a schema."""
    schema = resolve(schema, schemas)
    if "anyOf" in schema and all(any(problems(value, each, schemas)) for each in schema["anyOf"]):
        yield f"{at}: {value!r} is none of {schema['anyOf']}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "type" in schema:
        yield from _type_problems(value, schema, schemas, at)


def resolve(schema: Schema, schemas: Schema) -> Schema:
    """Follow a reference."""
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def _type_problems(value: Any, schema: Schema, schemas: Schema, at: str) -> Iterator[str]:
    kind = schema["type"]
    is_number = kind in {"integer", "number"}
    if type(value) not in _TYPES[kind]:
        yield f"{at}: {value!r} is no {kind}"
    elif is_number and value < schema.get("minimum", value):
        yield f"{at}: {value} is too small"
    elif schema.get("format") == "date-time" and not _is_date(value):
        yield f"{at}: {value!r} is no date"
    elif kind == "array":
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), schemas, f"{at}[{index}]")
    elif kind == "object":
        yield from _object_problems(value, schema, schemas, at)


def _object_problems(value: Any, schema: Schema, schemas: Schema, at: str) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}.{name} is missing"
    others = schema.get("additionalProperties", {})
    for name, item in value.items():
        inner = schema.get("properties", {}).get(name, others if isinstance(others, dict) else {})
        yield from problems(item, inner, schemas, f"{at}.{name}")


def _is_date(value: str) -> bool:
    return (
        bool(re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", value))
        and datetime.fromisoformat(value).tzinfo is not None
    )
