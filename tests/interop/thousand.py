"""A thousand simultaneous transfers, and every hook of them accounted for.

Carrier, platform and application in one process, written for this and sharing nothing with referee: the carrier opens N calls
through referee, each is transferred by REST, the transfers ring and succeed, and at the end each call's hooks are compared with
what its carrier said, one by one. Ends with status 1 and the first differences if anything is missing, double or out of place.
"""
import collections
import http.client
import http.server
import json
import queue
import re
import select
import socket
import sys
import threading
import time

N, NETWORK = int(sys.argv[1]), sys.argv[2]
REST, HOOKS = (f"{NETWORK}.1", 8080), (f"{NETWORK}.9", 9000)
PUBLIC, CARRIER, PLATFORM = (f"{NETWORK}.{host}" for host in (1, 3, 4))
problems = []


def headers(text, name):
    return [line.split(":", 1)[1].strip() for line in text.split("\r\n\r\n")[0].split("\r\n")[1:]
            if line.split(":", 1)[0].lower() == name.lower()]


def reply(request, code, contact=None, body="", tag=None):
    lines = [f"SIP/2.0 {code}"] + [f"Via: {via}" for via in headers(request, "Via")]
    lines += [f"Record-Route: {value}" for value in headers(request, "Record-Route")]
    to = headers(request, "To")[0] + (f";tag={tag}" if tag else "")
    lines += [f"From: {headers(request, 'From')[0]}", f"To: {to}", f"Call-ID: {headers(request, 'Call-ID')[0]}",
              f"CSeq: {headers(request, 'CSeq')[0]}"]
    lines += [f"Contact: {contact}"] if contact else []
    return "\r\n".join(lines + [f"Content-Length: {len(body)}", "", body])


class Agent(threading.Thread):
    """One UDP socket and everything on it; repeats what is not answered within half a second."""

    def __init__(self, ip):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((ip, 5060))
        self.open = {}
        self.lock = threading.Lock()

    def send(self, text, to, key=None):
        if key:
            with self.lock:
                self.open[key] = (time.monotonic(), text, to)
        self.socket.sendto(text.encode(), to)

    def closed(self, key):
        with self.lock:
            return self.open.pop(key, None) is not None

    def run(self):
        while True:
            if select.select([self.socket], [], [], 0.1)[0]:
                data, source = self.socket.recvfrom(65536)
                self.received(data.decode(), source)
            now = time.monotonic()
            with self.lock:
                late = [(key, item) for key, item in self.open.items() if now - item[0] > 0.5]
                for key, (_, text, to) in late[:100]:
                    self.open[key] = (now, text, to)
                    self.socket.sendto(text.encode(), to)


class Platform(Agent):
    def __init__(self):
        super().__init__(PLATFORM)
        self.ended = set()

    def received(self, text, source):
        method, call = text.split(" ", 1)[0], headers(text, "Call-ID")[0]
        if method == "INVITE":
            answer = reply(text, "200 OK", f"<sip:bot@{PLATFORM}>", tag=f"p-{call}")
            self.send(reply(text, "180 Ringing", f"<sip:bot@{PLATFORM}>", tag=f"p-{call}"), source)
            self.send(answer, source, ("200", call))
        elif method == "ACK":
            self.closed(("200", call))
        elif method == "BYE":
            self.send(reply(text, "200 OK"), source)
            self.ended.add(call)
        elif method != "SIP/2.0":
            problems.append(f"the platform got {method} in {call}")


class Carrier(Agent):
    def __init__(self):
        super().__init__(CARRIER)
        self.answered, self.ended, self.routes, self.to = set(), set(), {}, {}
        self.refers = collections.Counter()
        self.notified = collections.defaultdict(list)
        self.next = collections.defaultdict(lambda: 2)

    def dialog(self, call, method, number, extra=()):
        lines = [f"{method} sip:bot@{PLATFORM} SIP/2.0",
                 f"Via: SIP/2.0/UDP {CARRIER};branch=z9hG4bK{method}{number}{call};rport"]
        lines += [f"Route: {route}" for route in self.routes.get(call, [])]
        lines += ["Max-Forwards: 70", f"From: <sip:+49171{call}@{CARRIER}>;tag=c-{call}", f"To: {self.to[call]}",
                  f"Call-ID: {call}", f"CSeq: {number} {method}"]
        return lines + list(extra)

    def invite(self, call):
        text = "\r\n".join([
            f"INVITE sip:+4930@{PUBLIC} SIP/2.0",
            f"Via: SIP/2.0/UDP {CARRIER};branch=z9hG4bKINVITE1{call};rport", "Max-Forwards: 70",
            f"From: <sip:+49171{call}@{CARRIER}>;tag=c-{call}", f"To: <sip:+4930@{PUBLIC}>", f"Call-ID: {call}",
            "CSeq: 1 INVITE", f"Contact: <sip:c@{CARRIER}>", "Content-Length: 0", "", ""])
        self.send(text, (PUBLIC, 5060), ("INVITE", call))

    def notify(self, call, status):
        number = self.next[call]
        self.next[call] += 1
        body = f"SIP/2.0 {status}\r\n"
        state = "terminated;reason=noresource" if status[0] != "1" else "active;expires=60"
        lines = self.dialog(call, "NOTIFY", number, [
            "Event: refer;id=1", f"Subscription-State: {state}", f"Contact: <sip:c@{CARRIER}>",
            "Content-Type: message/sipfrag;version=2.0", f"Content-Length: {len(body)}", "", body])
        self.notified[call].append(int(status[:3]))
        self.send("\r\n".join(lines), (PUBLIC, 5060), ("NOTIFY", call, number))

    def received(self, text, source):
        method, call = text.split(" ", 1)[0], headers(text, "Call-ID")[0]
        number, of = headers(text, "CSeq")[0].split()
        if method == "SIP/2.0":
            code = int(text[8:11])
            if of == "INVITE" and code == 200:
                self.closed(("INVITE", call))
                self.routes[call] = list(reversed(headers(text, "Record-Route")))
                self.to[call] = headers(text, "To")[0]
                self.answered.add(call)
                self.send("\r\n".join(self.dialog(call, "ACK", 1, ["Content-Length: 0", "", ""])), (PUBLIC, 5060))
            elif of == "INVITE" and code >= 180:
                self.closed(("INVITE", call))
                if code >= 300:
                    problems.append(f"{call}: INVITE got {code}")
            elif of == "NOTIFY" and self.closed(("NOTIFY", call, int(number))):
                if code != 200:
                    problems.append(f"{call}: NOTIFY got {code}")
                sent = self.notified[call][-1]
                if sent < 200:
                    self.notify(call, {100: "180 Ringing", 180: "200 OK"}[sent])
        elif method == "REFER":
            self.send(reply(text, "202 Accepted", f"<sip:c@{CARRIER}>"), source)
            if not self.notified[call]:
                self.refers[call] += 1
                if number != "1" or headers(text, "Contact") != [f"<sip:bot@{PLATFORM}>"]:
                    problems.append(f"{call}: REFER has CSeq {number}, Contact {headers(text, 'Contact')}")
                self.notify(call, "100 Trying")
        elif method == "BYE":
            self.send(reply(text, "200 OK"), source)
            self.ended.add(call)


posted = queue.Queue()


class Hooks(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        posted.put((self.path, self.headers["webhook-id"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def wait(what, done, limit=60):
    deadline = time.monotonic() + limit
    while not done():
        if time.monotonic() > deadline or problems:
            sys.exit(f"{what}: not in time; {problems[:5]}")
        time.sleep(0.02)


calls = [f"{i:05}@thousand" for i in range(N)]
threading.Thread(target=Server(HOOKS, Hooks).serve_forever, daemon=True).start()
platform, carrier = Platform(), Carrier()
platform.start()
carrier.start()
for i, call in enumerate(calls):
    carrier.invite(call)
    if i % 20 == 0:
        time.sleep(0.01)
wait("answers", lambda: len(carrier.answered) == N)

transfers, todo = {}, queue.Queue()
for call in calls:
    todo.put(call)


def ask():
    connection = http.client.HTTPConnection(*REST)
    while True:
        try:
            call = todo.get_nowait()
        except queue.Empty:
            return
        verb = {"verb": "sip:refer", "referTo": "+49" + re.sub(r"\D", "", call), "id": call, "actionHook": "/action",
                "eventHook": "/event"}
        connection.request("POST", f"/v1/calls/{call.replace('@', '%40')}/verbs", json.dumps(verb),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        if answer.status != 202:
            problems.append(f"{call}: {answer.status} {body}")
        else:
            transfers[call] = body["transfer"]


askers = [threading.Thread(target=ask) for _ in range(16)]
for asker in askers:
    asker.start()
for asker in askers:
    asker.join()
wait("BYE on both legs", lambda: len(carrier.ended) == N and len(platform.ended) == N)
got, ids = collections.defaultdict(list), set()
deadline = time.monotonic() + 30
while sum(path == "/action" for hooks in got.values() for path, _ in hooks) < N and time.monotonic() < deadline:
    try:
        path, identity, body = posted.get(timeout=1)
    except queue.Empty:
        continue
    if identity in ids:
        problems.append(f"webhook-id {identity} twice")
    ids.add(identity)
    got[body["verb_id"]].append((path, body))
for call in calls:
    paths = [path for path, _ in got[call]]
    statuses = [body["call_status"] for path, body in got[call] if path == "/event"]
    last = got[call][-1][1] if got[call] else {}
    if paths != ["/event"] * 3 + ["/action"] or statuses != carrier.notified[call] or carrier.refers[call] != 1:
        problems.append(f"{call}: hooks {paths} {statuses}, NOTIFYs {carrier.notified[call]}, REFERs {carrier.refers[call]}")
    elif (last["refer_result"], last["refer_cause"], last["final_referred_call_status"], last["trace_id"], last["missed"]) != (
            "success", "notify_final", 200, transfers[call], 0):
        problems.append(f"{call}: {last}")
if problems:
    sys.exit("\n".join(problems[:10]) + f"\n{len(problems)} problems")
print(f"{N} simultaneous transfers: {3 * N} events and {N} actions, each where it belongs")
