"""A command on a terminal of its own: what a person would see and type."""
import os
import pty
import select
import signal
import termios
import time

TIMEOUT = 120  # seconds of wall time: a hang, not a limit on speed


class Terminal:
    """with Terminal(binary, "chat", ...) as t: t.expect("> "); t.type("Hello\\n"); assert t.end() == 0"""

    def __init__(self, *command, env=None):
        self.text = ""  # all that was shown
        self.seen = 0  # of it, what expect() has gone past
        self.status = None
        self.child, self.fd = pty.fork()
        if self.child == 0:
            for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.environ.update({"TERM": "xterm", "LC_ALL": "C.UTF-8", **{k: str(v) for k, v in (env or {}).items()}})
            os.execv(str(command[0]), [str(c) for c in command])
        attributes = termios.tcgetattr(self.fd)
        attributes[4] = attributes[5] = termios.B38400
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)
        self.bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        os.close(self.fd)

    def _read(self, seconds):
        """Takes what there is; False once the other side is closed."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            got = os.read(self.fd, 65536)
        except OSError:
            return False
        self.bytes += got
        self.text = self.bytes.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(got)

    def expect(self, what):
        """Waits until it is shown, after what was expected before; gives all up to its end."""
        deadline = time.monotonic() + TIMEOUT
        while what not in self.text[self.seen:]:
            assert time.monotonic() < deadline and self._read(0.5), f"no {what!r} in {self.text[self.seen:][-2000:]!r}"
        at = self.text.index(what, self.seen) + len(what)
        part, self.seen = self.text[self.seen:at], at
        return part

    def more(self, n):
        """Waits until so many more characters were shown."""
        deadline = time.monotonic() + TIMEOUT
        while len(self.text) < self.seen + n:
            assert time.monotonic() < deadline and self._read(0.5), f"no more after {self.text[-2000:]!r}"

    def type(self, keys):
        os.write(self.fd, keys.encode() if isinstance(keys, str) else keys)

    def end(self):
        """Waits for the command's end; its exit status."""
        deadline = time.monotonic() + TIMEOUT
        while self._read(0.5):
            assert time.monotonic() < deadline, f"it does not end: {self.text[-2000:]!r}"
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        return self.status
