"""A Kubernetes of one machine for tests: takes jobs as the API does and runs their commands.

What is real: the requests of the executor plugin and the commands of its pods. What is not: images,
scheduling, limits, volumes. A pod's container is a process in a folder of its own that stands for
its empty working folder, and a volume is the folder of the same path on this machine.
"""

import base64
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KUBECONFIG = """apiVersion: v1
kind: Config
current-context: fake
contexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}]
clusters: [{{name: fake, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: fake, user: {{}}}}]
"""


class FakeKubernetes:
    """Secrets and jobs by name; `variables` are those of the image, `folder` holds the pods."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder, self.variables = folder, variables
        self.jobs: dict[str, dict] = {}
        self.secrets: dict[str, dict] = {}
        self.exit_codes: dict[str, int] = {}
        self.deleted: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> "FakeKubernetes":
        self.folder.mkdir(parents=True)
        self.config = self.folder / "kubeconfig"
        self.config.write_text(KUBECONFIG.format(port=self.server.server_port))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def container(self, name: str) -> dict:
        return self.jobs[name]["spec"]["template"]["spec"]["containers"][0]

    def start(self, job: dict) -> None:
        name = job["metadata"]["name"]
        self.jobs[name] = job
        threading.Thread(target=self._run, args=(name,), daemon=True).start()

    def _run(self, name: str) -> None:
        container, place = self.container(name), self.folder / name
        place.mkdir()
        environment = self.variables | {e["name"]: self._secret(e) for e in container["env"]}
        with (place / "pod.log").open("w") as log:
            how = dict(cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT)
            ran = subprocess.run([*container["command"], *container["args"]], **how)
        self.exit_codes[name] = ran.returncode

    def _secret(self, variable: dict) -> str:
        reference = variable["valueFrom"]["secretKeyRef"]
        return base64.b64decode(self.secrets[reference["name"]][reference["key"]]).decode()

    def status(self, name: str) -> dict:
        code = self.exit_codes.get(name)
        state = {} if code is None else {"succeeded": int(code == 0), "failed": int(code != 0)}
        return self.jobs[name] | {"status": state}

    def answer(self, method: str, path: str, body: dict) -> dict | str | None:
        """The content of the response; None for what is not there."""
        parts = path.partition("?")[0].strip("/").split("/")
        name = parts[-1] if parts[-1] != "status" else parts[-2]
        if method == "POST" and name in ("secrets", "jobs"):
            if name == "jobs":
                self.start(body)
            else:
                self.secrets[body["metadata"]["name"]] = body.get("data") or {}
            return body
        if method == "GET" and "jobs" in parts and name in self.jobs:
            return self.status(name)
        if method == "GET" and name == "pods":
            return {"apiVersion": "v1", "kind": "PodList", "items": []}
        if method == "DELETE":
            self.deleted.append(name)
            return {"apiVersion": "v1", "kind": "Status", "status": "Success"}
        return None


def _handler(cluster: FakeKubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}") if length else {}
            content = cluster.answer(self.command, self.path, body)
            text = json.dumps(content if content is not None else {"reason": "NotFound"}).encode()
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def image(folder: Path, bin_folder: Path) -> dict[str, str]:
    """Variables of a container whose environment is this one.

    Its pip installs nothing: what the plugin asks for in each pod is in the image already.
    """
    folder.mkdir(parents=True)
    pip = folder / "pip"
    pip.write_text("#!/bin/sh\nexit 0\n")
    pip.chmod(0o755)
    path = os.pathsep.join([str(folder), str(bin_folder), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
