"""Many connections from one Python process, over raw sockets and asyncio: what the load tests are made of."""
import asyncio
import json
import socket
import struct
import time


def request(method, path, body=None, headers=()):
    """The bytes of one request."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


async def read_head(reader):
    """(status, headers in lower case)"""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in rest if ": " in line)
    return int(first.split()[1]), fields


async def read_body(reader, fields):
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


async def call(port, method, path, body=None, headers=()):
    """One request on a connection of its own: (status, parsed JSON or bytes)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(request(method, path, body, ["Connection: close", *headers]))
        status, fields = await read_head(reader)
        data = await read_body(reader, fields)
        return status, json.loads(data) if "json" in fields.get("content-type", "") else data
    finally:
        writer.close()


async def stream(port, path, body, seen=None):
    """A streaming request to its end: the list of its data events, parsed; each also goes to seen(time, event)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(request("POST", path, {**body, "stream": True}, ["Connection: close"]))
        status, fields = await read_head(reader)
        assert status == 200, (status, await read_body(reader, fields))
        events = []
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                events.append(json.loads(line[6:]))
                if seen:
                    seen(time.perf_counter(), events[-1])
        return events
    finally:
        writer.close()


async def reset(port, data, wait=0.0, want=0):
    """Sends bytes, waits for so many bytes back or so long, then resets the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sock = writer.get_extra_info("socket")
    writer.write(data)
    try:
        await asyncio.wait_for(reader.readexactly(want) if want else asyncio.sleep(wait), wait + 5 if want else None)
    except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
        pass
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def private_kib(pid):
    """Memory of the process that is its own, in KiB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("Private_Clean", "Private_Dirty")))
