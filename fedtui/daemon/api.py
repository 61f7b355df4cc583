"""The HTTP API on the Unix socket: each route reads a request, asks the supervisor, answers JSON. See docs/api.md."""
from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fedtui.daemon import progress
from fedtui.daemon.commands import RunWish
from fedtui.daemon.keeper import Keeper
from fedtui.daemon.supervisor import Refused, Supervisor, UnknownProcess
from fedtui.daemon.view import failure, memory, view
from fedtui.processes import CLIENT_HOST
from poweranger.errors import UserError

BODY_BYTES = 1 << 16
LOG_BYTES = 1 << 20  # the most that one answer carries
HISTORY = 100  # decisions of the memory guard in an answer
ACTIONS = ("start", "stop", "restart", "kill")

Info = Callable[[], dict[str, Any]]


def build(supervisor: Supervisor, keeper: Keeper, info: Info, end: Callable[[], None]) -> Starlette:
    """The application; `info` describes the daemon, `end` ends it."""

    async def get_info(_: Request) -> Any:
        return info()

    async def get_processes(_: Request) -> Any:
        keeper.measure()
        return supervisor.shown()

    async def up(request: Request) -> Any:
        body = await _body(request, clients=int, synthetic=bool, rounds=int, set=dict, run_name=str, resume=str, force=bool)
        settings = dict(body.get("set", {}))
        if "rounds" in body:
            settings["num-server-rounds"] = body["rounds"]
        if body.get("clients", 1) < 1:
            raise UserError(f"clients = {body['clients']} is not allowed: start at least one")
        wish = RunWish.of(settings, run_name=body.get("run_name"), resume=body.get("resume"))
        notes = await supervisor.up(wish, body.get("clients"), synthetic=body.get("synthetic", False), force=body.get("force", False))
        return {"processes": supervisor.shown(), "notes": notes}

    async def down(request: Request) -> Any:
        await _body(request)
        await supervisor.down()
        return {"processes": supervisor.shown()}

    async def act(request: Request) -> Any:
        name, action = request.path_params["name"], request.path_params["action"]
        if action not in ACTIONS:
            raise UnknownProcess(f"there is no action {action!r}: {', '.join(ACTIONS)}")
        body = await _body(request, force=bool)
        if action in ("start", "restart"):
            return view(await getattr(supervisor, action)(name, force=body.get("force", False)))
        return view(await getattr(supervisor, action)(name))

    async def get_failure(request: Request) -> Any:
        name = request.path_params["name"]
        card = failure(supervisor.find(name))
        if card is None:
            raise UnknownProcess(f"{name} has not failed")
        return card

    async def get_log(request: Request) -> Any:
        process = supervisor.find(request.path_params["name"])
        limit = _number(request, "limit", LOG_BYTES)
        if limit < 4:
            raise UserError("limit takes at least 4 bytes")
        return process.log.read(_number(request, "offset", 0), min(limit, LOG_BYTES))

    async def get_memory(_: Request) -> Any:
        keeper.measure()
        guard = supervisor.guard
        processes = [memory(process.record.name, process.usage) | guard.needs(process) for process in supervisor.listed() if process.live]
        if supervisor.host.alive:
            processes.append(memory(CLIENT_HOST, supervisor.host.usage) | guard.host_needs())
        return {"machine": guard.reading.to_json(), "processes": processes, "guard": guard.to_json()}

    async def get_memory_history(request: Request) -> Any:
        return supervisor.guard.history.last(max(_number(request, "limit", HISTORY), 1))

    async def get_progress(_: Request) -> Any:
        return progress.read(supervisor.project.results)

    async def get_events(_: Request) -> Response:
        return StreamingResponse(_lines(supervisor), media_type="application/x-ndjson")

    async def simulate(request: Request) -> Any:
        body = await _body(request, supernodes=int, set=dict, data_dir=str)
        wish = RunWish.of(body.get("set", {}), supernodes=body.get("supernodes"), data_dir=body.get("data_dir"))
        return view(await supervisor.simulate(wish))

    async def shutdown(request: Request) -> Any:
        body = await _body(request, stop=bool)
        if active := supervisor.active:
            if not body.get("stop"):
                raise Refused(f"{', '.join(active)} still run: stop them first, or with the daemon")
            await supervisor.down()
        end()
        return {}

    def route(path: str, handle: Callable[[Request], Awaitable[Any]], method: str = "GET") -> Route:
        async def answer(request: Request) -> Response:
            keeper.used()
            try:
                result = await handle(request)
            except UserError as error:
                return JSONResponse({"error": str(error)}, _status(error))
            return result if isinstance(result, Response) else JSONResponse(result)

        return Route(path, answer, methods=[method])

    return Starlette(
        routes=[
            route("/v1/info", get_info),
            route("/v1/processes", get_processes),
            route("/v1/processes/{name}/failure", get_failure),
            route("/v1/processes/{name}/{action}", act, "POST"),
            route("/v1/up", up, "POST"),
            route("/v1/down", down, "POST"),
            route("/v1/simulate", simulate, "POST"),
            route("/v1/logs/{name}", get_log),
            route("/v1/memory", get_memory),
            route("/v1/memory/history", get_memory_history),
            route("/v1/progress", get_progress),
            route("/v1/events", get_events),
            route("/v1/shutdown", shutdown, "POST"),
        ],
        exception_handlers={HTTPException: _plain, Exception: _broken},
    )


async def _lines(supervisor: Supervisor) -> AsyncIterator[bytes]:
    """Events, one JSON object a line; the first says that the stream stands."""
    yield b'{"event": "hello"}\n'
    async for event in supervisor.broadcast.subscribe():
        yield json.dumps(event).encode() + b"\n"


async def _body(request: Request, **kinds: type) -> dict[str, Any]:
    """The request's JSON object with only these keys, of these types; null counts as absent.

    Raises
    ------
    UserError
        When it is something else.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_BYTES:
            raise UserError(f"the body is over {BODY_BYTES} bytes")
    try:
        body = json.loads(data or b"{}")
    except ValueError as error:
        raise UserError(f"the body is no JSON: {error}") from None
    if not isinstance(body, Mapping):
        raise UserError("the body is no JSON object")
    for name, value in body.items():
        if name not in kinds:
            raise UserError(f"the body has no key {name!r}: {', '.join(kinds) or 'it takes none'}")
        if value is not None and type(value) is not kinds[name]:
            raise UserError(f"{name} = {value!r} is not allowed: it takes a JSON {_JSON_NAMES[kinds[name]]}")
    return {name: value for name, value in body.items() if value is not None}


_JSON_NAMES = {int: "integer", str: "string", bool: "true or false", dict: "object"}


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    try:
        return int(text[:20])
    except ValueError:
        raise UserError(f"{name} = {text!r} is no integer") from None


def _status(error: UserError) -> int:
    return 404 if isinstance(error, UnknownProcess) else 409 if isinstance(error, Refused) else 400


async def _plain(_: Request, error: Exception) -> Response:
    """An unknown path or a wrong method, in the form of all other errors."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    """A mistake of ours: the traceback goes to the daemon's log."""
    return JSONResponse({"error": f"the daemon made a mistake ({type(error).__name__}: {error}); its log in {os.fspath(request.app.state.log)} says more"}, 500)
