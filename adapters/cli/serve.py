"""`messaging serve`: one server, or a supervisor and its workers."""

import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version

import click
import structlog
import trio
from attrs import asdict, evolve

from adapters.cli.address import shared_address
from adapters.cli.composition import (
    Server,
    Unusable,
    cannot_listen,
    command_error,
    first_of,
    must_be_shareable,
    run_server,
)
from adapters.cli.held_signals import hold_signals
from adapters.cli.logs import configure_logs
from adapters.cli.memory import Memory
from adapters.cli.os_signals import heed_signals, ignored
from adapters.cli.settings import Settings, misspelt, setting_named, settings_from, settings_options
from adapters.cli.streams import make_stdout_lossy
from adapters.cli.supervisor import Plan, supervise
from adapters.cli.worker import Channel, Supervised, supervised
from adapters.storage_sql import DatabaseUnusable

log = structlog.get_logger("adapters.cli")

SPARE_TIME = 5.0
"""Seconds beyond the time limit for draining after which a worker is killed."""


@click.command()
@settings_options
def serve(**options: object) -> None:
    """Serve the API and the socket until SIGTERM, SIGQUIT or Ctrl-C.

    At the first signal the server stops listening, closes its sockets with code 1012, finishes the requests
    in flight, and ends; at the second it ends at once. With several workers, SIGHUP replaces one after
    another; a single process logs and ignores it. SIGUSR1 and SIGUSR2 are logged and have no effect.
    """
    settings = settings_from(options)
    worker = supervised()
    mistakes = misspelt()
    if mistakes and settings.strict_settings:
        listed = ". ".join(map(str, mistakes))
        raise Unusable(
            f"{listed}. Rename or remove what is no setting, or turn {setting_named('strict_settings')} off"
        )
    if worker is not None:
        _run(partial(_work, settings, worker), settings, worker.number)
    elif settings.workers == 1:
        _run(partial(_serve, settings), settings)
    else:
        sys.exit(_run(partial(_supervise, settings), settings))


def _run(main: Callable[[], Awaitable[int]], settings: Settings, worker: int | None = None) -> int:
    """Run `main` to its end; a fault that an operator can fix ends it with one line.

    The exit status is 2 for a wrong setting, and 1 for a cause that may pass, after which a restart can help.
    """
    hold_signals()
    configure_logs(settings.log_level, settings.log_format, worker)
    if worker is None:
        for mistake in misspelt():
            log.warning("unknown_variable", name=mistake.name, nearest=mistake.nearest)
    make_stdout_lossy()
    try:
        return trio.run(main)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    except BaseExceptionGroup as group:
        expected, unforeseen = group.split((click.ClickException, DatabaseUnusable, ImportError, OSError))
        if expected is None or unforeseen is not None:
            raise
        cause = first_of(expected)
        if isinstance(cause, ImportError):
            raise cause from None
        raise cause if isinstance(cause, click.ClickException) else command_error(cause) from None


async def _serve(settings: Settings) -> int:
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Memory().keep_trimmed)
        await nursery.start(heed_signals, partial(_end, shutdown), _refuse_to_renew)
        server: Server = await nursery.start(partial(_run_server, settings, shutdown, nursery.cancel_scope))
        _greet(server, settings)
    return 0


async def _work(settings: Settings, worker: Supervised) -> int:
    """Serve as one of several workers; the supervisor's end also ends this process, in an orderly way."""
    shutdown = trio.Event()
    channel = Channel(worker)
    settings = evolve(settings, listener=evolve(settings.listener, inherited=worker.listen))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Memory().keep_trimmed)
        # A second SIGTERM is no order to end at once: it may come from another sender than the supervisor,
        # which kills a worker that must end.
        await nursery.start(heed_signals, lambda _: shutdown.set(), _leave_renewing)
        nursery.start_soon(_await_the_supervisors_end, channel, shutdown)
        server: Server = await nursery.start(partial(_run_server, settings, shutdown, nursery.cancel_scope))
        await channel.serves(asdict(server))
    return 0


async def _supervise(settings: Settings) -> int:
    must_be_shareable(settings)
    listener = settings.listener
    plan = Plan(
        command=(sys.executable, *sys.orig_argv[1:]),
        workers=settings.workers,
        patience=listener.drain_time + listener.shutdown_time + SPARE_TIME,
    )
    with ExitStack() as held:
        try:
            address = held.enter_context(shared_address(*settings.bind, listener.backlog))
        except OSError as error:
            raise cannot_listen(settings, error) from None
        return await supervise(plan, address, partial(_greet_for_all, settings))


def _greet_for_all(settings: Settings, report: bytes) -> None:
    _greet(Server(**json.loads(report)), settings)


def _spare_the_collector() -> None:
    """Exclude the loaded modules from cyclic garbage collection.

    Each full collection of them would block the event loop for some 50 ms and free nothing; requests create
    hardly any cycles.
    """
    gc.freeze()


async def _run_server(
    settings: Settings,
    shutdown: trio.Event,
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    await run_server(settings, shutdown=shutdown, loaded=_spare_the_collector, task_status=task_status)
    scope.cancel()


def _end(shutdown: trio.Event, number: int) -> None:
    if shutdown.is_set():
        os._exit(128 + number)  # the second signal: do not wait for requests in flight
    shutdown.set()


def _refuse_to_renew() -> None:
    reason = "it replaces workers, and --workers is 1: to have settings read anew, restart the server"
    ignored(signal.SIGHUP, reason)


def _leave_renewing() -> None:
    ignored(signal.SIGHUP, "it is for the supervisor, which replaces its workers")


async def _await_the_supervisors_end(channel: Channel, shutdown: trio.Event) -> None:
    await channel.until_left_alone()
    shutdown.set()


def _greet(server: Server, settings: Settings) -> None:
    click.echo(f"messaging-core {version('messaging-core')}")
    for address in server.addresses:
        click.echo(f"  API       {address}/api/v1")
        click.echo(f"  Socket    {address.replace('http', 'ws', 1)}/ws?token=<access_token>")
        if settings.docs:
            click.echo(f"  Docs      {address}/docs")
    click.echo(f"  Database  {server.database}")
    if settings.workers > 1:
        click.echo(f"  Workers   {settings.workers}")
    for warning in (*server.warnings, *map(str, misspelt())):
        click.echo(f"  Warning   {warning}.")
