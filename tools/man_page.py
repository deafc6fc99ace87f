#!/usr/bin/env python3
"""Prints docs/man/rocmforge.1: the options and commands as the program itself lists them, the rest from here.

    tools/man_page.py BINARY > docs/man/rocmforge.1
    tools/man_page.py BINARY --check FILE      says whether FILE is what would be printed (exit status 1 when not)
"""
import pathlib
import re
import subprocess
import sys

DESCRIPTION = """\
rocmforge runs language models from GGUF files: it continues texts, holds conversations, serves them over HTTP and says what a \
file holds. MODEL is a path to a .gguf file (the first shard of a split one), given as the first argument, with -m, or in \
ROCMFORGE_GGUF.

Results go to standard output and nothing else does: progress, notes, warnings and errors go to standard error. An error is \
one line, "rocmforge: error[code]: what, where, and what to do"; the codes are stable and listed in docs/errors.md.

An option that a command does not use is refused, never ignored."""

ABOUT = {  # paragraphs under a command's heading, before its options
    "generate": ["Continues the text exactly as given and writes it as it comes. Control tokens in the text are read as such, unless "
                 "--no-parse-special. Temperature 0 takes the likeliest token each time; the same seed gives the same text. With "
                 "--host a server does the work, and the output is the same."],
    "chat": ["A conversation by the model's own template. With -p it says one thing, prints the answer and ends. Otherwise it reads "
             "messages: from a terminal with editing and history, from a pipe one a line. A message of several lines stands "
             "between two lines of three quotation marks (\"\"\").",
             "Ctrl-C stops an answer, and what was said of it stays in the conversation; at a prompt it drops the line, and twice "
             "at an empty one it ends the conversation, as Ctrl-D does. A conversation that no longer fits the context is "
             "refused with both numbers: nothing is cut silently.",
             "A line that begins with a slash is a command:"],
    "status": ["Prints request_id, finish_reason and text of a request of a running server, while it runs and for a while after. "
               "The id is the number that the server gave, or the request's X-Request-Id. An unknown id is exit status 1."],
    "cancel": ["Ends a request of a running server and prints what it has made, as status does."],
    "completion": ["Prints a script: eval \"$(rocmforge completion bash)\""],
}

EXIT = [("0", "done"), ("1", "failed"), ("2", "bad usage, or a value out of range"),
        ("130", "stopped by Ctrl-C, SIGTERM or SIGHUP; what was made until then stays printed")]

ENVIRONMENT = [
    ("ROCMFORGE_NAME", "Every option --name has a twin of this form, with dashes as underscores: ROCMFORGE_TOP_K=20. It counts where "
     "the command uses the option; the option wins. A flag is set with 1 or true."),
    ("ROCMFORGE_CPU", "scalar, avx2 or avx512: a lower tier of the CPU than the best."),
    ("NO_COLOR", "when set, what a model thinks is not dimmed."),
    ("XDG_STATE_HOME", "where chat keeps typed lines."),
    ("http_proxy, https_proxy, no_proxy", "proxies on the way to a server; none is used for this machine's own addresses."),
]

FILES = [("$XDG_STATE_HOME/rocmforge/history", "lines typed into chat, readable by their owner only, the newest thousand; "
          "~/.local/state stands for XDG_STATE_HOME when that is not set. --no-history keeps none."),
         ("~/.editrc", "keys for the prompt of chat; see editrc(5).")]

EXAMPLES = [("Continue a text, the same each time:", "rocmforge generate model.gguf -p 'Once upon a time' -n 50 --temp 0"),
            ("Ask one question:", "rocmforge chat model.gguf -p 'What is the capital of France?'"),
            ("Ask it of a server, and see which request it was:", "rocmforge chat --host http://127.0.0.1:8080 -p 'Hello' --json"),
            ("End a request that runs there:", "rocmforge cancel 17"),
            ("See whether a model fits before it is loaded:", "rocmforge plan model.gguf -c 8192")]


def help_of(binary, *words):
    return subprocess.run([binary, *words], capture_output=True, text=True, check=True).stdout


def commands_of(binary):
    """(name, about) as rocmforge --help lists them."""
    return re.findall(r"^  (\w+) +(.+)$", help_of(binary, "--help"), re.M)


def slash_commands(binary):
    """(form, help) of chat: what /help answers, from the source's own table."""
    source = (pathlib.Path(__file__).resolve().parents[1] / "src" / "cli" / "chat_command.c").read_text()
    rows = re.findall(r'\{"(/\w+)", (?:NULL|"([^"]*)"), "([^"]+)", run_\w+\}', source)
    return [(f"{name} {value}".strip(), text) for name, value, text in rows]


def options_of(text):
    """(spellings and value, help) of a command's --help."""
    rows, lines = [], text.splitlines()
    for i, line in enumerate(lines):
        match = re.match(r"  (-\S.*?)(?:  +(\S.*))?$", line)
        if match:
            rows.append((match.group(1), match.group(2) or lines[i + 1].strip()))
    return rows


def quote(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def heading(name):
    return f'.SH "{name}"'


def terms(rows, bold=True):
    for term, text in rows:
        yield f".TP\n{'.B ' if bold else ''}{quote(term)}\n{quote(text)}"


def command_section(binary, name):
    text = help_of(binary, name, "--help")
    use = re.search(r"^usage: (.+)$", text, re.M).group(1)
    paragraphs = ABOUT.get(name) or [text.splitlines()[0].split(": ", 1)[1].capitalize() + "."]
    yield f'.SS "{quote(use)}"'
    for i, paragraph in enumerate(paragraphs):
        yield (".PP\n" if i else "") + quote(paragraph)
    if name == "chat":
        yield ".RS"
        yield from terms(slash_commands(binary))
        yield ".RE\n.PP\nOptions:"
    yield from terms(options_of(text))


def page(binary):
    commands = commands_of(binary)
    version = help_of(binary, "--version").split()[1]
    yield '.\\" Printed by tools/man_page.py from the program\'s own tables; the tests check that it is current.'
    yield f'.TH ROCMFORGE 1 "" "rocmforge {version}" "User Commands"'
    yield heading("NAME") + "\nrocmforge \\- run GGUF language models"
    yield heading("SYNOPSIS") + "\n.B rocmforge\n.I COMMAND\n[options]"
    yield heading("DESCRIPTION") + "\n" + "\n.PP\n".join(quote(p) for p in DESCRIPTION.split("\n\n"))
    yield ".PP\nCommands:"
    yield from terms(commands)
    yield heading("OPTIONS")
    yield ".TP\n.B \\-V, \\-\\-version\nthe version\n.TP\n.B \\-h, \\-\\-help\nwhat there is; after a command, its options"
    for name, _ in commands:
        yield from command_section(binary, name)
    yield heading("EXIT STATUS")
    yield from terms(EXIT)
    yield heading("ENVIRONMENT")
    yield from terms(ENVIRONMENT)
    yield heading("FILES")
    yield from terms(FILES)
    yield heading("EXAMPLES")
    for text, command in EXAMPLES:
        yield f".PP\n{quote(text)}\n.PP\n.RS\n.nf\n{quote(command)}\n.fi\n.RE"


def main():
    if len(sys.argv) not in (2, 4) or sys.argv[2:3] not in ([], ["--check"]):
        sys.exit(__doc__)
    text = "\n".join(page(sys.argv[1])) + "\n"
    if len(sys.argv) == 2:
        sys.stdout.write(text)
    elif pathlib.Path(sys.argv[3]).read_text() != text:
        sys.exit(f"man_page.py: {sys.argv[3]} is not current: tools/man_page.py BINARY > {sys.argv[3]}")


if __name__ == "__main__":
    main()
