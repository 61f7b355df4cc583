"""What this project expects of Flower's private names, name by name.

When a new version of Flower changes one, the test says which and how: correct the adapter, then this table.
"""
from __future__ import annotations

import ast
import importlib
import inspect
import time
from pathlib import Path
from types import ModuleType

import pytest
from flwr.app import Error, Message, RecordDict

from poweranger.server.superlink import Link

PACKAGE = Path(__file__).resolve().parents[2] / "poweranger"
ADAPTERS = {*(PACKAGE / "client" / f"{name}.py" for name in ("node", "membership", "connection")), PACKAGE / "privacy" / "secagg.py", *(PACKAGE / "server" / "superlink").glob("*.py")}
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy", "flwr.simulation"}

# A function's or class's parameters, a constant's value, or the names that we use of a module or class.
CONTRACT: dict[str, object] = {
    "flwr.app.message.message.remove_content_from_message": "message",
    "flwr.cli.build.build_fab_from_files": "files",
    "flwr.cli.config_utils.get_fab_metadata": "fab_file",
    "flwr.common.constant.ErrorCode": {"NODE_UNAVAILABLE", "CLIENT_APP_RAISED_EXCEPTION"},
    "flwr.common.constant.HEARTBEAT_DEFAULT_INTERVAL": 30,
    "flwr.common.constant.NOOP_ACCOUNT_NAME": "none",
    "flwr.common.constant.NOOP_FLWR_AID": "<id:none>",
    "flwr.common.constant.SUPERLINK_NODE_ID": 1,
    "flwr.common.constant.SubStatus": {"COMPLETED", "FAILED"},
    "flwr.common.constant.TIMESTAMP_HEADER": "flwr-timestamp",
    "flwr.common.secure_aggregation.crypto.shamir.combine_shares": "share_list",
    "flwr.common.secure_aggregation.crypto.shamir.create_shares": "secret threshold num",
    "flwr.common.secure_aggregation.crypto.symmetric_encryption.decrypt": "key ciphertext",
    "flwr.common.secure_aggregation.crypto.symmetric_encryption.encrypt": "key plaintext",
    "flwr.common.secure_aggregation.crypto.symmetric_encryption.generate_shared_key": "private_key public_key",
    "flwr.common.secure_aggregation.secaggplus_utils.share_keys_plaintext_concat": "src_node_id dst_node_id b_share sk_share",
    "flwr.common.secure_aggregation.secaggplus_utils.share_keys_plaintext_separate": "plaintext",
    "flwr.common.serde.message_from_proto": "message_proto",
    "flwr.common.serde.message_to_proto": "message",
    "flwr.proto.fleet_pb2": {
        f"{call}{side}" for side in ("Request", "Response")
        for call in ("RegisterNodeFleet", "ActivateNode", "DeactivateNode", "UnregisterNodeFleet", "PullMessages", "PushMessages")
    },
    "flwr.proto.heartbeat_pb2": {"SendNodeHeartbeatRequest", "SendNodeHeartbeatResponse"},
    "flwr.proto.message_pb2": {f"{call}{side}" for side in ("Request", "Response") for call in ("PullObject", "PushObject", "ConfirmMessageReceived")},
    "flwr.proto.message_pb2.ObjectTree": {"object_id", "children"},
    "flwr.proto.node_pb2": {"Node"},
    "flwr.proto.node_pb2.NodeInfo": {"node_id", "name", "status", "online_until", "last_activated_at"},
    "flwr.server.superlink.linkstate.in_memory_linkstate.InMemoryLinkState": "federation_manager object_store",
    "flwr.supercore.constant.FLEET_HTTP_PUBLIC_KEY_HEADER": "flwr-public-key",
    "flwr.supercore.constant.FLEET_HTTP_SIGNATURE_HEADER": "flwr-signature",
    "flwr.supercore.constant.NOOP_FEDERATION_ID": "@none/default",
    "flwr.supercore.constant.NodeStatus": {"ONLINE"},
    "flwr.supercore.constant.TaskType": {"SERVER_APP"},
    "flwr.supercore.error.http_error_translator": "request call_next",
    "flwr.supercore.fab.Fab": "hash_str content verifications",
    "flwr.supercore.inflatable.inflatable_object.get_all_nested_objects": "obj",
    "flwr.supercore.inflatable.inflatable_object.get_object_tree": "obj",
    "flwr.supercore.inflatable.inflatable_object.iterate_object_tree": "tree",
    "flwr.supercore.inflatable.inflatable_object.no_object_id_recompute": "",
    "flwr.supercore.inflatable.inflatable_utils.inflate_object_from_contents": "object_id object_contents keep_object_contents objects",
    "flwr.supercore.object_store.NoObjectInStoreError": "message",
    "flwr.supercore.object_store.in_memory_object_store.InMemoryObjectStore": "verify",
    "flwr.supercore.protobuf.constants.PROTOBUF_MEDIA_TYPE": "application/protobuf",
    "flwr.supercore.protobuf.translation.PROTOBUF_REQUEST_TYPES": {
        ("POST", f"/v1/fleet/{name}") for name in (
            "register-node", "activate-node", "deactivate-node", "unregister-node", "send-node-heartbeat", "pull-messages",
            "push-messages", "get-run", "get-fab", "push-object", "pull-object", "confirm-message-received",
        )
    },
    "flwr.supercore.run.Run": {"run_id", "primary_task_id"},
    "flwr.supercore.constant.FLWR_COMPONENT_NAME_METADATA_KEY": "flwr-component-name",
    "flwr.supercore.constant.FLWR_PACKAGE_NAME_METADATA_KEY": "flwr-package-name",
    "flwr.supercore.constant.FLWR_PACKAGE_VERSION_METADATA_KEY": "flwr-package-version",
    "flwr.supercore.task_identity.TaskIdentity": {"task_id", "run_id", "node_id"},
    "flwr.superlink.federation.NoOpFederationManager": "simulation",
    "flwr.common.constant.SYSTEM_TIME_TOLERANCE": 5,
    "flwr.common.constant.TIMESTAMP_TOLERANCE": 300,
    "flwr.supercore.date.now": "",
    "flwr.supercore.primitives.asymmetric.bytes_to_public_key": "public_key_bytes",
    "flwr.supercore.primitives.asymmetric.verify_signature": "public_key message signature",
    "flwr.superlink.servicer.fleet.fleet_handlers": {
        "register_node", "activate_node", "deactivate_node", "unregister_node", "send_node_heartbeat", "pull_messages",
        "push_messages", "get_run", "get_fab", "push_object", "pull_object", "confirm_message_received",
    },
}
STATE_CALLS = {  # of InMemoryLinkState: parameters we pass
    "create_node": "owner_aid owner_name public_key heartbeat_interval name",
    "create_run": "fab_id fab_version fab_hash override_config federation_id federation_config flwr_aid primary_task_type",
    "get_run_info": "run_ids", "claim_task": "task_id", "activate_task": "task_id", "finish_task": "task_id sub_status details",
    "cleanup_run": "run_id", "store_fab": "fab", "get_nodes": "run_id", "get_node_info": "node_ids", "store_message_ins": "message",
    "get_message_res": "message_ids run_id", "delete_messages": "message_ins_ids", "get_object": "run_id object_id",
    "get_node_id_by_public_key": "public_key", "deactivate_node": "node_id",
}
HANDLER_PARAMETERS = {"request", "state", "store", "enable_supernode_auth"}


def _private_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr" and node.module not in PUBLIC:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "flwr" and alias.name not in PUBLIC}
    return found


def _find(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute, None)
    return importlib.import_module(name) if found is None else found


def _parameters(thing: object) -> list[str]:
    return [name for name in inspect.signature(thing).parameters if name != "self"]  # type: ignore[arg-type]


def _names(thing: object) -> set[object]:
    if isinstance(thing, dict):
        return set(thing)
    if hasattr(thing, "DESCRIPTOR") and not isinstance(thing, ModuleType):
        return {field.name for field in thing.DESCRIPTOR.fields}
    return set(dir(thing)) | set(dir(type(thing))) | set(getattr(thing, "__dataclass_fields__", ()))


def test_private_names_are_used_in_the_adapters_only() -> None:
    others = {path: names for path in PACKAGE.rglob("*.py") if path not in ADAPTERS and (names := _private_imports(path))}
    assert not others, "these modules may use Flower's public names only"


def test_the_table_lists_what_the_adapters_use() -> None:
    assert set(CONTRACT) == set().union(*map(_private_imports, ADAPTERS))


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_flower_still_has_it(name: str) -> None:
    expected, thing = CONTRACT[name], _find(name)
    if isinstance(expected, set):
        names = _names(thing) | (set(thing.DESCRIPTOR.message_types_by_name) if isinstance(thing, ModuleType) and hasattr(thing, "DESCRIPTOR") else set())
        assert expected <= names, f"{name} lost {sorted(map(str, expected - names))}"
    elif callable(thing):
        assert " ".join(_parameters(thing)) == expected, f"{name} takes other parameters now"
    else:
        assert thing == expected, f"{name} has another value now"


@pytest.mark.parametrize("name", sorted(STATE_CALLS))
def test_the_states_methods_take_what_we_pass(name: str) -> None:
    state = _find("flwr.server.superlink.linkstate.in_memory_linkstate.InMemoryLinkState")
    lost = set(STATE_CALLS[name].split()) - set(_parameters(getattr(state, name)))
    assert not lost, f"InMemoryLinkState.{name} has no parameter {sorted(lost)} any more"


def test_the_handlers_ask_for_nothing_new() -> None:
    handlers = _find("flwr.superlink.servicer.fleet.fleet_handlers")
    for name in CONTRACT["flwr.superlink.servicer.fleet.fleet_handlers"]:  # type: ignore[attr-defined]
        new = set(_parameters(getattr(handlers, name))) - HANDLER_PARAMETERS
        assert not new, f"fleet_handlers.{name} wants {sorted(new)}, too: give it in FleetApp"


def test_what_the_state_does_beyond_signatures() -> None:
    """The grid and the link count on these."""
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        state = link.state
        with state.lock, state.object_store.lock_store:  # reentrant, and ours to hold
            pass
        (token,) = state.task_token_store.values()
        assert token.active_until.year == 9999, "a run's heartbeats are switched off by its token's end"
        node = state.create_node("<id:none>", "none", b"key", 30)
        assert state.activate_node(node, 30)
        assert not state.activate_node(node, 30), "an active node must be deactivated first: FleetApp does"
        (info,) = grid.get_nodes()
        assert info.online_until > time.time() + 50
        message = Message(RecordDict({}), node, "train")
        (message_id,) = grid.push_messages([message])
        stored = grid._open[message_id].message
        assert stored.metadata.delivered_at == ""
        assert len(state.get_message_ins(node, 1)) == 1
        assert stored.metadata.delivered_at, "the state notes the delivery in the object that it was given"
        assert {"message_ins_id_to_message_res_id"} <= vars(state).keys(), "the grid looks there for replies"
        assert message_id in state.message_ins_store, "what is there and has no reply is handed out again when it was lost"
        assert state.node_public_key_to_node_id == {b"key": node}, "a revoked key is taken out there"
        reply = Message(Error(0, "x"), reply_to=stored)
        assert (reply.metadata.src_node_id, reply.metadata.reply_to_message_id) == (node, message_id)
        assert state.deactivate_node(node)
        (reply,) = grid.pull_messages([message_id])
        assert reply.metadata.src_node_id == node
        assert len(state.object_store) == 0
