"""The API's schema, as the tests' own document has it and as the vendor's has; and a validator of JSON."""

import importlib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen

Schema = dict[str, Any]

yaml: Any = importlib.import_module("yaml")  # which has no types

RETYPED = Path(__file__).parents[1] / "fixtures" / "schema.yml"
DOCUMENT = Path(__file__).parents[3] / "shared" / "api" / "openapi-pods.yml"
"""The vendor's, where it lies beside the repository: the tests read that, too."""

TYPES: dict[str, Schema] = {
    **{name: {"type": name} for name in ("integer", "number", "boolean", "null")},
    "text": {"type": "string"},
    "date": {"type": "string", "format": "date-time"},
    "natural": {"type": "integer", "minimum": 0},
    "positive": {"type": "integer", "exclusiveMinimum": 0},
    "positive number": {"type": "number", "exclusiveMinimum": 0},
    "page": {"type": "integer", "minimum": 1},
    "page size": {"type": "integer", "minimum": 1, "maximum": 100},
    "anything": {},
}
"""What the tests' document calls them."""
ERRORS: Schema = {
    "type": "object",
    "properties": {
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": dict.fromkeys(("param", "details"), TYPES["text"]),
                "required": ["param", "details"],
            },
        }
    },
    "required": ["errors"],
}


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


def parse(short: Any) -> Schema:
    """Write a type of the tests' document as JSON Schema has it."""
    match short:
        case str() if short.endswith("?"):
            schema: Schema = {"anyOf": [parse(short[:-1]), TYPES["null"]]}
        case str():
            schema = TYPES.get(short, {"$ref": f"#/{short}"})
        case [item]:
            schema = {"type": "array", "items": parse(item)}
        case {"words": words}:
            schema = {"enum": words.split()}
        case {"maybe": inner}:
            schema = {"anyOf": [parse(inner), TYPES["null"]]}
        case {"any": several}:
            schema = {"anyOf": [parse(inner) for inner in several]}
        case {"map": inner}:
            schema = {"type": "object", "additionalProperties": parse(inner)}
        case _:
            fields = {name: inner for name, inner in short.items() if name != "closed"}
            schema = {
                "type": "object",
                "properties": {name.removesuffix("?"): parse(inner) for name, inner in fields.items()},
                "required": [name for name in fields if not name.endswith("?")],
            } | ({"additionalProperties": False} if "closed" in short else {})
    return schema


def retyped() -> list[Operation]:
    """All operations of the tests' own document."""
    document = yaml.safe_load(RETYPED.read_text(encoding="utf-8"))
    schemas = {name: parse(short) for name, short in document["schemas"].items()}
    return [
        Operation(
            method=name.partition(" ")[0],
            path=name.partition(" ")[2],
            query={key: parse(short) for key, short in operation.get("query", {}).items()},
            body=parse(operation["body"]) if "body" in operation else None,
            answer=parse(operation["answer"]),
            schemas=schemas,
        )
        for name, operation in document["operations"].items()
    ]


def official() -> list[Operation]:
    """All operations of the vendor's document; none where it is missing."""
    if not DOCUMENT.exists():
        return []
    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
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
