"""``python -m scripts.sandbox``: prints one line, ``listening on http://HOST:PORT``, and serves.

Ends cleanly on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from aiohttp import web

from scripts.sandbox.app import create_app
from scripts.sandbox.keys import Options

#: What requests in hand get to finish after SIGTERM; hanging ones have been let go by then.
SHUTDOWN_S = 5.0


def main() -> None:
    arguments = _parser().parse_args()
    pay_after_s = None if arguments.pay_after == "off" else float(arguments.pay_after)
    options = Options(
        api_key=arguments.api_key,
        read_key=arguments.read_key,
        network=arguments.network,
        pay_after_s=pay_after_s,
        confirm_after_s=arguments.confirm_after,
        refusal_delay_s=arguments.refusal_delay,
        state=arguments.state,
    )
    asyncio.run(_serve(options, arguments.host, arguments.port))


async def _serve(options: Options, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(create_app(options), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        print(f"listening on http://{bound[0]}:{bound[1]}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.sandbox",
        description="A payment service to develop and test against.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one (the default)")
    parser.add_argument(
        "--api-key",
        default=os.environ.get("SANDBOX_API_KEY", "sandbox"),
        help="what clients send as the header 'token' (or the variable SANDBOX_API_KEY)",
    )
    parser.add_argument("--read-key", help="a second key, which may read but not pay")
    parser.add_argument("--network", choices=["Preprod", "Mainnet"], default="Preprod")
    parser.add_argument(
        "--pay-after", default="1.0", metavar="SECONDS", help="'off': only when told to"
    )
    parser.add_argument("--confirm-after", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument(
        "--refusal-delay", type=float, default=0.0, metavar="SECONDS", help="before a 401, at most"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="payments survive a restart here"
    )
    return parser


if __name__ == "__main__":
    main()
