"""``docs/asyncapi.yaml`` is valid AsyncAPI, and says the same as ``docs/protocol.md`` and the code."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema import Draft7Validator

from gateway.core.protocol import RESERVED, EndReason, ErrorCode
from tests.docs.asyncapi import ASYNCAPI, ASYNCAPI_TEXT, SENDERS, examples, problems, schemas
from tests.docs.test_documentation import PROTOCOL, rows
from tests.support.javascript import installed


def section(title: str) -> str:
    return PROTOCOL.partition(f"\n{title}\n")[2].partition("\n##")[0]


def first_words(title: str) -> set[str]:
    return {word for first, *_ in rows(section(title)) for word in re.findall(r"`(\w+)`", first)}


def test_it_is_valid_by_the_schema_of_asyncapi() -> None:
    folder = installed() / "node_modules" / "@asyncapi" / "specs" / "schemas"
    schema = json.loads((folder / "3.0.0.json").read_text("utf-8"))
    found = [
        f"{error.json_path}: {error.message}"
        for error in Draft7Validator(schema).iter_errors(ASYNCAPI)
    ]
    assert found == []
    broken = json.loads(json.dumps(ASYNCAPI))
    broken["operations"]["fromClient"]["action"] = "publish"
    assert not Draft7Validator(schema).is_valid(broken)


@pytest.mark.parametrize(
    ("sender", "title"), [("client", "### From the client"), ("server", "### From the server")]
)
def test_both_name_the_same_messages(sender: str, title: str) -> None:
    told = first_words(title)
    assert told == schemas(sender).keys() - {"data"}
    assert {"the namespace"} & {first for first, *_ in rows(section(title))} == (
        {"the namespace"} if sender == "server" else set()
    )


def test_both_name_the_same_codes_as_the_code() -> None:
    listed = ASYNCAPI["components"]["schemas"]["errorCode"]["enum"]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*ErrorCode} == first_words("## Errors")
    unsubscribed = ASYNCAPI["components"]["messages"]["unsubscribed"]["payload"]
    assert set(unsubscribed["properties"]["reason"]["enum"]) == {*EndReason}
    data = ASYNCAPI["components"]["messages"]["data"]["payload"]
    assert set(data["properties"]["type"]["not"]["enum"]) == RESERVED


def test_both_name_the_same_close_codes_and_what_follows() -> None:
    listed = {
        (each["code"], reason): each["reconnect"]
        for each in ASYNCAPI["channels"]["socket"]["x-close-codes"]
        for reason in each.get("reasons", [""])
    }
    told = {
        (int(code), reason): not again.startswith("no,")
        for codes, reasons, _, again in rows(section("## Close codes"))
        for code in re.findall(r"\d+", codes)
        for reason in re.findall(r"`(\w+)`", reasons) or [""]
    }
    assert listed == told


def test_both_name_the_same_refusals_in_http() -> None:
    listed = {(each["status"], code) for each in ASYNCAPI["x-refusals"] for code in each["codes"]}
    told = {
        (int(status), code)
        for status, codes, _ in rows(section("### Refused before the upgrade"))
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert listed == told


@pytest.mark.parametrize("sender", SENDERS)
def test_every_example_is_valid(sender: str) -> None:
    shown = examples(PROTOCOL, sender)
    assert shown
    assert [(each, problems(sender, each)) for each in shown if problems(sender, each)] == []
    assert problems(sender, {"type": "ack" if sender == "client" else "unsubscribed"})


@pytest.mark.parametrize("sender", ["client", "server"])
def test_every_message_has_an_example(sender: str) -> None:
    shown = {each["type"] for each in examples(PROTOCOL, sender)}
    assert shown >= schemas(sender).keys() - {"data"}


def test_the_same_messages_come_and_go_without_a_websocket() -> None:
    for sender in ("stream", "poll"):
        assert schemas(sender).keys() == schemas("server").keys()
    said = [ASYNCAPI["operations"][name]["messages"] for name in ("toStream", "toPoll")]
    names = [[each["$ref"].rpartition("/")[2] for each in messages] for messages in said]
    websocket = ASYNCAPI["operations"]["fromClient"]["messages"]
    assert names == [[each["$ref"].rpartition("/")[2] for each in websocket]] * 2


def test_its_references_lead_somewhere() -> None:
    for reference in re.findall(r"\$ref: '#/([^']+)'", ASYNCAPI_TEXT):
        found = ASYNCAPI
        for part in reference.split("/"):
            found = found[part]


def test_both_name_the_same_parameters() -> None:
    page = section("## Without a WebSocket") + PROTOCOL.partition("### Event streams")[2]
    for name in ("fromStream", "fromPoll"):
        for parameter in ASYNCAPI["operations"][name]["bindings"]["http"]["query"]["properties"]:
            assert f"`{parameter}`" in page, parameter
