"""`messaging`: the command that people type."""

import gc
import os
import signal
from functools import partial
from importlib.metadata import version

import click
import trio

from adapters.checklist.command import check
from adapters.cli.composition import Server, Unusable, first_of, run_server
from adapters.cli.logs import configure_logs
from adapters.cli.settings import Settings, settings_from, settings_options
from adapters.storage_sql import DatabaseUnusable

COLLECT_AFTER = 20_000
"""Objects that outlive their making; Python's 700 means a look at the young ones every few requests."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("messaging-core"), prog_name="messaging")
def main() -> None:
    """A messaging backend: direct chats and groups over HTTP, live over WebSocket."""


main.add_command(check)


@main.command()
@settings_options
def serve(**options: object) -> None:
    """Serve the API and the socket until SIGTERM or Ctrl-C.

    At the first signal the server stops listening, closes its sockets with code 1012, finishes what is in
    flight, and ends; at the second it ends at once.
    """
    settings = settings_from(options)
    configure_logs(settings.log_level, settings.log_format)
    try:
        trio.run(_serve, settings)
    except BaseExceptionGroup as group:
        told, unforeseen = group.split((Unusable, DatabaseUnusable, OSError))
        if told is None or unforeseen is not None:
            raise
        raise click.ClickException(str(first_of(told))) from None


async def _serve(settings: Settings) -> None:
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_await_signals, shutdown)
        server: Server = await nursery.start(partial(_run, settings, shutdown, nursery.cancel_scope))
        _spare_the_collector()
        _greet(server, docs=settings.docs)


def _spare_the_collector() -> None:
    """Take what has been loaded out of the cyclic garbage collector's sight, and have it look less often.

    It would go through all of it again and again, some 50 ms at a time in which nobody is answered; requests
    make hardly any cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


async def _run(
    settings: Settings,
    shutdown: trio.Event,
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    await run_server(settings, shutdown=shutdown, task_status=task_status)
    scope.cancel()


async def _await_signals(shutdown: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if shutdown.is_set():
                os._exit(128 + number)  # whatever is still under way has had its chance
            shutdown.set()


def _greet(server: Server, *, docs: bool) -> None:
    click.echo(f"messaging-core {version('messaging-core')}")
    for address in server.addresses:
        click.echo(f"  API       {address}/api/v1")
        click.echo(f"  Socket    {address.replace('http', 'ws', 1)}/ws?token=<access_token>")
        if docs:
            click.echo(f"  Docs      {address}/docs")
    click.echo(f"  Database  {server.database}")
    for warning in server.warnings:
        click.echo(f"  Warning   {warning}.")
