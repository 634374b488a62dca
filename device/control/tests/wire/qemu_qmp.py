# SPDX-License-Identifier: MIT OR Apache-2.0
"""Drives the control socket with qemu.qmp's own client. Usage: qemu_qmp.py SOCKET; prints "ok" and nothing else."""

import asyncio
import sys

from qemu.qmp import EventListener, ExecuteError, QMPClient


async def drive(path: str) -> None:
    qmp = QMPClient("sdmorph")
    inserted = EventListener(names="CARD_INSERTED")
    qmp.register_listener(inserted)
    await qmp.connect(path)
    assert qmp.greeting is not None
    assert qmp.greeting.QMP.version["package"].startswith("sdmorph "), qmp.greeting.QMP.version

    names = [command["name"] for command in await qmp.execute("query-commands")]
    assert "card-insert" in names and "qmp_capabilities" in names, names

    await qmp.execute("card-insert", {"kind": "sd-express"})
    event = await inserted.get()
    assert event["data"] == {"kind": "sd-express"}, event
    assert event["timestamp"]["seconds"] > 0, event

    try:
        await qmp.execute("card-insert", {"knd": "none"})
    except ExecuteError as error:
        assert error.error_class == "GenericError", error
        assert "did you mean 'kind'" in str(error), error
    else:
        raise AssertionError("an unknown argument was accepted")

    status, rules = await asyncio.gather(qmp.execute("query-status"), qmp.execute("query-rules"))
    assert status == {"card": "sd-express"} and rules == [], (status, rules)

    assert await qmp.execute("quit") == {}
    try:
        await qmp.disconnect()
    except EOFError:
        pass  # The server was the first to close.


asyncio.run(drive(sys.argv[1]))
print("ok")
