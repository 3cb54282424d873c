"""A stage for one case: addresses of its own on loopback, referee, the peers around it, and what is left to read when it fails."""
import csv
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


# What all edges have in common; trunks and routes are the case's.
EDGE = """
[[listen]]
name = "public"
bind = ["udp:{public}:5060", "tcp:{public}:5060"]

[[listen]]
name = "private"
bind = ["udp:{private}:5060", "tcp:{private}:5060"]

[control]
listen = "{public}:8080"

[hooks]
base_url = "http://{hooks}:9000"
# However slow the machine is, no event is given up.
events_wait = "{events_wait}"
"""

APPLICATION = """
[[application]]
name = "ivr"
call_hook = "http://{hooks}:9000/call"
call_status_hook = "/status"

[[route]]
from = "carrier"
application = "ivr"
"""

# No sound card and no registration: what it hears it says again; commands come by TCP.
BARESIP = """
module_path /usr/lib/baresip/modules
sip_listen {ip}:5060
net_interface {ip}
module g711.so
module aubridge.so
module_tmp account.so
module_app ctrl_tcp.so
module_app menu.so
ctrl_tcp_listen {ip}:4444
audio_source aubridge,p
audio_player aubridge,p
audio_alert aubridge,a
statmode_default off
"""


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

    def done(self, codes=(0,)):
        """Waits for its end, which must be a good one."""
        all_done([self], codes)

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


def all_done(processes, codes=(0,)):
    """Waits until all have ended, and well: one that has not is not waited for."""
    def look():
        for process in processes:
            if process.popen.poll() not in (None, *codes):
                raise Failure(f"{process.name} ended with {process.popen.returncode}")
        return all(process.popen.poll() is not None for process in processes)
    wait(f"end of {', '.join(process.name for process in processes)}", look, 4 * PATIENCE)


class Hooks(http.server.ThreadingHTTPServer):
    """An application's webhooks: keeps what is posted, and answers 200 with the list of verbs that the path has in `lists`, or with the next
    of its `answers`: `status`, `type` and `body`, `after` so many seconds."""
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.posts.append((self.path, self.headers["webhook-id"], body))
            usual = {"body": json.dumps(self.server.lists[self.path])} if self.path in self.server.lists else {}
            answer = self.server.answers.get(self.path) and self.server.answers[self.path].pop(0) or usual
            time.sleep(answer.get("after", 0))
            reply = answer.get("body", "").encode()
            self.send_response(answer.get("status", 200))
            if reply:
                self.send_header("Content-Type", answer.get("type", "application/json"))
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    def __init__(self, address):
        super().__init__(address, Hooks.Handler)
        self.posts, self.lists, self.answers = [], {}, {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def forget(self):
        """What came so far is no more to be looked at."""
        del self.posts[:]

    def close(self):
        self.shutdown()
        self.server_close()


class Jambonz:
    """The same by an application of @jambonz/node-client, see jambonz/application.js: only what it could verify counts."""

    def __init__(self, process, address):
        self.process, self.address, self.forgotten = process, address, 0

    def all(self):
        lines = self.process.text().splitlines(keepends=True)
        refused = [line for line in lines if not line.startswith("[")]
        if refused:
            raise Failure(f"the application says {refused[0]}")
        return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]

    @property
    def posts(self):
        return self.all()[self.forgotten:]

    def forget(self):
        self.forgotten = len(self.all())

    def verbs(self):
        """The first transfer that it wants, as its library writes it."""
        with urllib.request.urlopen(f"http://{self.address}:9000/verbs", timeout=PATIENCE) as reply:
            return json.load(reply)

    def close(self):
        """It ends with the other programs."""


INSTALLING = threading.Lock()


def modules():
    """The folder with what jambonz/package-lock.json names, installed once for each state of it."""
    source, folder = HERE / "jambonz", HERE.parent.parent / "target/jambonz"
    files = ("package.json", "package-lock.json")
    lock = folder / "node_modules/.of"
    # Cases run beside each other, and npm empties the folder before it fills it.
    with INSTALLING:
        if not lock.exists() or lock.read_text() != (source / files[1]).read_text():
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copy(source / file, folder / file)
            # No scripts: none of it needs to be built.
            subprocess.run(["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
            shutil.copy(folder / files[1], lock)
    return folder


class Stage:
    """`Stage(block, number)` owns 127.block.number.0/24."""

    # Last octets.
    PUBLIC, PRIVATE, CARRIER, PLATFORM, BEFORE, AFTER, TARGET, OTHER, HOOKS = range(1, 10)

    def __init__(self, block, number):
        self.network = f"127.{block}.{number}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="referee-interop-"))
        self.processes, self.judges = [], []
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
            self.hooks.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def evidence(self):
        """All that the programs said, and every message that SIPp saw."""
        files = sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.err")) + sorted(self.folder.glob("*.messages"))
        return "\n".join(f"---- {file.name}\n{file.read_text(errors='replace')[-12_000:]}" for file in files if file.stat().st_size)

    # ---- referee ----

    def edge(self, carrier=None, platform=None, more="", routes=None, mode=None, source=None, hooks=True, auth=None, secret=None, verbs=None,
             rules=None, preset=None, events_wait="60s"):
        """referee between the trunks `carrier` and `platform`, each the address where calls to it go, and `more` trunks. Routes are
        (from, to) or (from, to, further lines); `mode` is that of those with several targets, `source` the network of both sides,
        `auth` the trunk that has credentials, `secret` that of Jambonz-Signature, `verbs` what an application says of the carrier's
        calls, which then leads them; jambonz() says it itself. `rules` are those of all transfers, `preset` that of the carrier,
        `events_wait` how long an action waits for its events."""
        text = EDGE.format(public=self.ip(self.PUBLIC), private=self.ip(self.PRIVATE), hooks=self.ip(self.HOOKS), events_wait=events_wait)
        text += f'jambonz_secret = "{secret}"\n' if secret else ""
        text += f"\n[refer]\n{rules}\n" if rules else ""
        text += self.trunk("carrier", "public", carrier or f"udp:{self.ip(self.CARRIER)}:5060", source, "carrier", auth == "carrier", preset)
        text += self.trunk("platform", "private", platform or f"udp:{self.ip(self.PLATFORM)}:5060", source, "platform", auth == "platform") + more
        if verbs is not None:
            text += APPLICATION.format(hooks=self.ip(self.HOOKS))
            routes = [("platform", "carrier")]
        for here, there, *lines in routes or [("carrier", "platform"), ("platform", "carrier")]:
            lines += [f'mode = "{mode}"'] if isinstance(there, list) and mode else []
            text += "\n".join(["", "[[route]]", f'from = "{here}"', f"to = {json.dumps(there)}", *lines, ""])
        (self.folder / "edge.toml").write_text(text)
        if hooks and not self.hooks:
            self.hooks = Hooks((self.ip(self.HOOKS), 9000))
            self.hooks.lists["/call"] = verbs or []
        self.referee("--config", "edge.toml")

    def trunk(self, name, listen, address, source=None, side=None, auth=False, preset=None):
        """A trunk's lines: where calls to it go, who speaks as it, whether referee has credentials there, and how it transfers."""
        lines = ["", "[[trunk]]", f'name = "{name}"', f'listen = "{listen}"']
        lines += [f'side = "{side}"'] if side else []
        lines += [f'addresses = ["{address}"]'] if address else []
        lines += [f'sources = ["{source}"]'] if source else []
        rules = ["[trunk.refer]", 'bare_number = "sip:{number}@trunk.example.net"', 'destinations = ["*"]', ""]
        rules += [f'preset = "{preset}"'] if preset else []
        rules += ["[trunk.auth]", 'username = "referee"', 'password = "hush hush"', ""] if auth else []
        return "\n".join(lines + rules)

    def referee(self, *arguments):
        process = self.start("referee", REFEREE, "run", *arguments, env={"REFEREE_LOG": "referee=debug"})
        process.ready(("udp", self.ip(self.PUBLIC), 5060), ("tcp", self.ip(self.PUBLIC), 5060), ("tcp", self.ip(self.PUBLIC), 8080))

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.ip(self.PUBLIC)}:8080/metrics", timeout=PATIENCE) as reply:
            lines = [line.split() for line in reply.read().decode().splitlines()]
        found = [float(line[1]) for line in lines if line[0].split("{")[0] == name]
        if not found:
            raise Failure(f"no metric {name}")
        return sum(found)

    def get(self, path, data=None, method=None):
        """The control API's answer: status and JSON, if it has any."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://{self.ip(self.PUBLIC)}:8080{path}", body, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
                return reply.status, json.loads(reply.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def answered_call(self):
        return wait("answered call", lambda: [call for call in self.get("/v1/calls")[1]["calls"] if call["state"] == "in-progress"])[0]

    def ends_without_calls(self):
        """Waits until referee knows of no call that is up."""
        wait("end of all calls", lambda: all(call["state"] == "completed" for call in self.get("/v1/calls")[1]["calls"]))

    def delete(self, call):
        """Ends a call by the API."""
        request = urllib.request.Request(f"http://{self.ip(self.PUBLIC)}:8080/v1/calls/{call['id']}", method="DELETE")
        urllib.request.urlopen(request, timeout=PATIENCE).close()

    def update(self, call, **fields):
        """Updates a call as jambonz has it updated."""
        status, answer = self.get(f"/v1/Accounts/any/Calls/{call['id']}", fields, "PUT")
        if status // 100 != 2:
            raise Failure(f"the update got {status}: {answer}")

    def transfer(self, call=None, **verb):
        """Posts sip:refer for a call: the one answered if no other is given."""
        self.hooks.forget()
        self.verbs({"verb": "sip:refer", "id": f"t{self.runs}", "actionHook": "/action", "eventHook": "/event", **verb}, call)

    def verbs(self, verb, call=None):
        """Posts verbs for a call: the one answered if no other is given."""
        call = call or self.answered_call()
        status, answer = self.get(f"/v1/calls/{urllib.parse.quote(call['call_id'], safe='')}/verbs", verb)
        if status != 202:
            raise Failure(f"the verb got {status}: {answer}")

    def told(self, statuses):
        """Waits until the application has been told how the last call ended, and holds all it was told to these statuses."""
        of = lambda: [body["call_status"] for path, _, body in self.hooks.posts if path == "/status"]
        wait("end of the call", lambda: of()[-1:] == statuses[-1:])
        expect("statuses", of(), statuses)

    def verdict(self, result, cause, events=None, final=None, **fields):
        """Waits for the action hook, and holds all hooks to what they must say; `fields`: of the action hook."""
        wait("action hook", lambda: [path for path, _, _ in self.hooks.posts if path == "/action"])
        paths = [path for path, _, _ in self.hooks.posts]
        action = self.hooks.posts[-1][2]
        statuses = [body["call_status"] for path, _, body in self.hooks.posts if path == "/event"]
        expect("hooks, the action once and last", paths, ["/event"] * len(statuses) + ["/action"])
        expect("verdict", (action["refer_result"], action["refer_cause"]), (result, cause))
        expect("webhook-ids that differ", len({identity for _, identity, _ in self.hooks.posts}), len(paths))
        expect("NOTIFYs counted", action["notify_count"], fields.pop("notify_count", len(statuses)))
        if events is not None:
            expect("events", statuses, events)
        if final is not None:
            expect("final status", action["final_referred_call_status"], final)
        for name, value in fields.items():
            expect(name, action.get(name), value)

    # ---- an application of @jambonz/node-client ----

    def jambonz(self, secret, *targets):
        """Takes the hooks, and wants the call transferred to the first of `targets` that can be reached."""
        address, folder = self.ip(self.HOOKS), modules()
        process = self.start("jambonz", "node", str(HERE / "jambonz/application.js"), address, "9000", secret, *targets,
                             env={"NODE_PATH": str(folder / "node_modules")})
        self.hooks = Jambonz(process.ready(("tcp", address, 9000)), address)
        return self.hooks

    # ---- Kamailio ----

    def kamailio(self, name, host, left, right, idle=120, asks=None):
        """Kamailio between `left` and `right`, each (transport, last octet); it closes connections that are `idle` seconds old, and
        `asks` a (last octet, algorithm) for credentials."""
        def uri(side):
            return f'"sip:{self.ip(side[1])}:5060;transport={side[0]}"'
        defines = {"LISTEN": self.ip(host), "LEFT": uri(left), "RIGHT": uri(right), "LEFT_IP": f'"{self.ip(left[1])}"', "IDLE": str(idle)}
        if asks:
            defines |= {"ASKED_IP": f'"{self.ip(asks[0])}"', "ALGORITHM": f'"{asks[1]}"'}
        folder = self.folder / f"run-{name}"
        folder.mkdir()
        command = ["kamailio", "-f", str(HERE / "kamailio.cfg"), "-DD", "-E", "-m", "16", "-M", "4", "-w", str(folder),
                   "-Y", str(folder), "-P", str(folder / "pid")]
        for key, value in defines.items():
            command += ["-A", f"{key}={value}"]
        process = self.start(name, *command)
        self.judges.append(process)
        return process.ready(("udp", self.ip(host), 5060), ("tcp", self.ip(host), 5060))

    def judged(self):
        """Nothing that Kamailio takes offence at has come by."""
        for process in self.judges:
            offences = [line for line in process.text().splitlines() if "ERROR:" in line or "CRITICAL:" in line]
            if offences:
                raise Failure(f"{process.name} takes offence: {offences[0]}")

    def answer(self, name, host):
        """The called role of a flow whose caller is none of ours."""
        (role, scenario), = flow.scenarios(name, {}).items()
        return self.role(role, scenario, host, "udp").ready(("udp", self.ip(host), 5060))

    def sipsak(self, label, host, user, *arguments):
        """sipsak from an address of the stage towards referee."""
        return self.start(f"sipsak-{label}", "sipsak", f"--local-ip={self.ip(host)}", *arguments, "-s", f"sip:{user}{self.ip(self.PUBLIC)}:5060")

    # ---- baresip ----

    def baresip(self, name, host, transport="udp", proxy=None):
        """A baresip named `name` at an address of the stage that calls through `proxy`, another; without one it calls directly."""
        ip = self.ip(host)
        folder = self.folder / f"run-{name}"
        folder.mkdir()
        outbound = f';outbound="sip:{self.ip(proxy)}:5060;transport={transport}"' if proxy else ""
        (folder / "accounts").write_text(f"<sip:{name}@{ip};transport={transport}>;regint=0;answermode=manual{outbound}\n")
        (folder / "contacts").touch()
        (folder / "config").write_text(BARESIP.format(ip=ip))
        process = self.start(name, "baresip", "-f", str(folder), "-s")
        process.ready((transport, ip, 5060), ("tcp", ip, 4444))
        return Baresip(process, (ip, 4444))

    # ---- SIPp ----

    def sipp(self, name, host, transport, *arguments):
        """SIPp at an address of the stage; what it calls is the last of `arguments`."""
        ip = self.ip(host)
        modes = {"udp": "u1", "tcp": "t1", "a UDP socket for each call": "un", "a TCP connection for each call": "tn"}
        command = ["sipp", *arguments, "-i", ip, "-p", "5060", "-ci", ip, "-t", modes[transport], "-nostdin",
                   "-skip_rlimit", "-trace_err", "-error_file", f"{name}.err"]
        return self.start(name, *command)

    def role(self, name, scenario, host, transport, *to):
        """One call by a scenario of our own."""
        (self.folder / f"{name}.xml").write_text(scenario)
        return self.sipp(name, host, transport, "-sf", f"{name}.xml", "-m", "1", "-recv_timeout", "40000", "-timeout", "90", "-timeout_error",
                         "-default_behaviors", "abortunexp", "-trace_msg", "-message_file", f"{name}.messages",
                         "-cid_str", f"{self.runs}-%u-%p@%s", *to)

    def stock(self, transport, calls, during=None, repeats=0, **options):
        """SIPp's own scenarios, which follow no route set: `calls` of them, none failed, no message out of place. `repeats`: how many
        messages may come again once their call is over."""
        answers = "tcp" if "TCP" in transport.upper() else "udp"
        self.sipp("uas", self.PLATFORM, answers, "-sn", "uas").ready((answers, self.ip(self.PLATFORM), 5060))
        options = [text for name, value in options.items() for text in (f"-{name}", str(value))]
        caller = self.sipp("uac", self.CARRIER, transport, "-sn", "uac", "-m", str(calls), "-l", "2000", *options, "-trace_stat",
                           "-stf", "uac.csv", "-fd", "1", f"{self.ip(self.PUBLIC)}:5060")
        if during:
            during()
        caller.done()
        with open(self.folder / "uac.csv", newline="") as file:
            last = list(csv.DictReader(file, delimiter=";"))[-1]
        expect("calls that went well", int(last["SuccessfulCall(C)"]), calls)
        for name in ("FailedCall", "FailedUnexpectedMessage", "FailedMaxUDPRetrans", "OutOfCallMsgs"):
            expect(name, int(last[f"{name}(C)"] or 0), 0)
        if int(last["DeadCallMsgs(C)"] or 0) > repeats:
            raise Failure(f"{last['DeadCallMsgs(C)']} messages of calls that are over")

    def play(self, name, caller=CARRIER, callee=PLATFORM, to=None, transports=("udp", "udp"), during=None, roles=None, **parameters):
        """A flow between a caller and those it names as called, through the address `to` (default: referee's public one)."""
        self.runs += 1
        roles = roles or flow.scenarios(name, parameters)
        first, *others = roles
        hosts = callee if isinstance(callee, tuple) else (callee,)
        called = []
        for i, (name, host) in enumerate(zip(others, hosts, strict=True)):
            transport = transports[min(i + 1, len(transports) - 1)]
            called.append(self.role(name, roles[name], host, transport).ready((transport, self.ip(host), 5060)))
        calls = self.role(first, roles[first], caller, transports[0], f"{self.ip(to or self.PUBLIC)}:5060")
        if during:
            during()
        all_done([calls, *called])


class Baresip:
    """A headless baresip: commands and events by ctrl_tcp (netstrings of JSON)."""

    def __init__(self, process, address):
        self.process, self.events = process, []
        self.socket = socket.create_connection(address)
        self.seen = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        data = b""
        while True:
            try:
                more = self.socket.recv(65536)
            except OSError:
                more = b""
            if not more:
                return
            data += more
            while b":" in data:
                length, rest = data.split(b":", 1)
                if len(rest) <= int(length):
                    break
                self.events.append(json.loads(rest[: int(length)]))
                data = rest[int(length) + 1:]

    def do(self, command, parameters=""):
        """A command of its menu."""
        text = json.dumps({"command": command, "params": parameters}).encode()
        self.socket.sendall(str(len(text)).encode() + b":" + text + b",")

    def happens(self, kind, parameter=""):
        """Waits for an event of this kind after the last one waited for, whose parameter has `parameter` in it."""
        def look():
            while self.seen < len(self.events):
                event = self.events[self.seen]
                self.seen += 1
                if event.get("type") == kind and parameter in event.get("param", ""):
                    return event
            return None
        return wait(f"{kind} {parameter} at {self.process.name}", look)

    def is_offered(self, line):
        """Waits until the last INVITE of its trace has this line in its SDP."""
        wait(f"{line} at {self.process.name}", lambda: f"\n{line}" in self.process.text().rpartition("\nINVITE ")[2].partition("\nSIP/2.0 ")[0])


def expect(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what}: {got!r} instead of {wanted!r}")
