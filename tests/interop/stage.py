"""A stage for one case: addresses of its own on loopback, referee, the peers around it, and what is left to read when it fails."""
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import flow

HERE = pathlib.Path(__file__).parent
REFEREE = os.environ.get("REFEREE", str(HERE.parent.parent / "target/release/referee"))
# For anything that ought to happen; far beyond what it takes on a loaded machine.
PATIENCE = 30


class Failure(Exception):
    """What did not hold, in words."""


def wait(what, look, patience=PATIENCE):
    """The first true thing `look` gives; it is asked again until then."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"no {what} in {patience} s")
        time.sleep(0.01)


def is_bound(transport, ip, port):
    """Whether a socket of this machine listens there."""
    local = socket.inet_aton(ip)[::-1].hex().upper() + f":{port:04X}"
    state = {"udp": "07", "tcp": "0A"}[transport]
    with open(f"/proc/net/{transport}") as table:
        return any(line.split()[1] == local and line.split()[3] == state for line in table)


class Process:
    """A program of the stage; its output is a file."""

    def __init__(self, name, command, folder, env=None):
        self.name, self.log = name, folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
                                          env={**os.environ, **(env or {})}, start_new_session=True)

    def text(self):
        return self.log.read_text(errors="replace")

    def ready(self, *sockets):
        """Waits until it listens at these (transport, address, port)."""
        def look():
            if self.popen.poll() is not None:
                raise Failure(f"{self.name} ended with {self.popen.returncode}")
            return all(is_bound(*each) for each in sockets)
        wait(f"socket of {self.name}", look)
        return self

    def done(self):
        """Waits for its end, which must be a good one."""
        try:
            code = self.popen.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end") from None
        if code != 0:
            raise Failure(f"{self.name} ended with {code}")

    def end(self):
        """Ends it and what it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, number)
                self.popen.wait(5)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
            return


class Hooks(http.server.ThreadingHTTPServer):
    """An application's webhooks: keeps what is posted, answers 200."""
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.posts.append((self.path, self.headers["webhook-id"], body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    def __init__(self, address):
        super().__init__(address, Hooks.Handler)
        self.posts = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Stage:
    """`Stage(block, number)` owns 127.block.number.0/24."""

    # Last octets.
    PUBLIC, PRIVATE, CARRIER, PLATFORM, BEFORE, AFTER, TARGET, OTHER, HOOKS = range(1, 10)

    def __init__(self, block, number):
        self.network = f"127.{block}.{number}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="referee-interop-"))
        self.processes = []
        self.hooks = None
        self.runs = 0

    def ip(self, host):
        return f"{self.network}.{host}"

    def start(self, name, *command, env=None):
        if shutil.which(command[0]) is None:
            raise Failure(f"{command[0]} is not installed")
        process = Process(name, command, self.folder, env)
        self.processes.append(process)
        return process

    def close(self):
        for process in reversed(self.processes):
            process.end()
        if self.hooks:
            self.hooks.shutdown()
            self.hooks.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def evidence(self):
        """All that the programs said, and every message that SIPp saw."""
        files = sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.err")) + sorted(self.folder.glob("*.messages"))
        return "\n".join(f"---- {file.name}\n{file.read_text(errors='replace')[-12_000:]}" for file in files if file.stat().st_size)

    # ---- referee ----

    def edge(self, carrier=None, platform=None, carrier_keys="", platform_keys="", more="", routes=None):
        """referee between the trunks `carrier` and `platform`, each the address where calls to it go."""
        carrier = carrier or f"udp:{self.ip(self.CARRIER)}:5060"
        platform = platform or f"udp:{self.ip(self.PLATFORM)}:5060"
        routes = [("carrier", "platform"), ("platform", "carrier")] if routes is None else routes
        text = (HERE / "edge.toml").read_text()
        for name, value in {"public": self.ip(self.PUBLIC), "private": self.ip(self.PRIVATE), "hooks": self.ip(self.HOOKS),
                            "carrier": carrier, "platform": platform, "carrier_keys": carrier_keys,
                            "platform_keys": platform_keys}.items():
            text = text.replace("{{" + name + "}}", value)
        text += more + "".join(f'\n[[route]]\nfrom = "{here}"\nto = {json.dumps(there)}\n' for here, there in routes)
        (self.folder / "edge.toml").write_text(text)
        self.hooks = Hooks((self.ip(self.HOOKS), 9000))
        self.referee = self.start("referee", REFEREE, "run", "--config", "edge.toml", env={"REFEREE_LOG": "debug"})
        self.referee.ready(("udp", self.ip(self.PUBLIC), 5060), ("tcp", self.ip(self.PUBLIC), 8080))

    def get(self, path, data=None):
        """The control API's answer: status and JSON."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://{self.ip(self.PUBLIC)}:8080{path}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def answered_call(self):
        return wait("answered call", lambda: [call for call in self.get("/v1/calls")[1]["calls"] if call["state"] == "in-progress"])[0]

    def transfer(self, **verb):
        """Posts sip:refer for the one answered call."""
        call = self.answered_call()
        del self.hooks.posts[:]
        verb = {"verb": "sip:refer", "id": f"t{self.runs}", "actionHook": "/action", "eventHook": "/event", **verb}
        status, answer = self.get(f"/v1/calls/{urllib.parse.quote(call['call_id'], safe='')}/verbs", verb)
        if status != 202:
            raise Failure(f"the verb got {status}: {answer}")

    def verdict(self, result, cause, events=None, final=None):
        """Waits for the action hook, and holds all hooks to what they must say."""
        wait("action hook", lambda: [path for path, _, _ in self.hooks.posts if path == "/action"])
        paths = [path for path, _, _ in self.hooks.posts]
        action = self.hooks.posts[-1][2]
        statuses = [body["call_status"] for path, _, body in self.hooks.posts if path == "/event"]
        expect("hooks, the action once and last", paths, ["/event"] * len(statuses) + ["/action"])
        expect("verdict", (action["refer_result"], action["refer_cause"]), (result, cause))
        expect("webhook-ids that differ", len({identity for _, identity, _ in self.hooks.posts}), len(paths))
        expect("NOTIFYs counted", action["notify_count"], len(statuses))
        if events is not None:
            expect("events", statuses, events)
        if final is not None:
            expect("final status", action["final_referred_call_status"], final)

    # ---- SIPp ----

    def sipp(self, role, scenario, host, transport="udp", to=None, port=5060, arguments=()):
        """SIPp at an address of the stage: one call by a scenario of its own, or what `arguments` say. `to` is (address, port)."""
        file = self.folder / f"{role}.xml"
        file.write_text(scenario)
        command = ["sipp", "-sf", file.name, "-m", "1", "-recv_timeout", "20000", "-timeout", "50", "-timeout_error",
                   "-default_behaviors", "abortunexp", "-trace_err", "-error_file", f"{role}.err", "-trace_msg",
                   "-message_file", f"{role}.messages", "-cid_str", f"{self.runs}-%u-%p@%s", "-nostdin", "-skip_rlimit", "-i", self.ip(host), "-p", str(port),
                   "-ci", self.ip(host), "-t", {"udp": "u1", "tcp": "t1"}[transport], *arguments]
        process = self.start(role, *command, *([] if to is None else [f"{to[0]}:{to[1]}"]))
        return process if to else process.ready((transport, self.ip(host), port))

    def play(self, name, caller=CARRIER, callee=PLATFORM, to=None, transports=("udp", "udp"), during=None, **parameters):
        """A flow between a caller and those it names as called, through what `to` says (default: referee, as the carrier)."""
        self.runs += 1
        roles = flow.scenarios(name, parameters)
        first, *others = roles
        hosts = callee if isinstance(callee, tuple) else (callee,)
        called = [self.sipp(role, roles[role], host, transports[1]) for role, host in zip(others, hosts, strict=True)]
        calls = self.sipp(first, roles[first], caller, transports[0], to or (self.ip(self.PUBLIC), 5060))
        if during:
            during()
        for process in [calls, *called]:
            process.done()


def expect(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what}: {got!r} instead of {wanted!r}")
