"""A Kubernetes of one machine: takes jobs as the API does and runs their commands. Not real:
images, scheduling, limits. A container is a process in its own folder, a volume that path here."""

import base64
import json
import os
import subprocess
import threading
from contextlib import contextmanager
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
        self.folder, self.variables, self.config = folder, variables, folder / "kubeconfig"
        self.jobs, self.secrets, self.exit_codes, self.deleted = {}, {}, {}, []

    @contextmanager
    def serve(self):
        """The API at the address that `config` names."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (_Api,), {"cluster": self}))
        self.folder.mkdir(parents=True)
        self.config.write_text(KUBECONFIG.format(port=server.server_port))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with server:
            yield
            server.shutdown()

    def container(self, name: str) -> dict:
        return self.jobs[name]["spec"]["template"]["spec"]["containers"][0]

    def run(self, name: str) -> None:
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

    def answer(self, method: str, path: str, body: dict) -> dict:
        """The content of the response; empty for what is not there."""
        parts = path.partition("?")[0].strip("/").split("/")
        name = parts[-1] if parts[-1] != "status" else parts[-2]
        match method, name:
            case "POST", "secrets":
                self.secrets[body["metadata"]["name"]] = body.get("data") or {}
                return body
            case "POST", "jobs":
                self.jobs[job := body["metadata"]["name"]] = body
                threading.Thread(target=self.run, args=(job,), daemon=True).start()
                return body
            case "GET", "pods":
                return {"apiVersion": "v1", "kind": "PodList", "items": []}
            case "GET", _ if "jobs" in parts and name in self.jobs:
                code = self.exit_codes.get(name)
                done = {"succeeded": int(code == 0), "failed": int(code != 0)}
                return self.jobs[name] | {"status": {} if code is None else done}
            case "DELETE", _:
                self.deleted.append(name)
                return {"apiVersion": "v1", "kind": "Status", "status": "Success"}
        return {}


class _Api(BaseHTTPRequestHandler):
    cluster: FakeKubernetes

    def do(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        content = self.cluster.answer(self.command, self.path, body)
        text = json.dumps(content or {"reason": "NotFound"}).encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def image(folder: Path, bin_folder: Path) -> dict[str, str]:
    """Variables of a container whose environment is this one; its pip installs nothing, because
    what the plugin asks for in each pod is in the image already."""
    folder.mkdir(parents=True)
    (folder / "pip").write_text("#!/bin/sh\nexit 0\n")
    (folder / "pip").chmod(0o755)
    path = os.pathsep.join([str(folder), str(bin_folder), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
